"""Gap over bits sent by a worker, for quantizers, variants, one and two exchanges."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qgenx_jax as qgenx
from experiments.common.figures import draw_line
from experiments.common.tables import Row
from experiments.vi import fits, games
from experiments.vi.claims import Claim
from experiments.vi.lab import TUNED_ON, Lab, Result, iterations
from experiments.vi.methods import VARIANTS, Method, planned, q_genx
from experiments.vi.scan import cut

PROBLEM = "bilinear of two scales"
DIMENSION, LEAVES, WORKERS = 128, 4, 4
QUANTIZERS = (
    "exact",
    *("uniform 8", "uniform 4", "uniform 3", "uniform 2"),
    *("adaptive 4", "adaptive 3", "adaptive 2"),
    *("best 4", "best 3", "best 2"),
)
PLANS = (3.25, 2.25)
"""Bits per coordinate of plans, norms included, which take 32 a leaf in any case."""
GOAL = 0.3
"""Share of the iterations after which the exact exchange's gap is to be reached."""


def _plan_of(noise: str, bits: float) -> qgenx.Plan:
    """For a vector at the start of a problem that is not among the reported ones."""
    problem = games.MAKES[PROBLEM](TUNED_ON, DIMENSION)
    vector = problem.oracle(noise)(problem.start, jax.random.key(TUNED_ON))
    tree = cut(vector.astype(jnp.float32), LEAVES)
    return qgenx.plan_bits(
        tree, bits_per_coordinate=bits, candidates="dithered", bucket_size=DIMENSION
    )


def _methods(lab: Lab, noise: str, variant: str) -> dict[str, Method]:
    names = ("exact", "uniform 4") if lab.quick else QUANTIZERS
    if variant != "optimistic" and not lab.quick:
        names = ("exact", "uniform 8", "uniform 4", "uniform 2", "best 2")
    found = {name: q_genx(variant, name) for name in names}
    if lab.quick or variant != "optimistic":
        return found
    for bits in PLANS:
        name = f"planned {bits:g}"
        found[name] = planned(variant, name, _plan_of(noise, bits))
    two = q_genx(variant, "uniform 4", collective="reduce_scatter")
    found["uniform 4 in two phases"] = two._replace(name="Opt uniform 4 in two phases")
    return found


def _plan(lab: Lab) -> list[tuple[str, str]]:
    rest = [] if lab.quick else [v for v in VARIANTS if v != "optimistic"]
    variants = ["optimistic", *rest]  # whose exact exchange sets the common goal
    return [(noise, variant) for noise in ("none", "absolute") for variant in variants]


def runs(lab: Lab) -> int:
    """How many there are."""
    return sum(len(_methods(lab, *each)) for each in _plan(lab))


def make(lab: Lab) -> Result:
    """Runs all of them, and counts."""
    last = lab.short(3000, 1000)
    at = iterations(last)
    rows: list[Row] = []
    claims: list[Claim] = []
    table: list[Row] = []
    lines: dict[tuple[str, str], dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    params = cut(jnp.zeros(DIMENSION, jnp.float32), LEAVES)
    best: dict[tuple[str, str], tuple[float, str]] = {}
    common: dict[str, np.ndarray] = {}
    for noise, variant in _plan(lab):
        drawn = lines[noise, variant] = {}
        spent: dict[str, np.ndarray] = {}
        goal = np.zeros(())
        for name, method in _methods(lab, noise, variant).items():
            traffic = method.traffic(params, WORKERS)
            bits, payload = 8 * traffic.sent_bytes, 8 * traffic.payload_bytes
            curves = lab.curves(
                method, PROBLEM, noise, at, dimension=DIMENSION, workers=WORKERS,
                leaves=LEAVES,
            )  # fmt: skip
            gaps = lab.measured(games.gaps, PROBLEM, curves.average)
            drawn[name] = bits * at, np.exp(np.log(gaps).mean(0))
            if name == "exact":
                goal = gaps[:, np.searchsorted(at, GOAL * last)]
                common.setdefault(noise, goal)
            to_goal, to_common = (
                np.array(
                    [fits.crossing(at, *each) for each in zip(gaps, of, strict=True)]
                )
                for of in (goal, common[noise])
            )
            spent[name] = bits * to_goal
            rows += [
                {
                    "noise": noise,
                    "method": method.name,
                    "exchanges": traffic.exchanges,
                    "seed": seed,
                    "iteration": int(t),
                    "bits sent": int(bits * t),
                    "bits of payloads": int(payload * t),
                    "gap": float(gap),
                }
                for seed, of_seed in zip(lab.seeds, gaps, strict=True)
                for t, gap in zip(at, of_seed, strict=True)
            ]
            saved = spent["exact"] / spent[name]
            table.append(
                {
                    "noise": noise,
                    "method": method.name,
                    "exchanges": traffic.exchanges,
                    "bits an iteration": bits,
                    "iterations to the goal": float(np.median(to_goal)),
                    "bits to it": float(np.median(spent[name])),
                    "fewer than exact": float(np.median(saved)),
                    "bits to Opt exact's goal": float(np.median(bits * to_common)),
                }
            )
            if name != "exact":
                place, known = (noise, variant), (float(np.median(saved)), method.name)
                best[place] = max(best.get(place, known), known)
        claims += _claims(noise, variant, spent)
    text = TEXT + "".join(
        f"\n\nBest, noise {noise}: {name}, {gain:.2f} times fewer bits than exact."
        for (noise, _), (gain, name) in best.items()
    )

    def draw(figure: Any) -> None:
        columns = len(lines) // 2
        panels = figure.subplots(2, columns, squeeze=False).flat
        for axes, ((noise, variant), drawn) in zip(panels, lines.items(), strict=True):
            for place, (name, (x, y)) in enumerate(drawn.items()):
                draw_line(axes, x, y, place, name)
            axes.set(
                xscale="log", yscale="log", ylabel="gap", title=f"{variant}, {noise}"
            )
            axes.set(xlabel="bits sent by a worker")
            axes.legend(fontsize="xx-small", ncols=2)

    return Result(rows, claims, draw, (5 * len(lines) // 2, 8.5), text, table)


def _claims(noise: str, variant: str, spent: dict[str, np.ndarray]) -> list[Claim]:
    """That fewer bits are enough, and how many fewer."""
    found = []
    for name in ("uniform 8", "uniform 4"):
        if name in spent:
            fit = fits.over_seeds(spent["exact"] / spent[name])
            says = (
                f"{noise}, {variant}, {name}: times fewer bits to the goal than exact"
            )
            found.append(Claim("bits", says, 1.0, 0.0, fit, "least"))
    return found


TEXT = """The gap of the average over the bits that one worker has sent, as the library
counts them before anything runs: bilinear game of four leaves of two scales, d = 128,
K = 4. An exact exchange is a ring all-reduce of 32-bit numbers, 2 (K - 1) / K of the
vector; a quantized one goes to all K - 1 others at once, so 8 bits save less than a
factor of 32 / 8, and lose that for K > 8. Payloads, in the table, are what the paper
counts. The goal is the gap that the exact exchange of the same variant has after 30 %
of the iterations or a little more, for each seed its own; the last column has that of
the optimistic variant for all. A quantized dual averaging needs fewer iterations than
an exact one: its steps are too long, and the noise of rounding shortens them."""
