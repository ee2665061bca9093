"""Gap over iterations for each profile of the noise, and the slopes."""

from typing import Any, NamedTuple

import numpy as np

from experiments.common.figures import draw_line
from experiments.common.tables import Row
from experiments.vi import fits, games
from experiments.vi.claims import Claim
from experiments.vi.lab import Lab, Result, iterations
from experiments.vi.methods import SHORT, VARIANTS, q_genx


class Case(NamedTuple):
    """Problem, noise, what is measured, the theory's exponent, and the dtype."""

    problem: str
    noise: str
    what: str
    slope: float
    dtype: str = "float32"


CASES = {
    "no noise": Case("bilinear", "none", "gap", -1.0),
    "absolute": Case("bilinear", "absolute", "gap", -0.5),
    "relative, well-conditioned": Case("quadratic", "multiplicative", "norm", -1.0),
    "relative, ill-conditioned": Case(
        "ill-conditioned", "multiplicative", "gap", -1.0, "float64"
    ),
}
"""By name; float32 does not resolve the solution of the last one."""
EXCHANGES = ("exact", "uniform 8", "uniform 4")
MEASURES = {"gap": games.gaps, "norm": games.norms}


def _cases(lab: Lab) -> list[tuple[str, str, str]]:
    if lab.quick:  # two programs to compile
        found = [("optimistic", "exact"), ("dual_extrapolation", "uniform 4")]
    else:
        found = [(v, e) for v in VARIANTS for e in EXCHANGES]
    cases = list(CASES)[: lab.short(4, 3)]
    return [(v, e, c) for v, e in found for c in cases]


def runs(lab: Lab) -> int:
    """How many there are."""
    return len(_cases(lab))


def make(lab: Lab) -> Result:
    """Runs all variants and exchanges."""
    at = iterations(lab.short(10_000, 3000))
    rows: list[Row] = []
    claims: list[Claim] = []
    cases = dict.fromkeys(case for _, _, case in _cases(lab))
    lines: dict[str, dict[str, np.ndarray]] = {case: {} for case in cases}
    for variant, exchange, case in _cases(lab):
        problem, noise, what, slope, dtype = CASES[case]
        method = q_genx(variant, exchange)
        curves = lab.curves(method, problem, noise, at, dtype=dtype)
        values = lab.measured(MEASURES[what], problem, curves.average)
        lines[case][method.name] = values
        rows += [
            {
                "case": case,
                "variant": variant,
                "exchange": exchange,
                "seed": seed,
                "iteration": int(t),
                "measured": what,
                "value": float(value),
            }
            for seed, of_seed in zip(lab.seeds, values, strict=True)
            for t, value in zip(at, of_seed, strict=True)
        ]
        claims.append(_claim(case, variant, exchange, at, values, slope))

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(lines))
        for axes, (case, found) in zip(panels, lines.items(), strict=True):
            for place, (name, values) in enumerate(found.items()):
                draw_line(axes, at, np.exp(np.log(values).mean(0)), place, name)
            slope, what = CASES[case].slope, CASES[case].what
            first = max(np.exp(np.log(v).mean(0))[0] for v in found.values())
            guide = first * (at / at[0]) ** slope
            axes.plot(at, guide, "k:", lw=1, label=f"slope {slope:g}")
            label = "norm of A at the average" if what == "norm" else "gap"
            axes.set(xscale="log", yscale="log", xlabel="iteration", ylabel=label)
            axes.set_title(case)
        panels[0].legend(fontsize="x-small", ncols=2)

    return Result(rows, claims, draw, (5 * len(lines), 4.6), TEXT)


def _claim(
    case: str, variant: str, exchange: str, at: np.ndarray, values: Any, slope: float
) -> Claim:
    why = ""
    if case == "no noise" and variant == "dual_averaging":
        slope = -0.5  # all that it has on a merely monotone problem
        why = "no extrapolation: only 1/sqrt(T) is promised"
    says = f"{case}, {SHORT[variant]}, {exchange}: exponent of T"
    fit = fits.slopes(at, values, low=100)
    return Claim("rates", says, slope, 0.1, fit, why=why)


TEXT = """The gap of the ergodic average over iterations, K = 4, d = 20, on the bilinear
game without noise and with sigma = 1; under relative noise (multiplicative, c = 1) the
norm of the operator on a well-conditioned quadratic game, whose gap is quadratic in it,
and the gap of a cocoercive problem with geometric eigenvalues 1..1e-6. Lines are
geometric means over seeds, slopes are fitted to each seed from iteration 100 on."""
