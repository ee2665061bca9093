"""Columns and figure of the profile of the codec."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.codec.stages import DECODER, ENCODER
from experiments.common import figures, tables

Row = dict[str, Any]

NAMES = ("family", "bits", "size", "bucket", "payloads")
# what a program does more than the one before; the others are not stages
BEFORE = {
    **dict(zip(ENCODER[1:], ENCODER, strict=False)),
    "middle": "encode",
    "decode": "unpack",
    "average": "decode",
}
OF_DECODE = ("decode floor", "unpack", "decode", "average floor", "average")
# a figure's parts: of which bar, and what it is called
ENCODE_PARTS = {
    "measure": "measure",
    "+ rounding": "rounding",
    "+ hash": "hash",
    "+ packing": "packing",
    "encode": "records",
}
DECODE_PARTS = {"unpack": "unpack", "decode": "values"}


def columns(
    seconds: Mapping[str, np.ndarray], facts: Mapping[str, Row], size: int
) -> list[Row]:
    """The rows of a quantizer, one for each program.

    Args:
        seconds: of each program's rounds; all programs of `stages.programs`.
        facts: of each program, of `facts_of`.
        size: coordinates.
    """
    medians = {name: float(np.median(x)) for name, x in seconds.items()}
    found = []
    for name, median in medians.items():
        whole = "decode" if name in OF_DECODE else "encode"
        before = BEFORE.get(name)
        adds = "" if before is None else 1e3 * (median - medians[before])
        if name in (ENCODER[0], DECODER[0]):
            adds = 1e3 * median
        fact = facts[name]
        found.append(
            {
                "program": name,
                "ms": 1e3 * median,
                "ms, best": 1e3 * float(np.min(seconds[name])),
                "adds ms": adds,
                "ns / coordinate": 1e9 * median / size,
                "of whole": median / medians[whole],
                "GB/s": 1e-9 * fact["moved"] / median,
                "/ x+1": median / medians["x+1"],
                "/ x+1, best": float(np.min(seconds[name]) / np.min(seconds["x+1"])),
                "flops": _each(fact["flops"], size),
                "bytes moved": fact["moved"] / size,
                "bytes accessed": _each(fact["accessed"], size),
            }
        )
    return found


def _each(count: float | None, size: int) -> float | str:
    """Per coordinate; "" where a compiler does not tell."""
    return "" if count is None else count / size


def facts_of(compiled: Any) -> Row:
    """What the compiler says of a program.

    Returns:
        ``moved``, bytes of arguments and results; ``flops`` and ``accessed``, as XLA's
        analysis of costs counts them, None where it does not.
    """
    memory = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    return {
        "moved": memory.argument_size_in_bytes + memory.output_size_in_bytes,
        "flops": cost.get("flops"),
        "accessed": cost.get("bytes accessed"),
    }


def show(rows: Sequence[Row]) -> None:
    """Prints the rows of a quantizer."""
    tables.print_table(
        [{name: x for name, x in row.items() if name not in NAMES} for row in rows]
    )


def parts(ms: Mapping[str, float], stages: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds of each stage, which add up to those of the last one.

    A stage that takes less time than one before it, since it stores less, counts
    nothing, and the earlier one what was left of it.

    Args:
        ms: of each program.
        stages: programs, each of which does what the one before it does, and names.
    """
    times = [ms[name] for name in stages]
    upto = np.minimum.accumulate(times[::-1])[::-1]
    return dict(zip(stages.values(), np.diff(upto, prepend=0).tolist(), strict=True))


def draw(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Draws the encoder and the decoder of each quantizer, stages stacked."""
    groups: dict[tuple, dict[str, float]] = {}
    for row in rows:
        group = tuple(row[name] for name in NAMES)
        groups.setdefault(group, {})[row["program"]] = row["ms"]
    panels = (
        ("encode", ENCODE_PARTS, ("x+1", "row sums"), ("middle floor", "middle")),
        ("decode", DECODE_PARTS, ("decode floor",), ("average floor", "average")),
    )
    varies = [name for i, name in enumerate(NAMES) if len({g[i] for g in groups}) > 1]
    figure = figures.new_figure(11 + 1.5 * len(groups), 4)
    both = figure.subplots(1, 2, squeeze=False)[0]
    for axes, (whole, stages, left, right) in zip(both, panels, strict=True):
        bars = (*left, whole, *right)
        ticks, labels = [], []
        for number, (group, ms) in enumerate(groups.items()):
            start = number * (len(bars) + 1)
            for place, name in enumerate(bars, start):
                if name == whole:
                    bottom = 0.0
                    for i, (part, height) in enumerate(parts(ms, stages).items()):
                        label = part if not number else None
                        axes.bar(place, height, 0.8, bottom, color=f"C{i}", label=label)
                        bottom += height
                else:
                    axes.bar(place, ms[name], 0.8, color="0.7")
                ticks.append(place)
                labels.append(name)
            shown = [
                f"{x} bits" if name == "bits" else str(x)
                for name, x in zip(NAMES, group, strict=True)
                if name in ("family", "bits") or name in varies
            ]
            middle = start + (len(bars) - 1) / 2
            axes.annotate(
                ", ".join(shown),
                (middle, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
        axes.set_xticks(ticks, labels, rotation=90, fontsize="small")
        axes.set(ylabel="ms, medians")
        axes.grid(alpha=0.3, axis="y")
        axes.set_axisbelow(True)
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], names[::-1], fontsize="small")  # as they are stacked
    figures.save_figure(figure, path)
