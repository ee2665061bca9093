"""A battery of statistical tests of the bits that decide roundings; see `__main__`.

`draws` has the library's source of bits and what is drawn of it; `streams`, `avalanche`
and `k_slope` test that, and `deviates` turns each statistic into the normal deviate
that is as unlikely.
"""
