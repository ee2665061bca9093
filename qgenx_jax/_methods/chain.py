"""Plain transformations, a pair and observers put together as one pair."""

from collections.abc import Callable
from typing import Any

import optax

from qgenx_jax import _checks
from qgenx_jax._exchange.quantized_mean import QuantizedMean
from qgenx_jax._methods.exchanging import Carried, ExchangingPair
from qgenx_jax._methods.inner import Plain, check_plain
from qgenx_jax._methods.pair import (
    ExtragradientPair,
    Observer,
    Step,
    make_pair,
    step_of,
)
from qgenx_jax._types import DualVector, HalfStep, Params, State


def chain(
    *transformations: optax.GradientTransformation | ExtragradientPair,
) -> ExtragradientPair:
    """Plain transformations, a pair, and observers, as one pair.

    Every plain transformation before the pair acts on each oracle vector, in order,
    with one state for both half-steps (an extrapolation that takes no vector passes
    them by). After the pair come only observers (`ergodic_average`, `ema`).

    Args:
        *transformations: plain optax transformations, then one pair, then observers.

    Returns:
        The pair; oracle-free if the pair in it is. With an exchange in it, its
        `exchange`, and `traffic(params, workers)`, the bytes of an iteration.

    Raises:
        ValueError: unless there is exactly one pair that is not an observer, with no
            `quantized_mean` before it if it is `q_genx`, which exchanges itself, with
            nothing but observers after it and no observers before it. A plain
            transformation after a pair would scale a difference of points, which is
            silently wrong. At init, or at the update where it cannot be known before,
            if a plain transformation may skip an update (optax.MultiSteps,
            optax.apply_if_finite, one's own), as its trace says: such go around the
            whole.

    Example:
        >>> import optax, qgenx_jax as qgenx
        >>> pair = qgenx.chain(
        ...     qgenx.quantized_mean("data", qgenx.uniform(bits=4)),
        ...     optax.clip_by_global_norm(1.0),
        ...     qgenx.extra_adam(2e-4, b1=0.5, b2=0.9),
        ...     qgenx.ema(0.999),
        ... )
    """
    places = [_kind(index, t) for index, t in enumerate(transformations)]
    if places.count("pair") != 1 or places != sorted(places, key=_ORDER.index):
        raise _checks.refuse(
            "transformations",
            "must be plain optax transformations, then exactly one extra-gradient "
            "pair, then only observers (ergodic_average, ema)",
            _checks.Text(places),
            "put clipping, scaling and quantized_mean before the pair; use optax.chain "
            "where there is no pair",
        )
    exchanges = [
        t for t in transformations if isinstance(t, ExchangingPair | QuantizedMean)
    ]
    if len(exchanges) > 1:
        found = _checks.Text(f"{len(exchanges)} exchanges")
        rule = "must exchange once, by quantized_mean or by q_genx"
        raise _checks.refuse("transformations", rule, found, "leave quantized_mean out")
    steps: list[tuple[bool, Step]] = []
    inits: list[Callable[[Params], State]] = []
    for index, transformation in enumerate(transformations):
        if isinstance(transformation, ExtragradientPair):
            steps.append((False, step_of(transformation)))
            observed = places.count("observer") > 0
            inits.append(_init_of(transformation, observed))
        else:
            trusted = isinstance(transformation, QuantizedMean)
            plain = Plain(_name(index), transformation, trusted=trusted)
            steps.append((True, _lift(plain)))
            inits.append(plain.init)
    oracle_free = any(
        t.is_oracle_free for t in transformations if isinstance(t, ExtragradientPair)
    )

    def init_fn(params: Params) -> tuple[State, ...]:
        return tuple(init(params) for init in inits)

    def step_fn(
        updates: DualVector | None,
        state: tuple[State, ...],
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[Params, tuple[State, ...]]:
        if updates is not None:
            _checks.inexact_leaves("updates", updates)
        new_states = []
        if not isinstance(state, tuple) or len(state) != len(steps):
            rule = f"must hold {len(steps)} states, one for each of the chain"
            way_out = "make the state by init of this very chain"
            raise _checks.refuse("state", rule, type(state).__name__, way_out)
        for (is_plain, step), inner in zip(steps, state, strict=True):
            if not (is_plain and updates is None):  # no vector, nothing to transform
                updates, inner = step(
                    updates, inner, params, half_step=half_step, **extra
                )
            new_states.append(inner)
        return updates, tuple(new_states)

    if not exchanges:
        return make_pair(init_fn, step_fn, oracle_free=oracle_free)
    (one,) = exchanges
    # q_genx knows what rides along; a mean before a pair sends each oracle vector
    calls = 1 if oracle_free else 2
    carried = Carried(one.exchange, (False,) * calls)
    if isinstance(one, ExchangingPair):
        carried = Carried(one.exchange, one.rides, one.constraint)
    return make_pair(
        init_fn, step_fn, ExchangingPair, oracle_free=oracle_free, carried=carried
    )


_ORDER = ("plain", "pair", "observer")


def _kind(index: int, transformation: Any) -> str:
    if isinstance(transformation, Observer):
        return "observer"
    if isinstance(transformation, ExtragradientPair):
        return "pair"
    check_plain(
        _name(index),
        transformation,
        "pass what a factory returns, or a whole pair; alternating, accumulate and "
        "skip_not_finite go around the chain",
    )
    return "plain"


def _name(index: int) -> str:
    return f"transformation {index}"


def _init_of(pair: ExtragradientPair, observed: bool) -> Callable[[Params], State]:
    def init_fn(params: Params) -> State:
        state = pair.init(params).inner
        if observed and hasattr(type(state), "of_a_whole"):
            raise _checks.refuse(
                "transformations",
                "must have its observers inside what skips iterations, which they "
                "would count",
                _checks.Text("skip_not_finite(pair), then an observer"),
                "write qgenx_jax.skip_not_finite(qgenx_jax.chain(pair, ema(...)))",
            )
        return state

    return init_fn


def _lift(plain: Plain) -> Step:
    """A plain transformation as a step that is the same at both half-steps."""

    def step_fn(
        updates: DualVector,
        state: State,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[DualVector, State]:
        del half_step
        return plain.update(updates, state, params, **extra)

    return step_fn
