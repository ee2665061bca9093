"""Tables of measurements: on the screen, as CSV, as a figure. A row is a mapping."""

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app

Row = Mapping[str, Any]


def output_folder(text: str, argv: Sequence[str] = ()) -> pathlib.Path | None:
    """The folder of --output, made, or None; to be called before anything is measured.

    Args:
        text: of the flag, "" for none.
        argv: what `app.run` hands on: the program, and whatever was no flag.

    Raises:
        app.UsageError: if it cannot be a folder, or there is more than flags.
    """
    if len(argv) > 1:
        raise app.UsageError(
            f"there are only flags, which begin with --, got {argv[1:]}"
        )
    if not text:
        return None
    folder = pathlib.Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise app.UsageError(
            f"--output must be a folder, or a name for one, got {text!r} "
            f"({error.strerror}); name another"
        ) from None
    return folder


def print_table(rows: Sequence[Row]) -> None:
    """Prints rows of equal columns, aligned; floats with three digits."""

    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    columns = list(rows[0])
    cells = [columns, *([text(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)))


def write_csv(rows: Sequence[Row], path: str | pathlib.Path) -> None:
    """Writes the rows, with a header; makes the folder."""
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: str | pathlib.Path) -> list[dict[str, str]]:
    """The rows of a file that `write_csv` wrote, as text."""
    with pathlib.Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_figure(
    rows: Sequence[Row],
    path: str | pathlib.Path,
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(", ".join(str(row[name]) for name in by), []).append(row)
    is_crowded = len(lines) > 8  # for a legend within the panels
    legends = -(-len(lines) // 20) if is_crowded else 0
    size = (5.5 * len(y) + 3 * legends, 4)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
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
    figure.savefig(file, dpi=120)
