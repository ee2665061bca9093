"""Benchmarks: each a command that prints a table of ratios measured in one run.

`codec`, `exchange`, `network` and `scaling` are packages, in this order from the inside
out: encoding and decoding alone, exchanges without a network, exchanges over limited
links, and a cost model fitted to these. `compile` is what steps cost before they run,
`refresh` what levels that adapt cost. `training_step` times a half-step of the GAN.
`peers` holds what others would write, in NumPy and PyTorch; `results` the tables and
figures that are cited.
"""
