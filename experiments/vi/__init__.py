"""The VI laboratory: what the paper claims of rates, workers and bits, checked.

- `golden`: the adaptive golden ratio algorithm, a baseline
- `methods`: what is compared, by name
- `games`: the problems of many seeds side by side
- `scan`: all iterations, workers and seeds in one compiled program
- `fits`: slopes on log-log axes, and how sure they are
- `claims`: a number that the theory gives beside the one that was measured
- `by_hand`: Q-GenX once more, in NumPy, from the formulas
- `lab`: what every figure is given
- `figures`: a file for each
- `report`: one HTML file of a run
- `__main__`: `python -m experiments.vi`
"""
