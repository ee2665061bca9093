"""Exchanges and training over limited links between network namespaces.

`python -m experiments.benchmarks.network` makes `namespaces`, joins them by `links` and
starts `processes` in them: `worker` is ours, which runs exchanges and iterations of
`gan`; `torch_worker` comes after it. `measure` says what they run at each rate, and
`report` compares that with what the links allow.
"""
