"""Levels that an exchange fits, over iterations: a CSV file, and a figure."""

import pathlib
from typing import Any

import numpy as np

from experiments.cifar10_gan.methods import exchange_state
from experiments.cifar10_gan.run import Run
from experiments.common import figures
from experiments.common.tables import CsvWriter, read_csv

COLUMNS = ("iteration", "group", "exchanges", "predicted", "levels")


class LevelsLog:
    """A row whenever a group's levels have changed; no file where none are fitted."""

    def __init__(self, path: pathlib.Path, *, resume_at: int | None) -> None:
        """Goes on with the file, without rows after `resume_at` (-1: any)."""
        self._path = path
        self._resume_at = resume_at
        self._writer: CsvWriter | None = None
        self._last: dict[str, np.ndarray] = {}

    def record(self, run: Run) -> None:
        """Looks at the state of an iteration that is logged."""
        state = exchange_state(run.training.state)
        if state.adaptation is None:
            return
        if self._writer is None:
            self._writer = CsvWriter(self._path, COLUMNS, resume_at=self._resume_at)
            for row in read_csv(self._path):  # of the run that is resumed
                table = [float(level) for level in row["levels"].split()]
                self._last[row["group"]] = np.asarray(table, np.float32)
        known = state.adaptation
        for group, error in known.predicted.items():
            table = _local(state.levels[group])
            if group in self._last and np.array_equal(table, self._last[group]):
                continue
            self._last[group] = table
            self._writer.write(
                {
                    "iteration": run.iteration,
                    "group": group,
                    "exchanges": int(_local(known.count)),
                    "predicted": float(_local(error)),
                    "levels": " ".join(f"{level:.9g}" for level in table),
                }
            )

    def __enter__(self) -> "LevelsLog":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()


def _local(x: Any) -> np.ndarray:
    return np.asarray(x.addressable_data(0))


def plot_levels(path: pathlib.Path, figure_path: pathlib.Path) -> None:
    """Draws what a `LevelsLog` wrote: levels over iterations, a panel a group."""
    rows = read_csv(path)
    groups = list(dict.fromkeys(row["group"] for row in rows))
    figure = figures.new_figure(4.5 * len(groups), 3.5)
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        mine = [row for row in rows if row["group"] == group]
        times = [int(row["iteration"]) for row in mine]
        tables = [[float(x) for x in row["levels"].split()] for row in mine]
        for column in range(max(map(len, tables))):
            points = [
                (t, table[column])
                for t, table in zip(times, tables, strict=True)
                if column < len(table)
            ]
            axes.plot(*zip(*points, strict=True), "o-", ms=3, color="C0", lw=1)
        axes.set(xlabel="iteration", ylabel="level", title=group)
        axes.grid(alpha=0.3)
    figures.save_figure(figure, figure_path)
