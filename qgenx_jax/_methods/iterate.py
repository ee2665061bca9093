"""A pair as a plain function that takes whole iterations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks
from qgenx_jax._methods.pair import ExtragradientPair, step_of
from qgenx_jax._types import AxisName, DualVector, Params, State
from qgenx_jax._workers.axes import local_params
from qgenx_jax.problems.games import with_aux


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
            params = local_params(params, axis_name)
        result = operator(params, *batch)
        return with_aux("operator", result) if has_aux else (result, None)

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
