"""Where an optimizer stands: X_t and X_{t+1/2}, from any state with a pair in it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.alternating import AlternatingState
from qgenx_jax._methods.extragradient import ExtragradientState
from qgenx_jax._methods.known_leaves import filled, hidden_like, overlaid
from qgenx_jax._methods.pair import (
    EXTRAPOLATION,
    UPDATE,
    BeforeExtrapolation,
    BeforeUpdate,
    pick,
)
from qgenx_jax._methods.q_genx_state import QGenXState
from qgenx_jax._methods.skip_not_finite import SkipNotFiniteState
from qgenx_jax._types import Params, State

_TURNS = (AlternatingState, BeforeExtrapolation, BeforeUpdate)
_PAIRS = (QGenXState, ExtragradientState)
_WAY_OUT = "pass the parameters that go with this state"


def x_t(state: State, params: Params) -> Params:
    """X_t, the point that the iteration in progress started from.

    With `alternating` the parameters are where the next dual vector is wanted, which is
    X_{t+1/2} for an oracle-free pair, and after every other call for the others. This
    reads X_t, to evaluate or to export it. Leaves that optax.masked or optax.partition
    hide from the pair did not move by it: they are the parameters themselves. Where
    optax.partition has a pair for each player, each says it of its own leaves.

    Args:
        state: an `alternating` optimizer's state, also within other states, or a
            pair's; outside the mapped function or inside.
        params: all the parameters that go with it.

    Returns:
        For `q_genx` X_1 + gamma_t Y_t, or its projection, for `extragradient` its
        anchor or params; in the dtypes of params.

    Raises:
        ValueError: unless the state contains exactly one `q_genx` or `extragradient`,
            of such parameters, or several that share no leaf.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.alternating(qgenx.extra_sgd(0.5))
        >>> x = jnp.array([1.0, 2.0])
        >>> state = optimizer.init(x)
        >>> delta, state = optimizer.update(x, state, x)
        >>> x = optax.apply_updates(x, delta)
        >>> x, qgenx.x_t(state, x)
        (Array([0.5, 1. ], dtype=float32), Array([1., 2.], dtype=float32))
    """
    return _of_each_part(state, params, _start_of_part)


def x_half(state: State, params: Params) -> Params:
    """X_{t+1/2}, the leading point, between an extrapolation and its update.

    The parameters themselves then; for an oracle-free pair in `alternating` always, for
    the others after every other call. After an update X_{t+1/2} is kept by nobody.

    Args:
        state: as in `x_t`.
        params: the parameters that go with it.

    Returns:
        The parameters; where a traced state is not at X_{t+1/2}, NaN in the leaves of
        that pair.

    Raises:
        ValueError: as `x_t`, and if the next call of a pair is an extrapolation, as far
            as that is known.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.alternating(qgenx.extra_sgd(0.5))
        >>> x = jnp.array([1.0, 2.0])
        >>> delta, state = optimizer.update(x, optimizer.init(x), x)
        >>> qgenx.x_half(state, optax.apply_updates(x, delta))
        Array([0.5, 1. ], dtype=float32)
    """
    return _of_each_part(state, params, _half_of_part)


def _of_each_part(
    state: State, params: Params, read: Callable[[State, Any, Params], Params]
) -> Params:
    """What each pair in a state says of its leaves; else the parameters themselves.

    Args:
        state: with one pair for each leaf at most.
        params: all of them.
        read: of the outermost state that knows which half-step comes next, the pair's
            own, and its parameters.
    """
    parts = []
    for outer in _trees.find(state, (*_TURNS, *_PAIRS)):
        for inner in _trees.find(outer, _PAIRS):
            own = hidden_like(params, inner.anchor, _WAY_OUT)
            parts.append(read(outer, inner, own))
    kind, way_out = (
        "QGenXState or ExtragradientState",
        "pass the state of one alternating optimizer, or of one pair",
    )
    if not parts:
        found = _checks.Text("0 of them")
        rule = f"must contain exactly one {kind}"
        raise _checks.refuse("state", rule, found, way_out)
    return filled(overlaid(parts, kind, way_out), params)


def _start_of_part(outer: State, inner: Any, params: Params) -> Params:
    """X_t of one pair's leaves."""
    if isinstance(inner, QGenXState) and inner.point is not None:
        return inner.point
    if isinstance(inner, QGenXState):
        moved = jax.tree.map(
            lambda a, y: a + inner.gamma.astype(y.dtype) * y,
            _trees.widen(inner.anchor),
            inner.dual,
        )
        return _trees.cast_like(moved, params)
    guards = _trees.find(outer, SkipNotFiniteState)
    known = [guard.anchor for guard in guards if guard.anchor is not None]
    # a bad extrapolation has left the pair's own anchor where it was
    anchor = _trees.cast_like(known[0] if known else inner.anchor, params)
    return pick(_half_step(outer), lambda: params, lambda: anchor)


def _half_of_part(outer: State, inner: Any, params: Params) -> Params:
    """X_{t+1/2} of one pair's leaves, where they are there."""
    del inner
    half_step = _half_step(outer)
    if isinstance(half_step, Tracer):
        nowhere = lambda: jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)  # noqa: E731
        return pick(half_step, nowhere, lambda: params)
    if half_step != UPDATE:
        raise _checks.refuse(
            "state",
            "must be that between an extrapolation and its update",
            _checks.Text("one before an extrapolation"),
            "read X_{t+1/2} one call earlier, or X_t by qgenx_jax.x_t",
        )
    return params


def _half_step(outer: State) -> Any:
    """The half-step that comes next, as the outermost state that knows it says."""
    if isinstance(outer, AlternatingState):
        return outer.half_step
    if not isinstance(outer, _TURNS):
        raise _checks.refuse(
            "state",
            "must say which half-step comes next",
            _checks.Text(f"a bare {type(outer).__name__}"),
            "pass the whole state of the pair, or of alternating",
        )
    return UPDATE if isinstance(outer, BeforeUpdate) else EXTRAPOLATION
