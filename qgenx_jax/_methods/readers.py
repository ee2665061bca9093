"""Where an optimizer stands: X_t and X_{t+1/2}, from any state with a pair in it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.alternating import AlternatingState
from qgenx_jax._methods.extragradient import ExtragradientState
from qgenx_jax._methods.pair import (
    EXTRAPOLATION,
    UPDATE,
    BeforeExtrapolation,
    BeforeUpdate,
    pick,
)
from qgenx_jax._methods.q_genx import QGenXState
from qgenx_jax._methods.skip_not_finite import SkipNotFiniteState
from qgenx_jax._types import Params, State


def x_t(state: State, params: Params) -> Params:
    """X_t, the point that the iteration in progress started from.

    With `alternating` the parameters are where the next dual vector is wanted, which is
    X_{t+1/2} for an oracle-free pair, and after every other call for the others. This
    reads X_t, to evaluate or to export it.

    Args:
        state: an `alternating` optimizer's state, also within other states, or a
            pair's; outside the mapped function or inside.
        params: the parameters that go with it.

    Returns:
        For `q_genx` X_1 + gamma_t Y_t, for `extragradient` its anchor or params; in the
        dtypes of params.

    Raises:
        ValueError: unless the state contains exactly one `q_genx` or `extragradient`,
            of such parameters.

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
    found = _trees.find(state, (QGenXState, ExtragradientState))
    if len(found) != 1:
        raise _checks.refuse(
            "state",
            "must contain exactly one QGenXState or ExtragradientState",
            _checks.Text(f"{len(found)} of them"),
            "pass the state of one alternating optimizer, or of one pair",
        )
    (inner,) = found
    way_out = "pass the parameters that go with this state"
    _checks.same_structure("params", params, "the state", inner.anchor, way_out)
    if isinstance(inner, QGenXState):
        moved = jax.tree.map(
            lambda a, y: a + inner.gamma.astype(y.dtype) * y,
            _trees.widen(inner.anchor),
            inner.dual,
        )
        return _trees.cast_like(moved, params)
    guards = _trees.find(state, SkipNotFiniteState)
    known = [guard.anchor for guard in guards if guard.anchor is not None]
    # a bad extrapolation has left the pair's own anchor where it was
    anchor = _trees.cast_like(known[0] if known else inner.anchor, params)
    return pick(_half_step(state), lambda: params, lambda: anchor)


def x_half(state: State, params: Params) -> Params:
    """X_{t+1/2}, the leading point, between an extrapolation and its update.

    The parameters themselves then; for an oracle-free pair in `alternating` always, for
    the others after every other call. After an update X_{t+1/2} is kept by nobody.

    Args:
        state: as in `x_t`.
        params: the parameters that go with it.

    Returns:
        The parameters; where a traced state is not at X_{t+1/2}, NaN.

    Raises:
        ValueError: if the next call is an extrapolation, as far as that is known.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.alternating(qgenx.extra_sgd(0.5))
        >>> x = jnp.array([1.0, 2.0])
        >>> delta, state = optimizer.update(x, optimizer.init(x), x)
        >>> qgenx.x_half(state, optax.apply_updates(x, delta))
        Array([0.5, 1. ], dtype=float32)
    """
    half_step = _half_step(state)
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


def _half_step(state: State) -> Any:
    """The half-step that comes next, as the outermost state that knows it says."""
    kinds = (AlternatingState, BeforeExtrapolation, BeforeUpdate)
    (outer, *_) = _trees.find(state, kinds) or [None]
    if isinstance(outer, AlternatingState):
        return outer.half_step
    if outer is None:
        raise _checks.refuse(
            "state",
            "must say which half-step comes next",
            _checks.Text("a bare ExtragradientState"),
            "pass the whole state of the pair, or of alternating",
        )
    return UPDATE if isinstance(outer, BeforeUpdate) else EXTRAPOLATION
