"""Pictures of a run: grids of samples, and curves of its metrics.

Pillow and matplotlib (its Agg backend: no display) are imported where they are used.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cifar10_gan.data.pictures import to_bytes
from experiments.common import figures
from experiments.common.tables import PathLike, Row, read_csv

Table = Mapping[str, Mapping[int, float]]
"""Column to iteration to value; cells that are empty or not finite are left out."""


class Panel(NamedTuple):
    """Columns that share a vertical axis.

    Attributes:
        label: of the axis.
        lines: column to its label, "" for a line that needs none.
        log: whether the axis is logarithmic.
    """

    label: str
    lines: Mapping[str, str]
    log: bool = False


EXACT_BYTES = "exact bytes"
"""The column that `plot_curves` adds for its `exact_bytes`."""

PANELS = (
    Panel(
        "loss",
        {
            "loss_generator": "generator",
            "loss_discriminator": "discriminator",
            "wasserstein": "D(x) − D(G(z))",
        },
    ),
    Panel("gradient penalty", {"penalty": ""}, log=True),
    Panel(
        "sliced Wasserstein distance",
        {
            "score": "raw",
            "score_average": "average",
            "score_ema": "moving average",
        },
    ),
    Panel(
        "Frechet (EfficientNet-Lite0)",
        {
            "frechet": "raw",
            "frechet_average": "average",
            "frechet_ema": "moving average",
        },
        log=True,
    ),
    Panel(
        "norm",
        {
            "vector_norm_generator": "dual vector of G",
            "vector_norm_discriminator": "dual vector of D",
            "param_norm_generator": "weights of G",
            "param_norm_discriminator": "weights of D",
        },
        log=True,
    ),
    Panel(
        "relative quantization error",
        {
            "quantization_error": "of a worker",
            "predicted_error": "predicted",
            "mean_error": "of the mean",
        },
    ),
    Panel("sent per worker", {"bytes": "this run", EXACT_BYTES: "an exact run"}),
)
"""What `plot_curves` draws of a run; the other columns are for the CSV's readers."""


def picture_grid(
    pictures: np.ndarray, *, columns: int | None = None, scale: int = 2
) -> np.ndarray:
    """Pictures as one, row by row, with a black pixel between them.

    Args:
        pictures: (n, h, w, 3), uint8 or floats in [-1, 1] (clamped).
        columns: pictures in a row; None makes the grid about square.
        scale: each pixel becomes scale x scale.

    Returns:
        The grid, (height, width, 3) uint8.

    Raises:
        ValueError: for another shape, no pictures, values that are not finite, or
            columns or scale below 1.
    """
    pictures = np.asarray(pictures)
    if pictures.ndim != 4 or pictures.shape[3] != 3 or len(pictures) == 0:
        raise ValueError(
            f"pictures must have shape (n, h, w, 3) with n > 0, got {pictures.shape}; "
            "flatten the workers' axis first"
        )
    n, h, w, _ = pictures.shape
    columns = int(np.ceil(np.sqrt(n))) if columns is None else columns
    if columns < 1 or scale < 1:
        raise ValueError(
            f"columns and scale must be at least 1, got {columns} and {scale}; leave "
            "them out"
        )
    pixels = pictures if pictures.dtype == np.uint8 else to_bytes(pictures)
    rows = -(-n // columns)
    grid = np.zeros((rows * (h + 1) - 1, columns * (w + 1) - 1, 3), np.uint8)
    for index, picture in enumerate(pixels):
        top, left = index // columns * (h + 1), index % columns * (w + 1)
        grid[top : top + h, left : left + w] = picture
    return grid.repeat(scale, axis=0).repeat(scale, axis=1)


def sample_grid(
    pictures: np.ndarray, path: PathLike, *, columns: int | None = None, scale: int = 2
) -> np.ndarray:
    """Writes the `picture_grid` as a PNG, whose folder is made, and returns it."""
    from PIL import Image

    grid = picture_grid(pictures, columns=columns, scale=scale)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(path, format="PNG")
    return grid


def plot_curves(
    run: PathLike | Sequence[Row],
    path: PathLike,
    *,
    title: str = "",
    panels: Sequence[Panel] = PANELS,
    exact_bytes: float = 0,
) -> None:
    """Draws a run's metrics over its iterations, a panel for each with a column there.

    Where there are more than `MOST_POINTS` neighbours are averaged.

    Args:
        run: a CSV file or rows.
        path: of the figure, its suffix the format; its folder is made.
        title: above the figure.
        panels: what to draw.
        exact_bytes: that an exact run sends per iteration, drawn beside the bytes; 0
            for none.

    Raises:
        ValueError: if the run has no iterations or none of the columns.
    """
    table = read_table(run)
    if exact_bytes and "bytes" in table:
        table[EXACT_BYTES] = {i: i * exact_bytes for i in table["bytes"]}
    drawn = [panel for panel in panels if any(name in table for name in panel.lines)]
    if not drawn:
        wanted = [name for panel in panels for name in panel.lines]
        raise ValueError(
            f"run must have one of the columns {wanted}, got {sorted(table)}; pass "
            "panels to draw others"
        )
    across = {1: 1, 2: 2, 4: 2}.get(len(drawn), 3)
    down = -(-len(drawn) // across)
    last = max(max(column) for column in table.values())
    per, horizontal = figures.with_unit("iteration", "iteration", last)
    figure = figures.new_figure(3.9 * across, 2.7 * down + 0.3)
    figure.suptitle(title, fontsize="medium")
    for index, panel in enumerate(drawn):
        axes = figure.add_subplot(down, across, index + 1)
        present = [name for name in panel.lines if name in table]
        factor, label = 1.0, panel.label
        if "bytes" in present:
            largest = max(max(table[name].values()) for name in present)
            factor, label = figures.with_unit(label, "bytes", largest)
        for place, name in enumerate(present):
            x, y = figures.thinned(list(table[name]), list(table[name].values()))
            figures.draw_line(axes, x / per, y / factor, place, panel.lines[name])
        # Zeros and negative values have no place on a logarithmic axis.
        if panel.log and all(min(table[name].values()) > 0 for name in present):
            axes.set_yscale("log")
        axes.set_ylabel(label)
        axes.set_xlabel(horizontal)
        if any(panel.lines[name] for name in present):
            figures.legend_above(axes, columns=2 if len(present) == 4 else 3)
    figures.save_figure(figure, path)


def read_table(run: PathLike | Sequence[Row]) -> dict[str, dict[int, float]]:
    """The numbers of a run by column and iteration; of equal iterations the last wins.

    Raises:
        ValueError: if a row has no iteration.
    """
    rows = read_csv(run) if isinstance(run, str | os.PathLike) else run
    table: dict[str, dict[int, float]] = {}
    for row in rows:
        iteration = _number(row.get("iteration"))
        if iteration is None:
            raise ValueError(f"rows must have an iteration, got {dict(row)}; add it")
        for name, cell in row.items():
            value = _number(cell)
            if name != "iteration" and value is not None:
                table.setdefault(name, {})[int(iteration)] = value
    return table


def _number(cell: Any) -> float | None:
    """A finite number, or None."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
