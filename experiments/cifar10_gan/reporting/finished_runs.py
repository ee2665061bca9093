"""Finished and unfinished runs: what they left, which repeat each other, their curves.

Runs whose configurations differ only in the seed and in what changes no number are one
group.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cifar10_gan.config import EXACT
from experiments.cifar10_gan.reporting.figures import Table, read_table
from experiments.cifar10_gan.resuming import FREE
from experiments.common.figures import thinned

SAME_GROUP = FREE | {"seed"}
"""Fields of a configuration that may differ within a group."""


class FinishedRun(NamedTuple):
    """What a run left in its workdir."""

    workdir: Path
    config: Mapping[str, Any]
    table: Table


class Group(NamedTuple):
    """Runs that repeat each other with other seeds, under a label for the legend."""

    label: str
    runs: Sequence[FinishedRun]

    @property
    def legend(self) -> str:
        """The label, and of how many seeds; equal seeds make no spread of seeds."""
        if len(self.runs) == 1:
            return self.label
        what = "seeds" if self.seeds == len(self.runs) else "runs"
        return f"{self.label} ({len(self.runs)} {what})"

    @property
    def seeds(self) -> int:
        """How many different ones there are."""
        return len({run.config.get("seed") for run in self.runs})

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the first, as good as any but for the seed."""
        return self.runs[0].config

    @property
    def end(self) -> int:
        """The last iteration that all runs have reached."""
        return min(last_iteration(run.table) for run in self.runs)


class Curve(NamedTuple):
    """A column over a horizontal axis, of all seeds; (n,) each."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def read_run(workdir: Path) -> FinishedRun:
    """A run's configuration and numbers.

    Raises:
        ValueError: if the folder lacks them.
    """

    def refused(what: str, way_out: str) -> ValueError:
        return ValueError(
            f"compare must be given the workdirs of runs, got {str(workdir)!r}, which "
            f"{what}; {way_out}"
        )

    if not (workdir / "metrics.csv").is_file():
        raise refused("has no metrics.csv", "name the --workdir of a run")
    if not (workdir / "config.json").is_file():
        raise refused("has no config.json", "put back the one that the run wrote")
    try:
        config = json.loads((workdir / "config.json").read_text())
        table = read_table(workdir / "metrics.csv")
    except ValueError as error:
        raise refused(f"cannot be read ({error})", "correct it or leave it out") from (
            error
        )
    if not isinstance(config, dict):
        raise refused("has a config.json without fields", "leave it out")
    if not table:
        raise refused("has no rows in metrics.csv", "wait for its first ones")
    return FinishedRun(workdir, config, table)


def group_runs(runs: Sequence[FinishedRun]) -> list[Group]:
    """Groups in the order of their first runs, labelled by how they differ."""
    members: dict[str, list[FinishedRun]] = {}
    for run in runs:
        setting = {k: v for k, v in run.config.items() if k not in SAME_GROUP}
        members.setdefault(json.dumps(setting, sort_keys=True), []).append(run)
    configs = [group[0].config for group in members.values()]
    differing = [
        name
        for name in dict.fromkeys(name for config in configs for name in config)
        if name not in SAME_GROUP and any(differ(c, configs[0], name) for c in configs)
    ]
    return [
        Group(_label(group[0].config, differing or ["bits"]), group)
        for group in members.values()
    ]


def get_curve(group: Group, column: str, x: str) -> Curve | None:
    """A column at the iterations that all runs have, or None where one lacks it or x.

    A row of scores need not repeat seconds and bytes: they are interpolated, and what
    comes after the last of them is left out.
    """
    iterations = sorted(common_iterations(group, column))
    if x != "iteration":
        end = max(common_iterations(group, x), default=-1)
        iterations = [iteration for iteration in iterations if iteration <= end]
    places = get_positions(group, x, iterations)
    if places is None or not iterations:
        return None
    ys = [[run.table[column][i] for i in iterations] for run in group.runs]
    x_mean, *values = thinned(places.mean(axis=0), *ys)
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    return Curve(x_mean, np.mean(values, axis=0), low, high)


def common_iterations(group: Group, column: str) -> set[int]:
    """Those at which all runs have a value of the column."""
    return set.intersection(*(set(run.table.get(column, {})) for run in group.runs))


def values_at(group: Group, column: str, iteration: int) -> list[float]:
    """Of all runs, or none where one lacks it."""
    if iteration not in common_iterations(group, column):
        return []
    return [run.table[column][iteration] for run in group.runs]


def get_positions(group: Group, x: str, iterations: Sequence[int]) -> np.ndarray | None:
    """Where iterations lie on an axis, (runs, iterations), or None if a run lacks it.

    Seconds and bytes start from 0 at iteration 0.
    """
    if x == "iteration":
        return np.tile(np.asarray(iterations, float), (len(group.runs), 1))
    if not all(x in run.table for run in group.runs):
        return None
    rows = []
    for run in group.runs:
        known = {0: 0.0, **run.table[x]}
        places = sorted(known)
        rows.append(np.interp(iterations, places, [known[place] for place in places]))
    return np.array(rows)


def last_iteration(table: Table) -> int:
    """Of all columns."""
    return max(max(column) for column in table.values())


def pace(table: Table) -> float | None:
    """Seconds per iteration; a clock that a resumed run starts anew does no harm."""
    seconds = sorted(table.get("seconds", {}).items())
    paces = [(b - a) / (j - i) for (i, a), (j, b) in pairwise(seconds) if b > a]
    if not paces:
        paces = [value / place for place, value in seconds if place]
    return float(np.median(paces)) if paces else None


def differ(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> bool:
    """Whether two configurations differ in a field; to lack it is a difference."""
    return (name in a) != (name in b) or a.get(name) != b.get(name)


def _label(config: Mapping[str, Any], names: Sequence[str]) -> str:
    parts = []
    for name in names:
        if name == "bits" and name in config:
            bits = config[name]
            words = "exact" if bits == EXACT else f"{bits} bit" + "s" * (bits > 1)
            parts.append(words)
        else:
            parts.append(f"{name}={config[name]}" if name in config else f"no {name}")
    return ", ".join(parts)
