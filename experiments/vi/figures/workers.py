"""Gap over the number of workers, after as many iterations."""

from typing import Any

import numpy as np

from experiments.common.figures import draw_line
from experiments.common.tables import Row
from experiments.vi import fits, games
from experiments.vi.claims import Claim
from experiments.vi.lab import Lab, Result, iterations
from experiments.vi.methods import Method, q_genx


def _plan(lab: Lab) -> tuple[list[Method], list[int], list[str]]:
    if lab.quick:
        return [q_genx("optimistic")], [1, 8, 64], ["absolute", "none"]
    methods = [
        q_genx("dual_extrapolation"),
        q_genx("optimistic"),
        q_genx("optimistic", "uniform 4"),
        q_genx("dual_averaging"),
    ]
    return methods, [1, 2, 4, 8, 16, 32, 64], ["absolute", "none"]


def runs(lab: Lab) -> int:
    """How many there are."""
    methods, workers, noises = _plan(lab)
    return len(methods) * len(workers) * len(noises)


def make(lab: Lab) -> Result:
    """Runs each method with each number of workers."""
    methods, workers, noises = _plan(lab)
    last = lab.short(10_000, 3000)
    at = iterations(last)
    found: dict[tuple[str, str], np.ndarray] = {}
    rows: list[Row] = []
    for method in methods:
        values: dict[str, list[np.ndarray]] = {noise: [] for noise in noises}
        for count in workers:
            for noise in noises:
                curves = lab.curves(method, "bilinear", noise, at, workers=count)
                gaps = lab.measured(games.gaps, "bilinear", curves.average[:, -1:])
                values[noise].append(gaps[:, 0])
                rows += [
                    {
                        "method": method.name,
                        "noise": noise,
                        "workers": count,
                        "seed": seed,
                        "iteration": last,
                        "gap": float(gap),
                    }
                    for seed, gap in zip(lab.seeds, gaps[:, 0], strict=True)
                ]
        for noise in noises:
            found[method.name, noise] = np.stack(values[noise], axis=1)
    x = np.array(workers)
    claims = []
    for method in methods:
        fit = fits.slopes(x, found[method.name, "absolute"])
        says = f"absolute, {method.name}: exponent of K, 1..64"
        is_da = method.name.startswith("DA")
        why = WHY_DA if is_da else ""
        claims.append(Claim("workers", says, -0.5, 0.1, fit, why=why))

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(noises))
        for axes, noise in zip(panels, noises, strict=True):
            for place, method in enumerate(methods):
                mean = np.exp(np.log(found[method.name, noise]).mean(0))
                draw_line(axes, x, mean, place, method.name)
            top = axes.get_ylim()[1]
            axes.plot(x, 0.5 * top * x**-0.5, "k:", lw=1, label="slope -1/2")
            axes.set(xscale="log", yscale="log", xlabel="workers K", ylabel="gap")
            axes.set_title(f"{noise}, {last} iterations")
        panels[0].legend(fontsize="x-small")

    return Result(rows, claims, draw, (10, 4.4), TEXT)


WHY_DA = (
    "on a problem that is only monotone, its bias, which grows with K through gamma_1 "
    "= K, is larger than what noise leaves"
)
TEXT = """The gap of the ergodic average over K at a fixed number of iterations, on the
bilinear game, d = 20. Under absolute noise (sigma = 1) more workers average it out;
without noise there is nothing to average, and gamma_1 = K only makes the first steps
longer: the right panel is the control, for which no gain is claimed."""
