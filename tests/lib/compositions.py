"""What of optax may stand where: every place once with the library, once without it.

A cell is an optimizer of the library's on two workers of a mesh, each with vectors of
its own, and the same optimizer written in optax alone, which is given their means. It
is right if the parameters are equal after some calls.
tests/contracts/test_composition.py runs every cell, and `composition_table` writes them
down.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of
from tests.lib.kits import OURS, PLAIN, RATE, Kit

WORKERS = 2
CALLS = 8
START = {
    "kernel": jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32),
    "bias": jnp.asarray([0.5, -1.0, 2.0], jnp.float32),
}
OWN = [
    jax.tree.map(
        lambda x, k=k: jnp.asarray(
            np.random.default_rng(k + 1).normal(size=x.shape), jnp.float32
        ),
        START,
    )
    for k in range(WORKERS)
]
"""Where the operators of the workers are zero: A_k(x) = J (x - c_k)."""


def vector(params: Any, own: Any, spoiled: Any) -> Any:
    """A worker's dual vector: attraction to its own point, and a rotation."""

    def one(x: Any, c: Any) -> Any:
        off = x - c
        return 0.6 * off + 0.8 * jnp.roll(off, 1, axis=-1) + spoiled

    return jax.tree.map(one, params, own)


class Row(NamedTuple):
    """Something of optax's.

    Attributes:
        make: a transformation of vectors, or of an optimizer another optimizer.
        around: whether it is the second.
        spoiled: whether one worker's vectors are NaN at one call.
        holds_back: whether it hands on what it is given, or zeros, and nothing else.
        extra: further arguments of the update.
    """

    make: Callable[..., optax.GradientTransformation]
    around: bool
    spoiled: bool = False
    holds_back: bool = False
    extra: tuple[tuple[str, float], ...] = ()


def _alike(params: Any) -> Any:
    return {"kernel": "moves", "bias": "moves"}


def _part(params: Any) -> Any:
    return {"kernel": "moves", "bias": "rests"}


def _is_even(step: Any, *_: Any, **__: Any) -> Any:
    return step % 2 == 0


VECTORS = {
    "clip_by_global_norm": lambda: optax.clip_by_global_norm(1.0),
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(0.1),
    "add_decayed_weights": lambda: optax.add_decayed_weights(0.1),
    "centralize": optax.centralize,
    "scale_by_adam": optax.scale_by_adam,
    "scale_by_schedule": lambda: optax.scale_by_schedule(
        optax.exponential_decay(1.0, 1, 0.9)
    ),
    "trace": lambda: optax.trace(0.9),
    "ema": lambda: optax.ema(0.9),
    "scale_by_trust_ratio": optax.scale_by_trust_ratio,
    "freeze": lambda: optax.freeze({"kernel": False, "bias": True}),
    "add_noise": lambda: optax.add_noise(0.1, 0.0, jax.random.key(3)),
    "scale_by_optimistic_gradient": optax.scale_by_optimistic_gradient,
    "apply_every": lambda: optax.apply_every(2),
    "conditionally_transform": lambda: optax.conditionally_transform(
        optax.scale(0.5), _is_even
    ),
}
WRAPPERS = {
    "MultiSteps": lambda inner: optax.MultiSteps(inner, 2).gradient_transformation(),
    "apply_if_finite": lambda inner: optax.apply_if_finite(inner, 3),
    "conditionally_mask": lambda inner: optax.conditionally_mask(inner, _is_even),
    "masked": lambda inner: optax.masked(inner, {"kernel": True, "bias": True}),
    "masked, a part": lambda inner: optax.masked(
        inner, {"kernel": True, "bias": False}
    ),
    "partition, all": lambda inner: optax.partition({"moves": inner}, _alike),
    "partition, frozen": lambda inner: optax.partition(
        {"moves": inner, "rests": optax.set_to_zero()}, _part
    ),
    "inject_hyperparams": lambda inner: optax.inject_hyperparams(
        lambda factor: optax.chain(optax.scale(factor), inner)
    )(factor=0.5),
    "inject_hyperparams, a schedule": lambda inner: optax.inject_hyperparams(
        lambda factor: optax.chain(optax.scale(factor), inner)
    )(factor=optax.exponential_decay(0.5, 1, 0.9)),
    "named_chain": lambda inner: optax.named_chain(("inner", inner)),
    "flatten": optax.flatten,
    "with_extra_args": optax.with_extra_args_support,
    "contrib.schedule_free": lambda inner: optax.contrib.schedule_free(inner, RATE),
    "contrib.reduce_on_plateau": lambda inner: optax.chain(
        inner, optax.contrib.reduce_on_plateau(patience=1)
    ),
}
ROWS = {
    **{name: Row(make, False) for name, make in VECTORS.items()},
    **{name: Row(make, True) for name, make in WRAPPERS.items()},
    "freeze": Row(VECTORS["freeze"], False, holds_back=True),
    "zero_nans": Row(optax.zero_nans, False, spoiled=True, holds_back=True),
    "contrib.reduce_on_plateau": Row(
        WRAPPERS["contrib.reduce_on_plateau"], True, extra=(("value", 1.0),)
    ),
    "apply_if_finite, a NaN": Row(WRAPPERS["apply_if_finite"], True, spoiled=True),
}


