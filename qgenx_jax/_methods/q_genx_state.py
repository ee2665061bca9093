"""The state of Q-GenX, and whether a state is that of this configuration."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qgenx_jax import _checks
from qgenx_jax._exchange.state import ExchangeState
from qgenx_jax._types import Array, Params, State
from qgenx_jax._workers import reshard


class QGenXState(NamedTuple):
    """State of `q_genx`.

    Attributes:
        anchor: X_1, a copy of the first parameters.
        dual: Y_t, float32 at least; 0 at t = 1. Where gamma0 is a number for each
            player, W Y_t, see there.
        gamma: the step size that made X_t = X_1 + gamma_t Y_t, a scalar; 0 at t = 1.
        extrapolation: optimistic only, else None: the coming extrapolation's move,
            -(gamma_t / K) sum_k V_{k,t-1/2}, times W likewise; 0 at t = 1.
        per_worker: this worker's own quantized vector, with a leading worker axis:
            optimistic V_{k,t-1/2}, dual extrapolation V_{k,t} between the half-steps.
            None where the step size does not need it.
        step_size: state of the rule for gamma_t.
        exchange: state of the exchange.
        point: X_t, where there are constraints; else None.
    """

    anchor: Params
    dual: Params
    gamma: Array
    extrapolation: Params | None
    per_worker: Params | None
    step_size: State
    exchange: ExchangeState
    point: Params | None = None
    reshard_rule = staticmethod(reshard.zeros)


def like_of(
    *,
    optimistic: bool,
    keeps_own: bool,
    is_constrained: bool,
    step_size: State,
    exchange: Any,
) -> QGenXState:
    """The fields of a state of this configuration, whatever the parameters."""
    return QGenXState(
        anchor=(),
        dual=(),
        gamma=jnp.zeros(()),
        extrapolation=() if optimistic else None,
        per_worker=() if keeps_own else None,
        step_size=step_size,
        exchange=exchange,
        point=() if is_constrained else None,
    )


def check_state(state: Any, params: Params, like: QGenXState) -> None:
    """Checks that a state is that of this configuration, and these parameters.

    Raises:
        ValueError: naming the field that does not fit.
    """
    way_out = "make the state by init of this very pair"
    if not isinstance(state, QGenXState):
        found = _checks.Text(type(state).__name__)
        raise _checks.refuse("state", "must be a QGenXState", found, way_out)
    for field, mine, wanted in zip(state._fields, state, like, strict=True):
        is_tree_of_params = field not in ("gamma", "step_size", "exchange")
        if is_tree_of_params:
            fits = (mine is None) == (wanted is None)
        else:
            fits = type(mine) is type(wanted)
            if field != "exchange":  # which checks the rest of its own
                fits = jax.tree.structure(mine) == jax.tree.structure(wanted)
        if not fits:
            kind = "a tree" if is_tree_of_params else type(wanted).__name__
            rule = f"must be {'None' if wanted is None else kind}"
            raise _checks.refuse(
                f"state.{field}",
                f"{rule} for this variant and step size",
                _checks.Text(type(mine).__name__),
                way_out,
            )
    _checks.same_structure("params", params, "state.anchor", state.anchor, way_out)
    if state.per_worker is not None:
        _checks.own_leaves("state.per_worker", state.per_worker)
