"""The figure and its table, from what runs have left."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cifar10_gan.reporting.compare import draw_groups
from experiments.cifar10_gan.reporting.finished_runs import (
    FinishedRun,
    Group,
    common_iterations,
    get_positions,
    read_run,
    values_at,
)
from experiments.common import tables
from experiments.paper.methods import METHODS
from experiments.paper.runs import Planned

COLUMNS = ("frechet_ema", "frechet", "score_ema", "score")
"""That the figure draws, where runs have them."""
REACHED_AT = 0.8
"""Of its iterations: the exact exchange's score there is the one to be reached."""


def groups_of(runs: Sequence[Planned]) -> list[Group]:
    """The runs that have left anything, by method, in the order given."""
    members: dict[str, list[FinishedRun]] = {}
    for run in runs:
        if (run.workdir / "metrics.csv").is_file():
            members.setdefault(run.name, []).append(read_run(run.workdir))
    return [Group(METHODS[name].title, found) for name, found in members.items()]


def write(groups: Sequence[Group], column: str, folder: Path) -> list[dict[str, Any]]:
    """Draws figure1.png, writes figure1.csv, prints the table, and returns its rows.

    Args:
        groups: of runs; the first is what the others are compared with.
        column: of the score that is to be reached.
        folder: for the files.
    """
    draw_groups(groups, folder / "figure1.png", columns=COLUMNS)
    rows = summarize(groups, column)
    tables.write_csv(rows, folder / "figure1.csv")
    print(
        tables.markdown(
            [list(rows[0]), *([_text(v) for v in r.values()] for r in rows)]
        )
    )
    print(f"\nthe figure and this table are in {folder}")
    return rows


def summarize(groups: Sequence[Group], column: str) -> list[dict[str, Any]]:
    """A row for each group: its score, and what it took to a score.

    The score to be reached is that of the first group, the mean over its seeds, at
    `REACHED_AT` of its iterations: the last scored one before. Each run's seconds and
    bytes are those of the first scored iteration at which it is no worse; the mean over
    the seeds that come there, and how many do.
    """
    first = groups[0]
    scored = [
        i for i in common_iterations(first, column) if i <= REACHED_AT * first.end
    ]
    if not scored:
        raise ValueError(
            f"runs of {first.label!r} must have {column} at some iteration, got none; "
            "wait for their first scores"
        )
    target = float(np.mean(values_at(first, column, max(scored))))
    rows = []
    for group in groups:
        last = max(common_iterations(group, column), default=0)
        ends = values_at(group, column, last)
        row: dict[str, Any] = {"method": group.label, "seeds": group.seeds}
        row["iterations"] = last
        row[column] = float(np.mean(ends)) if ends else ""
        row["half spread"] = float(np.ptp(ends) / 2) if len(ends) > 1 else ""
        places = [first_at_most(run, column, target) for run in group.runs]
        row["to be reached"] = target
        row["seeds there"] = sum(place is not None for place in places)
        there = [
            (run, place)
            for run, place in zip(group.runs, places, strict=True)
            if place is not None
        ]
        row["iterations to it"] = _mean([float(place) for _, place in there])
        for x in ("seconds", "bytes"):
            known = [position(run, x, place) for run, place in there]
            row[f"{x} to it"] = _mean([value for value in known if value is not None])
        rows.append(row)
    for x in ("seconds", "bytes"):
        base = rows[0][f"{x} to it"]
        for row in rows:
            own = row[f"{x} to it"]
            row[f"{x} over {first.label}'s"] = own / base if own and base else ""
    return rows


def first_at_most(run: FinishedRun, column: str, target: float) -> int | None:
    """The first scored iteration at which a run's score is at most the target."""
    values = sorted(run.table.get(column, {}).items())
    return next((iteration for iteration, value in values if value <= target), None)


def position(run: FinishedRun, x: str, iteration: int) -> float | None:
    """Seconds or bytes of a run at an iteration."""
    places = get_positions(Group("", [run]), x, [iteration])
    return None if places is None else float(places[0, 0])


def _mean(values: Sequence[float]) -> float | str:
    return float(np.mean(values)) if values else ""


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
