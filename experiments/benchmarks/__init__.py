"""Benchmarks: each a command that prints a table of ratios measured in one run."""
