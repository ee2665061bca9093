"""Runs an example, and writes what it prints and the curves that it returns.

python -m experiments.examples matrix_game --output=FOLDER
"""

import contextlib
import importlib
import io
import pathlib
import sys

from absl import app, flags

from experiments.common import figures

OUTPUT = flags.DEFINE_string("output", "runs/examples", "the folder that is written to")


def drawn(curves: tuple, path: pathlib.Path) -> None:
    """Draws (label of x, label of y, {name: (xs, ys)}), y in decades where they are."""
    x, y, lines = curves
    figure = figures.new_figure(6.5, 3.4)
    axes = figure.subplots()
    for place, (name, (xs, ys)) in enumerate(lines.items()):
        figures.draw_line(axes, xs, ys, place, name)
    values = [float(value) for _, ys in lines.values() for value in ys]
    if min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
    axes.set(xlabel=x, ylabel=y)
    if len(lines) > 1:
        axes.legend(frameon=False)
    figures.save_figure(figure, path)


def main(arguments: list[str]) -> None:
    """Runs it."""
    if len(arguments) != 2:
        raise app.UsageError("the name of one example, for instance matrix_game")
    name = arguments[1]
    folder = pathlib.Path(OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    sys.argv = sys.argv[:1]  # an example reads its own
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        curves = importlib.import_module(f"experiments.examples.{name}").main()
    if curves is not None:
        drawn(curves, folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(printed.getvalue())
    print(printed.getvalue(), end="")


if __name__ == "__main__":
    app.run(main)
