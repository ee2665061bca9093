"""Final gap over gamma0, or over a baseline's step, across five decades."""

from typing import Any

import numpy as np

from experiments.common.figures import draw_line
from experiments.common.tables import Row
from experiments.vi import fits, games
from experiments.vi.claims import Claim
from experiments.vi.lab import TUNED_ON, Lab, Result, iterations
from experiments.vi.methods import BASELINES, Method, q_genx

NEAR = 3.0
"""A step is good if its gap is at most so many times the best of all methods'."""


def _plan(lab: Lab) -> tuple[list[Method], np.ndarray, list[str]]:
    if lab.quick:
        names = ["SGDA", "extra-gradient"]
        methods = [q_genx("optimistic"), *(BASELINES[name] for name in names)]
        return methods, np.geomspace(1e-3, 1e2, 6), ["none", "absolute"]
    ours = [q_genx("dual_extrapolation"), q_genx("optimistic")]
    methods = [*ours, *BASELINES.values()]
    return methods, np.geomspace(1e-3, 1e2, 11), ["none", "absolute"]


def runs(lab: Lab) -> int:
    """How many there are: each on the seeds for choosing, and on those reported."""
    methods, grid, noises = _plan(lab)
    return 2 * len(methods) * len(grid) * len(noises)


def swept(
    lab: Lab, method: Method, noise: str, grid: np.ndarray, seeds: tuple[int, ...]
) -> np.ndarray:
    """Final gaps of averages, (seeds, steps); infinity where a method diverged."""
    last = lab.short(3000, 1000)
    found = []
    for step in grid:
        curves = lab.curves(
            method, "bilinear", noise, iterations(last), seeds=seeds, step=float(step)
        )
        end = curves.average[:, -1:].astype(np.float64)
        finite = np.array([bool(np.isfinite(of_seed).all()) for of_seed in end])
        points = np.where(finite[:, None, None], end, 0)
        gaps = lab.measured(games.gaps, "bilinear", points, seeds=seeds)[:, 0]
        found.append(np.where(finite, gaps, np.inf))
    return np.stack(found, axis=1)


def make(lab: Lab) -> Result:
    """Sweeps all methods."""
    methods, grid, noises = _plan(lab)
    tuning = tuple(TUNED_ON + seed for seed in lab.seeds)
    rows: list[Row] = []
    table: list[Row] = []
    claims: list[Claim] = []
    gaps: dict[tuple[str, str], np.ndarray] = {}
    for noise in noises:
        chosen: dict[str, int] = {}
        for method in methods:
            tuned = middle(swept(lab, method, noise, grid, tuning))
            chosen[method.name] = int(np.argmin(tuned))
            gaps[noise, method.name] = swept(lab, method, noise, grid, lab.seeds)
        found = {method.name: gaps[noise, method.name] for method in methods}
        best = min(found, key=lambda name: middle(found[name])[chosen[name]])
        goal = found[best][:, chosen[best]]
        decades = {name: width(grid, values, goal) for name, values in found.items()}
        table += [
            {
                "noise": noise,
                "method": name,
                "best step": float(grid[place]),
                "gap there": float(middle(found[name])[place]),
                "decades within 3 times the best of all": float(decades[name].mean()),
            }
            for name, place in chosen.items()
        ]
        rows += [
            {
                "noise": noise,
                "method": name,
                "step": float(step),
                "chosen": int(place == chosen[name]),
                "seed": seed,
                "gap": float(values[row, place]),
            }
            for name, values in found.items()
            for row, seed in enumerate(lab.seeds)
            for place, step in enumerate(grid)
        ]
        one = int(np.argmin(abs(np.log(grid))))
        plain = {name: values[:, one] / goal for name, values in found.items()}
        claims += _claims(noise, best, decades, plain)
        claims += [
            _above(noise, name, values[:, one:])
            for name, values in found.items()
            if name.split()[0] in OURS
        ]

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(noises))
        for axes, noise in zip(panels, noises, strict=True):
            for place, method in enumerate(methods):
                values = np.minimum(middle(gaps[noise, method.name]), 1e3)
                draw_line(axes, grid, values, place, method.name)
            axes.set(xscale="log", yscale="log", ylabel="gap", ylim=(None, 10))
            axes.set(xlabel="gamma0, or the step", title=noise)
        panels[0].legend(fontsize="x-small")

    return Result(rows, claims, draw, (11, 4.6), TEXT, table)


def middle(gaps: np.ndarray) -> np.ndarray:
    """Geometric means over seeds."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log(gaps).mean(0))


def width(grid: np.ndarray, gaps: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """For each seed, decades of steps whose gap is near the goal."""
    good = gaps <= NEAR * goal[:, None]
    return good.sum(axis=1) * float(np.log10(grid[1] / grid[0]))


def _claims(noise: str, best: str, decades: Any, plain: Any) -> list[Claim]:
    """Of the widths, and of gamma0 = 1 beside the best of all at its best step."""
    ours = [name for name in decades if name.split()[0] in OURS]
    others = [name for name in decades if name not in ours]
    widest = max(others, key=lambda name: decades[name].mean())
    found = []
    for name in ours:
        fit = fits.over_seeds(decades[name] - decades[widest])
        says = f"{noise}, {name}: decades of good gamma0, less those of {widest}"
        found.append(Claim("robustness", says, 0.0, 0.5, fit, "least"))
        says = f"{noise}, {name}: gap at gamma0 = 1 over the best of all, {best}"
        fit = fits.over_seeds(plain[name])
        found.append(Claim("robustness", says, NEAR, 0.0, fit, "most", WHY[noise]))
    return found


def _above(noise: str, name: str, gaps: np.ndarray) -> Claim:
    """That a gamma0 that is too long, by up to two decades, does no harm."""
    fit = fits.over_seeds(gaps.max(axis=1) / gaps[:, 0])
    says = f"{noise}, {name}: worst gap for gamma0 from 1 to 100, over that at 1"
    return Claim("robustness", says, NEAR, 0.0, fit, "most")


OURS = ("DE", "Opt")
WHY = {
    "none": "untuned beside tuned: gamma_1 = K overshoots, and 1/T keeps the factor",
    "absolute": "",
}
"""Of gamma0 = 1 beside the best of all."""


TEXT = """The gap of the average after so many iterations, bilinear game, d = 20, K = 4,
over five decades of gamma0 (Q-GenX), learning rate (the others) or first step (golden
ratio), two in each decade. Each best step is chosen from this grid on other seeds than
those reported. A step is good where the gap is at most three times that of the best
method at its best step.

The golden ratio algorithm hardly moves under noise: two draws of a vector differ
however near their points are, and its steps shrink with the ratio of the two."""
