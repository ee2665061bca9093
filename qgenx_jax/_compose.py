"""Pairs put together and driven: chain, alternating, iterate."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks, _operators, _workers
from qgenx_jax._pair import (
    EXTRAPOLATION,
    UPDATE,
    ExtragradientPair,
    Observer,
    Step,
    given,
    make_pair,
    step_of,
)
from qgenx_jax._plain import Whole, check_plain, plain_update
from qgenx_jax._qgenx import ExchangingPair
from qgenx_jax._quantized_mean import QuantizedMean
from qgenx_jax._types import Array, AxisName, DualVector, HalfStep, Params, State


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
        The pair; oracle-free if the pair in it is.

    Raises:
        ValueError: unless there is exactly one pair that is not an observer, with no
            `quantized_mean` before it if it is `q_genx`, which exchanges itself, with
            nothing but observers after it and no observers before it. A plain
            transformation after a pair would scale a difference of points, which is
            silently wrong.

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
    exchanging = [
        isinstance(t, (ExchangingPair, QuantizedMean)) for t in transformations
    ]
    if sum(exchanging) > 1:
        found = _checks.Text(f"{sum(exchanging)} exchanges")
        rule = "must exchange once, by quantized_mean or by q_genx"
        raise _checks.refuse("transformations", rule, found, "leave quantized_mean out")
    steps: list[tuple[bool, Step]] = []
    for transformation in transformations:
        if isinstance(transformation, ExtragradientPair):
            steps.append((False, step_of(transformation)))
        else:
            steps.append((True, _lift(transformation)))
    oracle_free = any(
        t.is_oracle_free for t in transformations if isinstance(t, ExtragradientPair)
    )

    def init_fn(params: Params) -> tuple[State, ...]:
        return tuple(
            t.init(params).inner if isinstance(t, ExtragradientPair) else t.init(params)
            for t in transformations
        )

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
        for (plain, step), inner in zip(steps, state, strict=True):
            if not (plain and updates is None):  # no vector, nothing to transform
                updates, inner = step(
                    updates, inner, params, half_step=half_step, **extra
                )
            new_states.append(inner)
        return updates, tuple(new_states)

    return make_pair(init_fn, step_fn, oracle_free=oracle_free)


_ORDER = ("plain", "pair", "observer")


def _kind(index: int, transformation: Any) -> str:
    if isinstance(transformation, Observer):
        return "observer"
    if isinstance(transformation, ExtragradientPair):
        return "pair"
    check_plain(
        f"transformation {index}",
        transformation,
        "pass what a factory returns, or a whole pair; alternating and accumulate go "
        "around the chain",
    )
    return "plain"


def _lift(transformation: optax.GradientTransformation) -> Step:
    """A plain transformation as a step that is the same at both half-steps."""
    update = plain_update(transformation)

    def step_fn(
        updates: DualVector,
        state: State,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[DualVector, State]:
        del half_step
        return update(updates, state, params, **extra)

    return step_fn


class AlternatingState(NamedTuple):
    """State of `alternating`.

    Attributes:
        half_step: 0 if the next call is an extrapolation, 1 if it is an update, int32;
            always 1 for an oracle-free pair.
        inner: the pair's shared state.
    """

    half_step: Array
    inner: State


def alternating(pair: ExtragradientPair) -> optax.GradientTransformationExtraArgs:
    """One optax transformation for a pair: one dual vector in, one move out, per call.

    The parameters are always where the next vector is wanted, so this drops into any
    training loop written for optax.

    - Dual extrapolation and `extragradient`: calls take turns, X_t -> X_{t+1/2} ->
      X_{t+1}; an iteration is two calls, and parameters are X_t after an even number.
    - An oracle-free pair (dual averaging, optimistic): a call is an update and the next
      extrapolation together, X_{t+1/2} -> X_{t+3/2}; an iteration is one call.

    Args:
        pair: from `q_genx`, `extragradient` or `chain`.

    Returns:
        The transformation. `params` must be given to its update.

    Raises:
        ValueError: if the argument is not such a pair; at the update, without params.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.alternating(qgenx.extra_sgd(0.5))
        >>> rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> x = jnp.array([1.0, 0.0])
        >>> state = optimizer.init(x)
        >>> for _ in range(2):  # two half-steps: one iteration
        ...     delta, state = optimizer.update(rotation @ x, state, x)
        ...     x = optax.apply_updates(x, delta)
        >>> x
        Array([0.75, 0.5 ], dtype=float32)
    """
    step = step_of(pair, may_observe=False)
    first = UPDATE if pair.is_oracle_free else EXTRAPOLATION

    def init_fn(params: Params) -> AlternatingState:
        inner = pair.init(params).inner
        if pair.is_oracle_free:
            # at t = 1 there is no earlier vector: X_{1+1/2} = X_1, but observers see it
            _, inner = step(None, inner, params, half_step=EXTRAPOLATION)
        return AlternatingState(jnp.asarray(first, jnp.int32), inner)

    def update_fn(
        updates: DualVector,
        state: State,
        params: Params | None = None,
        **extra: Any,
    ) -> tuple[Params, AlternatingState]:
        params = given(params)
        way_out = "make it by init of this very alternating optimizer"
        _checks.instance_of("state", state, AlternatingState, way_out)
        if not pair.is_oracle_free:
            delta, inner = step(
                updates, state.inner, params, half_step=state.half_step, **extra
            )
            return delta, AlternatingState(1 - state.half_step, inner)
        to_next, inner = step(updates, state.inner, params, half_step=UPDATE, **extra)
        x_next: Params = jax.tree.map(jnp.add, params, to_next)
        to_half, inner = step(None, inner, x_next, half_step=EXTRAPOLATION, **extra)
        delta = jax.tree.map(jnp.add, to_next, to_half)
        return delta, AlternatingState(state.half_step, inner)

    return Whole(init_fn, update_fn)


def iterate(
    pair: ExtragradientPair,
    operator: Callable[..., Any],
    *,
    axis_name: AxisName = None,
    has_aux: bool = False,
) -> Callable[..., tuple]:
    """One whole iteration as a plain function: one or two oracle calls, X_t -> X_{t+1}.

    Args:
        pair: from `q_genx`, `extragradient` or `chain`.
        operator: the oracle, `operator(params, *batch) -> dual vector`; a worker's own.
        axis_name: the axis over workers; the operator then gets `local_params` (see
            there), which operators that use jax.grad need in jax.shard_map.
        has_aux: whether the operator returns (dual vector, aux).

    Returns:
        `step(params, state, *inputs) -> (params, state)`, and aux last with `has_aux`.
        Each input has a leading axis of one batch per oracle call: 1 for an oracle-free
        pair, else 2, a fresh batch for each half-step. So has aux, stacked.

    Raises:
        ValueError: if the argument is not such a pair; when called, if an input's
            leading axis is not the number of oracle calls.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> pair = qgenx.extra_sgd(0.5)
        >>> step = qgenx.iterate(pair, lambda x: rotation @ x)
        >>> x = jnp.array([1.0, 0.0])
        >>> x, state = step(x, pair.init(x))
        >>> x
        Array([0.75, 0.5 ], dtype=float32)
    """
    step_of(pair, may_observe=False)  # raises where it is none
    _checks.function("operator", operator, "of params and a batch", "pass the oracle")
    calls = 1 if pair.is_oracle_free else 2

    def oracle(params: Params, batch: tuple) -> tuple[DualVector, Any]:
        if axis_name is not None:
            params = _workers.local_params(params, axis_name)
        result = operator(params, *batch)
        return _operators.with_aux("operator", result) if has_aux else (result, None)

    def step_fn(params: Params, state: State, *inputs: Any) -> tuple:
        _checks.leading_axis(
            "the inputs",
            inputs,
            calls,
            "oracle call",
            "stack one batch for each half-step that needs a vector",
        )
        vector: Any = None
        auxes = []
        if not pair.is_oracle_free:
            vector, aux = oracle(params, jax.tree.map(lambda x: x[0], inputs))
            auxes.append(aux)
        delta, state = pair.extrapolation.update(vector, state, params)
        half = optax.apply_updates(params, delta)
        vector, aux = oracle(half, jax.tree.map(lambda x: x[calls - 1], inputs))
        auxes.append(aux)
        delta, state = pair.update.update(vector, state, half)
        params = optax.apply_updates(half, delta)
        if not has_aux:
            return params, state
        return params, state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *auxes)

    return step_fn
