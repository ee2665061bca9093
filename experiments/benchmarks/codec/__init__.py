"""The codec beside floors and peers, as a whole and in stages.

`python -m experiments.benchmarks.codec` times what `calls` makes, in the columns of
`table`. `python -m experiments.benchmarks.codec.profile` times programs of `stages`,
each of which does a thing more than the one before; `profile_table` has their columns
and the figure.
"""
