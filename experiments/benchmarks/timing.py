"""Timing of compiled functions side by side, and tables of the results."""

import csv
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
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


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows of equal columns, aligned; floats with three digits."""

    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    columns = list(rows[0])
    cells = [columns, *([text(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)))


def write_csv(rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """Writes the rows, with a header; makes the folder."""
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