class Place(NamedTuple):
    """Where something of optax's may stand.

    Attributes:
        heading: of its column.
        build: the optimizer, of a kit and what stands there.
        own: whether that is given the workers' own vectors.
        reason: why nothing there has a meaning; empty where it has one.
    """

    heading: str
    build: Callable[[Kit, Any], optax.GradientTransformation]
    own: bool = False
    reason: str = ""


NOTHING = optax.identity()
SGD = optax.sgd(RATE)
IN_PLACE = {
    "before": Place(
        "before `quantized_mean`",
        lambda kit, t: optax.chain(t, kit.mean, SGD),
        own=True,
    ),
    "after": Place("after it", lambda kit, t: optax.chain(kit.mean, t, SGD)),
    "accumulate": Place(
        "so in `accumulate`",
        lambda kit, t: kit.accumulate(optax.chain(kit.mean, t, SGD)),
    ),
    "pair": Place("before a pair", lambda kit, t: kit.alternating(kit.mean, t)),
    "q_genx": Place("before `q_genx`", lambda kit, t: kit.q_genx(t), own=True),
    "moves": Place(
        "after `alternating`",
        lambda kit, t: optax.chain(kit.alternating(kit.mean), t),
        reason="a move from one point to the next is no vector",
    ),
}
AROUND = {
    "mean": Place("the whole chain", lambda kit, w: w(optax.chain(kit.mean, SGD))),
    "after": Place(
        "what is after `quantized_mean`", lambda kit, w: optax.chain(kit.mean, w(SGD))
    ),
    "accumulate": Place(
        "`accumulate`", lambda kit, w: w(kit.accumulate(optax.chain(kit.mean, SGD)))
    ),
    "in accumulate": Place(
        "the chain in `accumulate`",
        lambda kit, w: kit.accumulate(w(optax.chain(kit.mean, SGD))),
    ),
    "base": Place(
        "the base of `extragradient`",
        lambda kit, w: kit.alternating(kit.mean, base=w(SGD)),
    ),
    "alternating": Place("`alternating`", lambda kit, w: w(kit.alternating(kit.mean))),
    "q_genx": Place("`alternating` of `q_genx`", lambda kit, w: w(kit.q_genx())),
}


def cells() -> list[tuple[str, str]]:
    """Names of all rows with the names of their places."""
    return [
        (row, place)
        for row, what in ROWS.items()
        for place in (AROUND if what.around else IN_PLACE)
    ]


