"""Paths in the plane, for the bilinear game of two numbers."""

from typing import Any

import numpy as np

from experiments.common.figures import draw_line
from experiments.common.tables import Row
from experiments.vi import fits, games
from experiments.vi.claims import Claim
from experiments.vi.lab import Lab, Result
from experiments.vi.methods import BASELINES, Method, q_genx

STEP = 0.1
ITERATIONS = 150


def _plan(lab: Lab) -> list[tuple[Method, float]]:
    ours = [(q_genx("optimistic", "uniform 8"), 1.0)]
    sgda = [(BASELINES["SGDA"], STEP), (BASELINES["QSGDA 8 bits"], STEP)]
    if lab.quick:
        return [*ours, *sgda]
    more = [(q_genx("dual_extrapolation", "uniform 8"), 1.0)]
    others = [BASELINES[name] for name in ("extra-gradient", "optimistic")]
    more += [(method, STEP) for method in others]
    return [*ours, *more, (BASELINES["golden ratio"], STEP), *sgda]


def runs(lab: Lab) -> int:
    """How many there are."""
    return len(_plan(lab))


def make(lab: Lab) -> Result:
    """Follows each method, without noise."""
    at = np.arange(1, ITERATIONS + 1)
    rows: list[Row] = []
    claims: list[Claim] = []
    paths: dict[str, np.ndarray] = {}
    problems = games.stacked("bilinear", 2, lab.seeds, "float32")
    solution = np.asarray(problems.solution, np.float64)[:, None]
    for method, step in _plan(lab):
        curves = lab.curves(method, "bilinear", "none", at, dimension=2, step=step)
        apart = curves.last.astype(np.float64) - solution
        apart = np.concatenate([-solution, apart], axis=1)
        distance = np.linalg.norm(apart, axis=-1)
        paths[method.name] = apart[0]
        claims.append(_claim(method.name, distance[:, -1] / distance[:, 0]))
        rows += [
            {
                "method": method.name,
                "seed": seed,
                "iteration": t,
                "x": float(point[0]),
                "y": float(point[1]),
                "distance": float(far),
            }
            for seed, points, fars in zip(lab.seeds, apart, distance, strict=True)
            for t, (point, far) in enumerate(zip(points, fars, strict=True))
        ]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for place, (name, path) in enumerate(paths.items()):
            draw_line(axes, path[:, 0], path[:, 1], place, name)
        axes.plot(0, 0, "k+", ms=12)
        axes.set(aspect="equal", xlabel="min player", ylabel="max player")
        axes.set_title("from the solution, seed 0")
        axes.legend(fontsize="x-small")

    return Result(rows, claims, draw, (7, 6), TEXT)


def _claim(name: str, ratio: np.ndarray) -> Claim:
    fit = fits.over_seeds(ratio)
    says = f"{name}: distance after {ITERATIONS} iterations over that at the start"
    if name == "SGDA":
        exact = (1 + STEP**2) ** (ITERATIONS / 2)
        why = "(1 + step^2)^(T/2), by the closed form"
        return Claim("paths", says, exact, 0.01 * exact, fit, why=why)
    if name.startswith("QSGDA"):
        why = "it diverges, at any number of bits"
        return Claim("paths", says, 1.5, 0.0, fit, "least", why)
    return Claim("paths", says, 0.5, 0.0, fit, "most")


TEXT = """min over u, max over w of (u - u*)(w - w*) or its negative, K = 4, no noise. A
gradient step always turns outwards, exact (SGDA) or quantized (QSGDA); whatever
extrapolates turns inwards. Baselines have the step 0.1, Q-GenX gamma0 = 1."""
