"""Seconds of an iteration: the compiled scan, a loop around a jitted step, NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qgenx_jax as qgenx
from experiments.common import timing
from experiments.common.tables import Row
from experiments.vi import by_hand, fits, games, scan
from experiments.vi.claims import Claim
from experiments.vi.lab import Lab, Result
from experiments.vi.methods import AXIS, Method, q_genx

DIMENSION, WORKERS, SEEDS = 100, 16, 10
NAMES = {
    "scan": "scan",
    "seeds": f"scan, {SEEDS} seeds by vmap, each",
    "loop": "Python loop, jitted step",
    "numpy": "NumPy loop, not jitted",
}
CASES = (("exact", "none"), ("exact", "absolute"), ("uniform 8", "absolute"))
"""Exchange and noise, of the optimistic variant."""


def runs(lab: Lab) -> int:
    """How many there are: cases."""
    del lab
    return len(CASES)


def make(lab: Lab) -> Result:
    """Times them in turn."""
    iterations, rounds = lab.short(500, 60), lab.short(7, 2)
    rows: list[Row] = []
    claims: list[Claim] = []
    for exchange, noise in CASES:
        method = q_genx("optimistic", exchange)
        case = f"{method.name}, {'no' if noise == 'none' else noise} noise"
        bits = 8 if exchange != "exact" else None
        functions = {
            "scan": _scanned(method, noise, iterations, 1),
            "seeds": _scanned(method, noise, iterations, SEEDS),
            "loop": _looped(method, noise, iterations),
            "numpy": _in_numpy(noise, bits, iterations),
        }
        taken = timing.rounds_side_by_side(functions, rounds)
        each = {name: seconds / iterations for name, seconds in taken.items()}
        each["seeds"] = each["seeds"] / SEEDS
        rows += [
            {
                "method": case,
                "way": NAMES[name],
                "microseconds an iteration": 1e6 * float(np.median(seconds)),
                "over the scan": float(np.median(seconds / each["scan"])),
                "over the seeds of a scan": float(np.median(seconds / each["seeds"])),
            }
            for name, seconds in each.items()
        ]
        for name, wanted in (("loop", 2.0), ("numpy", 20.0)):
            for base in ("scan", "seeds"):
                ratio = fits.over_seeds(each[name] / each[base])
                says = f"{case}: seconds of {NAMES[name]}, over {NAMES[base]}"
                claims.append(Claim("speed", says, wanted, 0.0, ratio, "least"))
        lab.tick()

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        labels = [f"{row['method']}: {row['way']}" for row in rows]
        axes.barh(labels, [row["microseconds an iteration"] for row in rows])
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="microseconds an iteration")

    return Result(rows, claims, draw, (9, 4), TEXT, rows)


def _scanned(method: Method, noise: str, iterations: int, seeds: int) -> Any:
    """All iterations in one program."""
    numbers = tuple(range(seeds))
    problems = games.stacked("bilinear", DIMENSION, numbers, "float32")
    at = np.array([iterations])
    return lambda: scan.run(method, problems, numbers, noise, at, workers=WORKERS).last


def _looped(method: Method, noise: str, iterations: int) -> Any:
    """A call of a jitted step for each iteration, the keys drawn inside of it."""
    problems = games.stacked("bilinear", DIMENSION, (0,), "float32")
    problem = jax.tree.map(lambda leaf: leaf[0], problems)
    key = jax.random.key(0)
    optimizer = method.make(1.0, key)
    which = jnp.asarray(games.NOISES.index(noise))
    step = scan.taken(optimizer, scan.oracle_of(problem, which, 1))
    shape = (WORKERS, scan.calls_of(optimizer))

    @jax.jit
    def iteration(x: Any, state: Any, t: Any) -> tuple:
        keys = jax.random.split(jax.random.fold_in(key, t), shape)
        return qgenx.map_workers(step, AXIS, workers=WORKERS)(x, state, keys)

    def run() -> Any:
        x = jnp.zeros_like(problem.solution)
        state = scan.begun(optimizer, x, WORKERS)
        for t in range(iterations):
            x, state = iteration(x, state, t)
        return x

    return run


def _in_numpy(noise: str, bits: int | None, iterations: int) -> Any:
    """The transcription, worker by worker."""
    problem = games.MAKES["bilinear"](0, DIMENSION)
    matrix, offset = (
        np.asarray(leaf, np.float32) for leaf in (problem.matrix, problem.offset)
    )
    rng = np.random.default_rng(0)
    size = np.float32(DIMENSION**-0.5)

    def oracle(x: np.ndarray, *_: int) -> np.ndarray:
        vector = matrix @ x + offset
        if noise == "none":
            return vector
        return vector + size * rng.standard_normal(DIMENSION, np.float32)

    settings: dict[str, Any] = {"variant": "optimistic"}
    if bits:
        settings["quantize"] = by_hand.uniform(bits, rng)

    def run() -> Any:
        start = np.zeros(DIMENSION, np.float32)
        return by_hand.q_genx(oracle, start, iterations, WORKERS, **settings).last

    return run


TEXT = f"""Seconds of an iteration of the optimistic variant, d = {DIMENSION}, K =
{WORKERS}, float32, measured in turn in one process. The NumPy loop goes
worker by worker, as one writes it down from the formulas. Half and more of a scan's
time under noise goes into 1600 normal numbers per iteration, which Threefry draws from
a key: NumPy's generator, which no key takes back to its place, draws them faster."""
