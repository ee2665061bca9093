"""The columns of the benchmark of the codec."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import tables

Row = dict[str, Any]

NAMES = ("family", "bits", "size")
ERRORS = ("bits per coordinate", "error", "QSGD error / error")
RATIOS = {
    "encode / x+1": ("encode", "x+1"),
    "encode / copy": ("encode", "copy"),
    "encode / uniform": ("encode", "uniform encode"),
    "average / uniform": ("average", "uniform average"),
    "together / encode": ("together", "encode"),
    "decode / floor": ("decode", "decode floor"),
    "average / floor": ("average", "average floor"),
    "middle / floor": ("middle", "middle floor"),
    "random.uniform / x+1": ("random.uniform", "x+1"),
    "NumPy QSGD / encode": ("NumPy QSGD", "encode"),
    "PyTorch QSGD / encode": ("PyTorch QSGD", "encode"),
}
BEST = ", best"
CALLS = tuple(dict.fromkeys(name for pair in RATIOS.values() for name in pair))


def columns(seconds: Mapping[str, np.ndarray], size: int) -> Row:
    """What is printed of the seconds of each call; "" for calls that there are not."""
    medians = {name: float(np.median(x)) for name, x in seconds.items()}
    minima = {name: float(np.min(x)) for name, x in seconds.items()}
    row: Row = {}
    for name in CALLS:
        row[f"{name} ms"] = 1e3 * medians[name] if name in medians else ""
    for ending, values in (("", medians), (BEST, minima)):
        for name, (above, below) in RATIOS.items():
            there = above in values and below in values
            row[name + ending] = values[above] / values[below] if there else ""
        row["encode GB/s" + ending] = 4e-9 * size / values["encode"]
    return row


def show(rows: list[Row]) -> None:
    """Prints the columns of milliseconds, of medians' ratios and of minima's."""
    found = list(columns({"encode": np.ones(1)}, 1))  # others are for the CSV
    ms = [name for name in found if name.endswith(" ms")]
    best = [name for name in found if name.endswith(BEST)]
    ratios = [name for name in found if name not in (*ms, *best)]
    print("\nof one rounding of a normal vector")
    tables.print_table(
        [{name: row[name] for name in (*NAMES, *ERRORS)} for row in rows]
    )
    for title, kept in (
        ("milliseconds, medians", ms),
        ("ratios of medians", ratios),
        ("ratios of minima", best),
    ):
        print(f"\n{title}")
        drawn = {name: name.removesuffix(BEST).removesuffix(" ms") for name in kept}
        tables.print_table(
            [
                {name: row[name] for name in NAMES}
                | {short: row[name] for name, short in drawn.items()}
                for row in rows
            ]
        )
