"""The adaptive step size over time, for each profile of the noise."""

from typing import Any

import numpy as np

from experiments.common.figures import draw_line
from experiments.common.tables import Row
from experiments.vi import fits
from experiments.vi.claims import Claim
from experiments.vi.lab import Lab, Result, iterations
from experiments.vi.methods import q_genx

CASES = {
    "no noise, bilinear": ("bilinear", "none", 0.0),
    "relative, cocoercive": ("quadratic", "multiplicative", 0.0),
    "relative, bilinear": ("bilinear", "multiplicative", None),
    "absolute, bilinear": ("bilinear", "absolute", -0.5),
}
"""Problem, noise, and the exponent that the theory gives."""


def _plan(lab: Lab) -> list[tuple[str, str]]:
    variants = ["optimistic"] if lab.quick else ["dual_extrapolation", "optimistic"]
    return [(variant, case) for variant in variants for case in CASES]


def runs(lab: Lab) -> int:
    """How many there are."""
    return len(_plan(lab))


def make(lab: Lab) -> Result:
    """Runs both variants that extrapolate."""
    at = iterations(lab.short(10_000, 3000))
    rows: list[Row] = []
    claims: list[Claim] = []
    lines: dict[str, np.ndarray] = {}
    for variant, case in _plan(lab):
        problem, noise, slope = CASES[case]
        method = q_genx(variant)
        gamma = lab.curves(method, problem, noise, at).gamma
        name = f"{method.name}, {case}"
        lines[name] = gamma
        rows += [
            {
                "method": method.name,
                "case": case,
                "seed": seed,
                "iteration": int(t),
                "gamma": float(value),
            }
            for seed, of_seed in zip(lab.seeds, gamma, strict=True)
            for t, value in zip(at, of_seed, strict=True)
        ]
        if slope is not None:
            fit = fits.slopes(at, gamma, low=100)
            claims.append(Claim("steps", f"{name}: exponent of T", slope, 0.1, fit))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for place, (name, gamma) in enumerate(lines.items()):
            draw_line(axes, at, np.exp(np.log(gamma).mean(0)), place, name)
        axes.set(xscale="log", yscale="log", xlabel="iteration", ylabel="gamma")
        axes.legend(fontsize="x-small")

    return Result(rows, claims, draw, (7, 4.6), TEXT)


TEXT = """gamma_t of Q-GenX, exact, K = 4, one rule and gamma0 = 1 for all. Where
vectors settle (no noise, or noise that vanishes at the solution of a cocoercive
problem) it stops falling: a constant step, for 1/T. Under absolute noise it falls as
1/sqrt(T) by itself. On the bilinear game under relative noise no claim is made."""
