"""What is compared, by name, from the public names of the library."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import qgenx_jax as qgenx
from experiments.vi.golden import golden_ratio

AXIS = "data"
VARIANTS = ("dual_extrapolation", "optimistic", "dual_averaging")
SHORT = {"dual_extrapolation": "DE", "optimistic": "Opt", "dual_averaging": "DA"}


class Method(NamedTuple):
    """A method, of which a compiled program can be made.

    Attributes:
        name: in tables and legends.
        make: `make(step, key, projection)`: a pair, or an optax transformation. Step
            and key may be traced; the projection is a function of a point, or None.
        traffic: `traffic(params, workers)`: what a worker sends in an iteration.
    """

    name: str
    make: Callable[..., Any]
    traffic: Callable[[Any, int], qgenx.Traffic]


@functools.cache
def quantizer_of(name: str) -> qgenx.Quantizer | None:
    """From a name: "exact", or a family and its bits, "uniform 4", in one bucket.

    Raises:
        ValueError: for a name that is none.
    """
    if name == "exact":
        return None
    family, _, bits = name.partition(" ")
    made = {
        "uniform": lambda b: qgenx.uniform(b, bucket_size=None),
        "adaptive": lambda b: qgenx.adaptive(b, bucket_size=None),
        "best": qgenx.best,
        "dithered": lambda b: qgenx.dithered(b, bucket_size=None),
    }
    if family not in made or not bits.isdigit():
        raise ValueError(
            f"name must be exact, or of {', '.join(made)} and bits, got {name!r}; "
            "write for instance 'uniform 4'"
        )
    return made[family](int(bits))


@functools.cache
def q_genx(variant: str, quantizer: str = "exact", **settings: Any) -> Method:
    """Q-GenX; its step is gamma0. `settings` go to `qgenx_jax.q_genx`."""
    return of_quantizer(variant, quantizer, quantizer_of(quantizer), **settings)


def of_quantizer(variant: str, name: str, quantizer: Any, **settings: Any) -> Method:
    """Q-GenX with a quantizer, or a mapping of them, that is called so."""

    def make(step: Any, key: Any, projection: Any = None) -> Any:
        given = {"gamma0": step, "key": key, "projection": projection, **settings}
        return qgenx.q_genx(AXIS, quantizer, variant=variant, **given)

    def traffic(params: Any, workers: int) -> qgenx.Traffic:
        return make(1.0, 0).traffic(params, workers)

    return Method(f"{SHORT[variant]} {name}", make, traffic)


def planned(variant: str, name: str, plan: qgenx.Plan) -> Method:
    """Q-GenX whose leaves have the quantizers of a plan."""

    def make(step: Any, key: Any, projection: Any = None) -> Any:
        exchange = plan.exchange(AXIS, key=key)
        given = {"gamma0": step, "projection": projection}
        return qgenx.q_genx(exchange, variant=variant, **given)

    def traffic(params: Any, workers: int) -> qgenx.Traffic:
        return make(1.0, 0).traffic(params, workers)

    return Method(f"{SHORT[variant]} {name}", make, traffic)


def _baseline(
    name: str, after: Callable[..., Any], quantizer: str = "exact", calls: int = 1
) -> Method:
    """A mean over the workers, and what is done with it."""

    def mean(key: Any) -> Any:
        settings = {"collective": "once", "exact": qgenx.no_leaves, "key": key}
        return qgenx.quantized_mean(AXIS, quantizer_of(quantizer), **settings)

    def make(step: Any, key: Any, projection: Any = None) -> Any:
        then = after(step, projection)
        chain = qgenx.chain if calls == 2 else optax.chain
        return chain(mean(key), then)

    def traffic(params: Any, workers: int) -> qgenx.Traffic:
        once = mean(0).traffic(params, workers)
        return once._replace(
            sent_bytes=calls * once.sent_bytes, payload_bytes=calls * once.payload_bytes
        )

    return Method(name, make, traffic)


def projected(
    base: optax.GradientTransformation, projection: Callable[[Any], Any] | None
) -> optax.GradientTransformation:
    """The steps of an optax optimizer, each ended on a set: x <- P(x + u)."""
    if projection is None:
        return base

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = base.update(updates, state, params)
        goal = projection(optax.apply_updates(params, updates))
        return jax.tree.map(jnp.subtract, goal, params), state

    return optax.GradientTransformation(base.init, update)


def _sgda(step: Any, on: Any) -> Any:
    return projected(optax.sgd(step), on)


def _adam(step: Any, on: Any) -> Any:
    return projected(optax.adam(step, 0.5, 0.9), on)


def _extra_sgd(step: Any, on: Any) -> Any:
    return qgenx.extra_sgd(step, projection=on)


def _extra_adam(step: Any, on: Any) -> Any:
    return qgenx.extra_adam(step, 0.5, 0.9, projection=on)


def _optimistic(step: Any, on: Any) -> Any:
    return qgenx.optimistic(optax.sgd(step), projection=on)


def _golden(step: Any, on: Any) -> Any:
    return golden_ratio(step, projection=on)


BASELINES = {
    method.name: method
    for method in (
        _baseline("SGDA", _sgda),
        _baseline("QSGDA 8 bits", _sgda, "uniform 8"),
        _baseline("extra-gradient", _extra_sgd, calls=2),
        _baseline("optimistic", _optimistic),
        _baseline("ExtraAdam", _extra_adam, calls=2),
        _baseline("Adam", _adam),
        _baseline("golden ratio", _golden),
    )
}
"""What Q-GenX is compared with, by name; the step is their learning rate, lambda_0."""


def is_pair(method: Any) -> bool:
    """Whether it is made of two half-steps."""
    return isinstance(method, qgenx.ExtragradientPair)


def gamma_of(state: Any) -> Any:
    """gamma_{t+1} in a state with Q-GenX in it; NaN in others."""
    kind = qgenx.QGenXState
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kind))
    return next((node.gamma for node in nodes if isinstance(node, kind)), float("nan"))
