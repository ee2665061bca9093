"""Gap over iterations on a box and on simplices, with and without noise."""

from typing import Any

import numpy as np

import qgenx_jax as qgenx
from experiments.common.figures import draw_line
from experiments.common.tables import Row
from experiments.vi import fits, games
from experiments.vi.claims import Claim
from experiments.vi.lab import Lab, Result, iterations
from experiments.vi.methods import BASELINES, Method, q_genx

CASES = {
    ("box", "none"): -1.0,
    ("box", "absolute"): -0.5,
    ("simplices", "none"): -1.0,
    ("simplices", "absolute"): -0.5,
    ("simplices", "multiplicative"): -0.5,
}
"""Problem and noise, and the exponent that the theory gives."""
LEAVES = {"box": 1, "simplices": 2}


def _methods(lab: Lab, problem: str) -> list[tuple[Method, float]]:
    """With their steps."""
    if lab.quick:
        return [(q_genx("optimistic", "uniform 8"), 1.0)]
    found = [
        (q_genx("dual_extrapolation"), 1.0),
        (q_genx("optimistic"), 1.0),
        (q_genx("optimistic", "uniform 8"), 1.0),
        (q_genx("optimistic", "uniform 4"), 1.0),
        (BASELINES["extra-gradient"], 0.5),
        (BASELINES["SGDA"], 0.5),
    ]
    if problem == "simplices":
        found.append((_entropic(), 1.0))
    return found


def _entropic() -> Method:
    """Steps by the mirror map of the entropy, in place of projections."""
    each = {"0": qgenx.entropic(), "1": qgenx.entropic()}
    method = q_genx("optimistic")

    def make(step: Any, key: Any, projection: Any = None) -> Any:
        del projection
        return method.make(step, key, each)

    return Method("Opt exact, entropic", make, method.traffic)


def _plan(lab: Lab) -> list[tuple[str, Method, float, str]]:
    """In the order of methods, whose programs serve all noises."""
    found = []
    for problem in LEAVES:
        for method, step in _methods(lab, problem):
            noises = [noise for of, noise in CASES if of == problem]
            found += [(problem, method, step, noise) for noise in noises]
    return found


def runs(lab: Lab) -> int:
    """How many there are."""
    return len(_plan(lab))


def make(lab: Lab) -> Result:
    """Runs all of them."""
    at = iterations(lab.short(10_000, 3000))
    rows: list[Row] = []
    claims: list[Claim] = []
    lines: dict[tuple[str, str], dict[str, np.ndarray]] = {case: {} for case in CASES}
    for problem, method, step, noise in _plan(lab):
        curves = lab.curves(
            method, problem, noise, at, leaves=LEAVES[problem], step=step
        )
        # averages of float32 points are on the set to its rounding, as are their gaps
        gaps = np.maximum(lab.measured(games.gaps, problem, curves.average), 1e-9)
        lines[problem, noise][method.name] = gaps
        rows += [
            {
                "problem": problem,
                "noise": noise,
                "method": method.name,
                "seed": seed,
                "iteration": int(t),
                "gap": float(gap),
            }
            for seed, of_seed in zip(lab.seeds, gaps, strict=True)
            for t, gap in zip(at, of_seed, strict=True)
        ]
        if method.name.split()[0] in ("DE", "Opt"):
            fit = fits.slopes(at, gaps, low=100)
            says = f"{problem}, {noise}, {method.name}: exponent of T"
            wanted = CASES[problem, noise]
            why = WHY if noise == "none" and "uniform" in method.name else ""
            claims.append(Claim("constrained", says, wanted, 0.1, fit, "most", why))

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(CASES))
        for axes, ((problem, noise), found) in zip(panels, lines.items(), strict=True):
            for place, (name, gaps) in enumerate(found.items()):
                draw_line(axes, at, np.exp(np.log(gaps).mean(0)), place, name)
            axes.set(xscale="log", yscale="log", xlabel="iteration", ylabel="gap")
            axes.set_title(f"{problem}, {noise}")
        panels[2].legend(fontsize="x-small")

    return Result(rows, claims, draw, (20, 4.4), TEXT)


WHY = (
    "rounding errs in proportion to vectors, which are not zero at this solution: a "
    "noise that stays, and in the end 1/sqrt(T)"
)
TEXT = """The gap of the average, K = 4, d = 20: the bilinear game in a box that its
free solution is outside of, and random matrix games of 10 by 10 strategies, whose gap
is the exploitability. Relative noise does not vanish where the operator at the solution
is not zero: it counts as absolute there. Exponents are claimed from above, as the
theory does: a solution in a corner is reached sooner."""
