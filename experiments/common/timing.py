"""Timing of compiled functions side by side."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def seconds_side_by_side(
    functions: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, float]:
    """Median seconds of each function in `rounds_side_by_side`; same arguments."""
    rounds = rounds_side_by_side(functions, repeats)
    return {name: float(np.median(values)) for name, values in rounds.items()}


def rounds_side_by_side(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    *,
    budget: float = math.inf,
    least: float = 0.0,
    warm: bool = False,
    before: Callable[[], Any] | None = None,
) -> dict[str, np.ndarray]:
    """Seconds of each function, called in turn, round after round: (repeats,) each.

    In turn, so that a machine whose speed drifts slows all of them alike. Each is
    called before, to compile and to warm up.

    Args:
        functions: by name; each returns arrays, which are waited for.
        repeats: rounds, at least 1.
        budget: seconds; a function that has taken as many in all is left out of the
            rounds that follow, and has fewer.
        least: seconds; in a round a short function is called as often as fills them,
            and the mean counts, for clocks disturb short calls.
        warm: each function is called once, untimed, before it is timed in a round: what
            ran before it has left other data in caches, and memory to be mapped anew.
        before: called before each timing, not timed, for instance a barrier. With it,
            and neither budget nor least, processes make the same calls in step.

    Raises:
        ValueError: if repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}; 15 is usual")

    def seconds_of(function: Callable[[], Any], calls: int = 1) -> float:
        if warm:
            jax.block_until_ready(function())
        if before is not None:
            jax.block_until_ready(before())
        start = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(function())
        return (time.perf_counter() - start) / calls

    for function in functions.values():
        seconds_of(function)
    calls = dict.fromkeys(functions, 1)
    if least:
        for name, function in functions.items():
            calls[name] = max(1, math.ceil(least / seconds_of(function)))
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            if not taken[name] or calls[name] * sum(taken[name]) < budget:
                taken[name].append(seconds_of(function, calls[name]))
    return {name: np.array(values) for name, values in taken.items()}


def keep_to_cores(count: int) -> int:
    """Keeps the process to `count` cores, all if 0, and returns their number.

    Before JAX's first computation, which starts as many threads as there are cores.

    Raises:
        ValueError: if there are fewer cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 0 <= count <= len(cores):
        raise ValueError(
            f"threads must be at most the {len(cores)} cores, got {count}; 0 is all"
        )
    kept = cores[: count or len(cores)]
    os.sched_setaffinity(0, kept)
    return len(kept)
