"""Exchanges between workers of one machine, beside the exact one.

`python -m experiments.benchmarks.exchange` times what `calls` compiles, on simulated
devices in its own process, or in processes that run `worker` and write their seconds to
files; `table` makes rows of these.
"""
