"""Figures by matplotlib, on its Agg backend, which needs no display.

matplotlib is imported where a figure is made.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.tables import PathLike, Row

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, told apart with any colour vision."""
MOST_POINTS = 250
"""That a line has; of more, neighbours are averaged."""

_UNITS = {
    "seconds": (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1)),
    "iteration": (("millions", 1e6), ("thousands", 1e3), ("", 1)),
    "bytes": (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1)),
}


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: PathLike) -> None:
    """Writes the figure; its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def draw_line(axes: Any, x: Any, y: Any, place: int, label: str) -> None:
    """One curve, of the colour (from the eighth on dashes) that its place has."""
    axes.plot(
        x,
        y,
        color=color_of(place),
        linestyle=("-", "--", ":")[place // len(COLORS) % 3],
        linewidth=1.2,
        # A single point shows only so.
        marker="o" if len(x) == 1 else None,
        markersize=4,
        label=label or None,
    )
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def color_of(place: int) -> str:
    """Of a place in the legend."""
    return COLORS[place % len(COLORS)]


def legend_above(axes: Any, *, columns: int) -> None:
    """A legend between title and panel, where it covers no curve."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.98),
        ncols=columns,
        fontsize="x-small",
        frameon=False,
        handlelength=1.5,
        columnspacing=1.2,
    )


def thinned(*series: Sequence[float]) -> list[np.ndarray]:
    """Series of equal length, with neighbours averaged to at most MOST_POINTS."""
    length = len(series[0])
    parts = -(-length // max(1, -(-length // MOST_POINTS)))
    starts = np.arange(parts) * -(-length // max(parts, 1))
    return [
        np.array([part.mean() for part in np.split(np.asarray(s, float), starts[1:])])
        for s in series
    ]


def with_unit(label: str, column: str, largest: float) -> tuple[float, str]:
    """The unit that suits values up to `largest`: the divisor, and the label with it.

    Columns without a unit keep their label.
    """
    for unit, size in _UNITS.get(column, ()):
        if largest >= 10 * size or size == 1:
            return size, f"{label} ({unit})" if unit else label
    return 1.0, label


def write_figure(
    rows: Sequence[Row],
    path: PathLike,
    *,
    x: str,
    y: Sequence[str],
    by: Sequence[str],
    log: str = "xy",
) -> None:
    """Draws one panel for each column of `y` over `x`, a line for each value of `by`.

    Args:
        rows: of the table; cells of `x` and `y` that are None or "" are left out.
        path: of the figure; its folder is made.
        x: the column of the horizontal axis.
        y: the columns drawn.
        by: the columns that tell lines apart, and name them.
        log: the logarithmic axes.

    Raises:
        KeyError: if the rows have no such column.
    """
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(", ".join(str(row[name]) for name in by), []).append(row)
    is_crowded = len(lines) > 8  # for a legend within the panels
    legends = -(-len(lines) // 20) if is_crowded else 0
    figure = new_figure(5.5 * len(y) + 3 * legends, 4)
    panels = figure.subplots(1, len(y), squeeze=False)[0]
    for axes, column in zip(panels, y, strict=True):
        for number, (name, of_line) in enumerate(lines.items()):
            color, style = f"C{number % 10}", ("-", "--", ":", "-.")[number // 10 % 4]
            points = [
                (float(row[x]), float(row[column]))
                for row in of_line
                if row[x] not in (None, "") and row[column] not in (None, "")
            ]
            if points:
                xs, ys = zip(*sorted(points), strict=True)
                axes.plot(xs, ys, style, color=color, marker="o", ms=3, label=name)
        axes.set(xlabel=x, ylabel=column)
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        if not is_crowded:
            axes.legend(fontsize="small")
    if is_crowded:
        drawn = panels[0].get_legend_handles_labels()
        where = "outside right upper"
        figure.legend(*drawn, loc=where, ncols=legends, fontsize="small")
    save_figure(figure, path)
