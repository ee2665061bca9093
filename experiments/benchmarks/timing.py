"""Timing of compiled functions side by side."""

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
    functions: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, np.ndarray]:
    """Seconds of each function, called in turn, round after round: (repeats,) each.

    In turn, so that a machine whose speed drifts slows all of them alike. Each is
    called once before, to compile.

    Args:
        functions: by name; each returns arrays, which are waited for.
        repeats: rounds, at least 1.

    Raises:
        ValueError: if repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}; 15 is usual")
    for function in functions.values():
        jax.block_until_ready(function())
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            taken[name].append(time.perf_counter() - start)
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
