"""Runs over each other: one figure and one table.

A line is the mean over the seeds of a group of runs, with a band from the least to the
largest of them.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cifar10_gan.config import EXACT
from experiments.cifar10_gan.reporting.finished_runs import (
    Group,
    common_iterations,
    differ,
    get_curve,
    group_runs,
    last_iteration,
    pace,
    read_run,
    values_at,
)
from experiments.common import figures, tables
from experiments.common.tables import PathLike

CURVES: Mapping[str, str] = {
    "score": "sliced Wasserstein\ndistance, raw",
    "score_average": "sliced Wasserstein\ndistance, average",
    "score_ema": "sliced Wasserstein\ndist., moving average",
    "frechet": "Frechet (Efficient-\nNet-Lite0), raw",
    "frechet_average": "Frechet (Efficient-\nNet-Lite0), average",
    "frechet_ema": "Frechet (Efficient-\nNet-Lite0), mov. av.",
    "loss_generator": "generator loss",
    "loss_discriminator": "discriminator loss",
}
"""Columns that have a row of panels, and the labels of their axes."""
HORIZONTAL: Mapping[str, str] = {
    "iteration": "iteration",
    "seconds": "time",
    "bytes": "sent per worker",
}
"""Columns that have a column of panels, and the labels of their axes."""
HEADINGS: Mapping[str, str] = {
    "group": "group",
    "seeds": "seeds",
    "iterations": "iterations",
    "score_start": "distance at start",
    "score": "at end, raw",
    "score_average": "at end, average",
    "score_ema": "at end, moving average",
    "frechet": "Frechet at end, raw",
    "frechet_average": "Frechet at end, average",
    "frechet_ema": "Frechet at end, moving average",
    "seconds_per_iteration": "seconds per iteration",
    "bytes_per_iteration": "bytes per iteration",
    "bytes": "bytes in all",
    "bytes_over_exact": "bytes over exact",
}
"""Columns of the table, and their headings; bytes are those that a worker sends."""
SIZES = ("model", "width", "latent", "workers")
"""Fields that the bytes of an exact exchange depend on."""
SCORES = ("score", "score_average", "score_ema")
FORMATS = (".png", ".pdf", ".svg")


def compare(workdirs: Sequence[PathLike], output: PathLike) -> None:
    """Draws runs over each other, and prints and saves their table.

    Args:
        workdirs: of the runs; one that is named twice counts once.
        output: the figure; the table is beside it, ending in .csv.

    Raises:
        ValueError: if no run is named, a folder holds none, no column is in all runs,
            or the output is of another format.
    """
    if Path(output).suffix not in FORMATS:
        raise ValueError(
            f"output must end in one of {FORMATS}, got {str(output)!r}; name a figure"
        )
    if not workdirs:
        raise ValueError(
            "compare must be given at least one workdir, got none; name those of runs"
        )
    unique = {Path(workdir).resolve(): Path(workdir) for workdir in workdirs}
    runs = [read_run(workdir) for workdir in unique.values()]
    shared = set(CURVES).intersection(*(run.table for run in runs))
    if not shared:
        found = {str(run.workdir): sorted(run.table) for run in runs}
        raise ValueError(
            f"runs must share one of the columns {list(CURVES)}, got {found}; compare "
            "them one by one"
        )
    groups = group_runs(runs)
    draw_groups(groups, output)
    rows = summarize(groups)
    beside = Path(output).with_suffix(".csv")
    tables.write_csv(rows, beside)
    print(markdown(rows))
    for group in groups:
        ends = {run.workdir.name: last_iteration(run.table) for run in group.runs}
        if len(set(ends.values())) > 1:
            print(
                f"\n{group.label} is compared up to iteration {group.end}, which all "
                f"its runs reached: {ends}"
            )
    print(f"\nruns: {len(runs)}, groups: {len(groups)}, in {output} and {beside}")


def draw_groups(
    groups: Sequence[Group], path: PathLike, columns: Sequence[str] = tuple(CURVES)
) -> None:
    """Rows of panels for scores and losses, columns for iterations, time and bytes.

    Args:
        groups: of runs.
        path: of the figure.
        columns: some of `CURVES`; those that a run lacks are left out.

    Raises:
        ValueError: if the runs of no group have iterations in common.
    """
    curves = {
        (column, x, place): curve
        for column in columns
        for x in HORIZONTAL
        for place, group in enumerate(groups)
        if (curve := get_curve(group, column, x)) is not None
    }
    if not curves:
        raise ValueError(
            "runs of a group must have iterations in common, got none in any of "
            f"{[group.label for group in groups]}; compare them one by one"
        )
    down = [column for column in columns if any(column == key[0] for key in curves)]
    across = [x for x in HORIZONTAL if any(x == key[1] for key in curves)]
    figure = figures.new_figure(1.0 + 3.3 * len(across), 0.8 + 2.0 * len(down))
    panels = figure.subplots(
        len(down), len(across), sharex="col", sharey="row", squeeze=False
    )
    for j, x in enumerate(across):
        largest = max(curve.x.max() for key, curve in curves.items() if key[1] == x)
        per, label = figures.with_unit(HORIZONTAL[x], x, largest)
        for i, column in enumerate(down):
            for place, group in enumerate(groups):
                curve = curves.get((column, x, place))
                if curve is None:
                    continue
                axes, horizontal = panels[i, j], curve.x / per
                figures.draw_line(axes, horizontal, curve.mean, place, group.legend)
                if len(group.runs) > 1:
                    color = figures.color_of(place)
                    band = horizontal, curve.low, curve.high
                    axes.fill_between(*band, color=color, alpha=0.2, linewidth=0)
            panels[i, 0].set_ylabel(CURVES[column])
        panels[-1, j].set_xlabel(label)
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawn = [group.legend for group in groups if group.legend in handles]
    figure.legend(
        [handles[label] for label in drawn],
        drawn,
        loc="outside upper center",
        ncols=max(1, 90 // (max(map(len, drawn)) + 8)),
        frameon=False,
    )
    figures.save_figure(figure, path)


def summarize(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """A row of numbers for each group; what no group has is left out.

    Scores are at the last iteration that all of a group's runs have scored; seconds per
    iteration are the median over rows, so neither a start nor a pause counts.
    """
    rows: list[dict[str, Any]] = []
    for group in groups:
        row: dict[str, Any] = {"group": group.label, "seeds": group.seeds}
        row["iterations"] = group.end
        row["score_start"] = _mean(values_at(group, "score", 0))
        for name in SCORES:
            last = values_at(
                group, name, max(common_iterations(group, name), default=0)
            )
            row[name] = _mean(last)
            spread = float(np.ptp(last) / 2) if last and group.seeds > 1 else None
            row[f"{name}_half_spread"] = spread
        paces = [pace(run.table) for run in group.runs]
        row["seconds_per_iteration"] = _mean([p for p in paces if p is not None])
        sent = group.runs[0].table.get("bytes", {})
        last = max(sent, default=0)  # logged less often than scores, perhaps
        per = round(sent[last] / last) if last else None
        row["bytes_per_iteration"] = per
        row["bytes"] = None if per is None else per * group.end
        rows.append(row)
    for group, row in zip(groups, rows, strict=True):
        exact = _exact_of(group, groups)
        base = None if exact is None else rows[exact]["bytes_per_iteration"]
        own = row["bytes_per_iteration"]
        row["bytes_over_exact"] = own / base if own and base else None
    used = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in used} for row in rows]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown; scores of several seeds as mean ± half spread."""
    names = [name for name in rows[0] if not name.endswith("_half_spread")]
    lines = [[HEADINGS[name] for name in names]]
    for row in rows:
        lines.append([])
        for name in names:
            lines[-1].append(_text(name, row[name], row.get(f"{name}_half_spread")))
    return tables.markdown(lines)


def _text(name: str, value: Any, spread: float | None) -> str:
    if value is None or isinstance(value, str):
        return value or "–"
    if name == "bytes":
        size, unit = figures.with_unit("", name, value)
        return f"{value / size:.4g} {unit.strip(' ()')}"
    if spread:
        # Both to the second significant digit of the spread.
        digits = max(0, 1 - math.floor(math.log10(spread)))
        return f"{value:.{digits}f} ± {spread:.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _exact_of(group: Group, groups: Sequence[Group]) -> int | None:
    """The place of the exact group of the same sizes, the one most like this group."""
    candidates = [
        (sum(differ(other.config, group.config, name) for name in other.config), place)
        for place, other in enumerate(groups)
        if other.config.get("bits") == EXACT
        and not any(differ(other.config, group.config, name) for name in SIZES)
    ]
    return min(candidates)[1] if candidates else None