def place_of(row: str, place: str) -> Place:
    return (AROUND if ROWS[row].around else IN_PLACE)[place]


def _spoiled(row: Row, worker: Any, call: Any) -> Any:
    if not row.spoiled:
        return 0.0
    return jnp.where((worker == 1) & (call == 2), jnp.nan, 0.0)


def with_library(row: Row, place: Place, where: str) -> Any:
    """Parameters after the calls, on the devices of a mesh, or by vmap on one."""
    optimizer = place.build(OURS, row.make if row.around else row.make())
    optimizer = optax.with_extra_args_support(optimizer)

    def step(params: Any, state: Any, own: Any, worker: Any, call: Any) -> Any:
        local = qgenx.local_params(params, AXIS)
        v = vector(local, own, _spoiled(row, worker, call))
        moves, state = optimizer.update(v, state, params, **dict(row.extra))
        return optax.apply_updates(params, moves), state

    params: Any = START
    if where == "vmap":
        run = qgenx.map_workers(step, AXIS, workers=WORKERS)
        state = qgenx.init(optimizer, params, workers=WORKERS)
    else:
        mesh = mesh_of(WORKERS)
        run = qgenx.map_workers(step, AXIS, mesh=mesh)
        params = jax.device_put(params, NamedSharding(mesh, P()))
        state = qgenx.init(optimizer, params, mesh, AXIS)
    own = jax.tree.map(lambda *leaves: jnp.stack(leaves), *OWN)
    for call in range(CALLS):
        at = jnp.full(WORKERS, call)
        params, state = run(params, state, own, jnp.arange(WORKERS), at)
    return jax.device_get(params)


def without_library(row: Row, place: Place) -> Any:
    """The same by optax alone, from the means of the workers' vectors."""
    if place.own:
        optimizer = place.build(PLAIN, NOTHING)
        each = [row.make() for _ in range(WORKERS)]
    else:
        optimizer = place.build(PLAIN, row.make if row.around else row.make())
        each = [NOTHING] * WORKERS
    optimizer = optax.with_extra_args_support(optimizer)
    states = [t.init(START) for t in each]

    @jax.jit
    def step(params: Any, state: Any, states: Any, call: Any) -> Any:
        found = [
            t.update(vector(params, c, _spoiled(row, k, call)), s, params)
            for k, (t, c, s) in enumerate(zip(each, OWN, states, strict=True))
        ]
        mean = jax.tree.map(lambda *v: sum(v) / WORKERS, *[own for own, _ in found])
        moves, state = optimizer.update(mean, state, params, **dict(row.extra))
        return optax.apply_updates(params, moves), state, [s for _, s in found]

    params, state = START, optimizer.init(START)
    for call in range(CALLS):
        params, state, states = step(params, state, states, call)
    return jax.device_get(params)


def judged(find: Callable[[], Any], want: Callable[[], Any]) -> str:
    """What comes of running something: "right", "refused: words", or what is wrong."""
    try:
        found = find()
    except ValueError as error:
        text = " ".join(str(error).split())
        rule, got, way_out = text.partition(", got ")
        if not got or ": " not in way_out:
            return f"raises ValueError: {text[:300]}"
        return f"refused: {rule}"
    except Exception as error:
        return f"raises {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    off, moved = (_distance(found, tree) for tree in (want(), START))
    if not moved > 1e-3:
        return f"moves nothing: {moved}"
    return "right" if off < 2e-5 * max(1, moved) else f"wrong by {off}"


def _distance(tree: Any, other: Any) -> float:
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in leaves)


def verdict(row: str, place: str, on: str) -> str:
    """What a cell does, on a "mesh" or by "vmap"."""
    what, where = ROWS[row], place_of(row, place)
    found = judged(
        lambda: with_library(what, where, on), lambda: without_library(what, where)
    )
    if where.reason and found == "right" and not what.holds_back:
        return f"silent, though {where.reason}"
    return found
