"""What a run leaves behind: CSV rows, a progress line, picture grids and curves.

Pillow and matplotlib (its Agg backend: no display) are imported where they are used.
"""

from __future__ import annotations

import contextlib
import csv
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from experiments.cifar10_gan.pictures import to_bytes

PathLike = str | os.PathLike[str]
Row = Mapping[str, Any]
Run = PathLike | Sequence[Row]
"""A run's rows, or the CSV file that holds them."""

CURVES: Mapping[str, str] = {
    "loss_generator": "generator loss",
    "loss_discriminator": "discriminator loss",
    "wasserstein": "mean D(x) − mean D(G(z))",
    "penalty": "gradient penalty",
    "score": "sliced Wasserstein distance",
    "score_ema": "the same, averaged weights",
    "bytes": "bytes sent per worker",
}
"""Columns that `plot_curves` knows, and the labels of their axes."""


class CsvWriter:
    """Appends rows to a CSV file with fixed columns, on disk after every row.

    The header is written once, into a new or empty file; a file that exists must have
    this header. A row may lack columns (empty cells) but not have others. Also a
    context manager.
    """

    def __init__(self, path: PathLike, columns: Sequence[str]) -> None:
        """Opens the file and its folder.

        Raises:
          ValueError: if columns are empty or repeat, or differ from the file's header.
        """
        self._columns = list(columns)
        if not self._columns or len(set(self._columns)) != len(self._columns):
            raise ValueError(
                f"columns must be distinct and not empty, got {self._columns}; name "
                "each once"
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        header = None
        if path.exists():
            with path.open(newline="") as file:
                header = next(csv.reader(file), None)
        if header is not None and header != self._columns:
            raise ValueError(
                f"columns must be those of the existing file {str(path)!r}, {header}, "
                f"got {self._columns}; write to another file"
            )
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        if header is None:
            self._writer.writerow(self._columns)
            self._file.flush()

    def write(self, row: Row) -> None:
        """Appends one row; values are written as ``str`` gives them.

        Raises:
          ValueError: if the row has an unknown column.
        """
        unknown = [name for name in row if name not in self._columns]
        if unknown:
            raise ValueError(
                f"row must only have columns {self._columns}, got also {unknown}; name "
                "them when the writer is made"
            )
        self._writer.writerow([row.get(name, "") for name in self._columns])
        self._file.flush()

    def close(self) -> None:
        """Closes the file; closing twice is fine."""
        self._file.close()

    def __enter__(self) -> CsvWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Progress:
    """One line on how far a run is: iteration, percent, rate, time left and values.

    On a terminal the line is rewritten in place; elsewhere (a log file) each is a line
    of its own. The rate is that since the last line, so a slow start does not linger.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        every_seconds: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
          total: iterations of the whole run.
          start: iterations done before, in a run that resumes.
          every_seconds: least time between lines; the last iteration always prints.
          stream: None is standard error.
          clock: seconds, never going back.

        Raises:
          ValueError: if total is below 1 or every_seconds negative.
        """
        if total < 1:
            raise ValueError(f"total must be at least 1, got {total}; pass the count")
        if not every_seconds >= 0:
            raise ValueError(
                f"every_seconds must be at least 0, got {every_seconds}; pass 0 for "
                "a line each iteration"
            )
        self._total = total
        self._every = every_seconds
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._done = start
        self._then = clock()
        self._width = 0

    def update(self, iteration: int, **values: float) -> bool:
        """Prints if it is time to; `iteration` counts finished ones, from 1.

        Reading a value waits for the device, so pass what is on the host, or call this
        only now and then. Returns whether it printed.
        """
        now = self._clock()
        last = iteration >= self._total
        if now - self._then < self._every and not last:
            return False
        seconds = max(now - self._then, 1e-9)
        rate = (iteration - self._done) / seconds
        left = (self._total - iteration) / rate if rate > 0 else float("inf")
        line = (
            f"{iteration}/{self._total} ({100 * iteration / self._total:.1f} %) "
            f"{rate:.2f} it/s, {_duration(left)} left"
        )
        line += "".join(f", {name} {value:.4g}" for name, value in values.items())
        if self._stream.isatty():
            # Blanks cover what a longer line before left behind.
            end = "\n" if last else ""
            self._stream.write("\r" + line.ljust(self._width) + end)
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
        self._done, self._then = iteration, now
        return True


def sample_grid(
    pictures: np.ndarray, path: PathLike, *, columns: int | None = None, scale: int = 2
) -> None:
    """Writes pictures as one PNG, row by row, with a black pixel between them.

    Args:
      pictures: (n, h, w, 3), uint8 or floats in [-1, 1] (clamped).
      path: of the PNG; its folder is made.
      columns: pictures in a row; None makes the grid about square.
      scale: each pixel becomes scale x scale.

    Raises:
      ValueError: for another shape, no pictures, values that are not finite, or columns
        or scale below 1.
    """
    from PIL import Image

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
    grid = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(path, format="PNG")


def plot_curves(
    runs: Mapping[str, Run],
    path: PathLike,
    *,
    x: str = "iteration",
    curves: Mapping[str, str] = CURVES,
) -> None:
    """Draws runs over each other, a panel for each column that a run has.

    Args:
      runs: label to a CSV file or to rows; cells that are empty are skipped.
      path: of the figure, its suffix the format; its folder is made.
      x: the column of the horizontal axis.
      curves: column to the label of its axis, with the unit.

    Raises:
      ValueError: if there is no run, a run lacks x, or none has a column to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tables = {label: _read(run) for label, run in runs.items()}
    for label, rows in tables.items():
        if not any(x in row for row in rows):
            raise ValueError(
                f"runs must have a column {x!r}, got {label!r} with "
                f"{sorted({name for row in rows for name in row})}; name another x"
            )
    used = {column for rows in tables.values() for row in rows for column in row}
    panels = [name for name in curves if name in used and name != x]
    if not panels:
        raise ValueError(
            f"runs must have one of the columns {list(curves)}, got {sorted(used)}; "
            "pass curves to draw others"
        )
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(5.5 * across, 3.2 * down), layout="constrained")
    FigureCanvasAgg(figure)
    for index, name in enumerate(panels):
        axes = figure.add_subplot(down, across, index + 1)
        for label, rows in tables.items():
            points = [(row[x], row[name]) for row in rows if name in row and x in row]
            if points:
                # A single point shows only with a marker.
                marker = "o" if len(points) < 20 else None
                axes.plot(*zip(*points, strict=True), marker=marker, label=label)
        axes.set_xlabel(x)
        axes.set_ylabel(curves[name])
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def read_rows(path: PathLike) -> list[dict[str, str]]:
    """The rows of a CSV file as it stands, cells as text."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def _read(run: Run) -> list[dict[str, float]]:
    """Rows with the cells that are numbers, and only those."""
    rows = read_rows(run) if isinstance(run, str | os.PathLike) else run
    numbers: list[dict[str, float]] = []
    for row in rows:
        numbers.append({})
        for name, cell in row.items():
            with contextlib.suppress(TypeError, ValueError):
                numbers[-1][name] = float(cell)
    return numbers


def _duration(seconds: float) -> str:
    """As 1:02:03, or a dash where the rate does not tell."""
    if not np.isfinite(seconds):
        return "-"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
