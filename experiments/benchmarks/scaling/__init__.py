"""Which strategy when: a cost model, fitted and taken further.

`python -m experiments.benchmarks.scaling` reads what the benchmark `network` measured,
fits the unknowns of a link to it (`fit`), and projects exchanges of other sizes, rates
and numbers of workers (`projection`).
"""
