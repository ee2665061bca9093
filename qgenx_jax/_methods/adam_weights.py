"""What an error of a coordinate does to a step of Adam, as its state knows it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.known_leaves import overlaid
from qgenx_jax._types import State

_KIND = "optax.ScaleByAdamState"


def adam_weights(state: State, *, b2: float = 0.999, eps: float = 1e-8) -> Any:
    """1 / (sqrt(v / (1 - b2^t)) + eps), by which Adam multiplies a small error.

    As `weights=` of `plan_bits` it makes the plan for the variance of Adam's moves in
    place of that of the vectors: to first order, errors of the moments left out. The
    weight of a coordinate that never had a gradient is 1 / eps, where Adam itself would
    divide by the error: take a larger eps if there are such.

    Args:
        state: any state with Adam's in it: of optax.adam, of a pair or an `alternating`
            around it, within optax.chain or optax.partition; outside the mapped
            function. Where several know different leaves each says its own.
        b2: decay of the second moments v, as the optimizer has it: for `extra_adam`
            with b2=0.9, 0.9. The state does not hold it.
        eps: as the optimizer has it.

    Returns:
        A tree like the parameters, float32 or float64.

    Raises:
        ValueError: if the state has none of Adam, several that know one leaf, leaves
            that none knows, is traced or before its first step, or b2 is not in [0, 1)
            or eps negative.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = optax.adam(1e-3)
        >>> params = {"a": jnp.ones(2), "b": jnp.ones(2)}
        >>> vector = {"a": jnp.full(2, 4.0), "b": jnp.full(2, 0.5)}
        >>> _, state = optimizer.update(vector, optimizer.init(params), params)
        >>> {k: w.tolist() for k, w in qgenx.adam_weights(state).items()}
        {'a': [0.25, 0.25], 'b': [2.0, 2.0]}

    References:
        Kingma and Ba, Adam, ICLR 2015.
    """
    rule, way_out = "must be a number in [0, 1)", "give the optimizer's"
    b2 = _checks.real_number("b2", b2, rule, lambda x: 0 <= x < 1, way_out)
    eps = _checks.at_least_zero("eps", eps, way_out)
    found = _trees.find(state, optax.ScaleByAdamState)
    way_out = "pass the state of an optimizer with optax.adam, or weights of your own"
    if not found:
        rule = f"must contain an {_KIND}"
        raise _checks.refuse("state", rule, _checks.Text("0 of them"), way_out)
    weights = overlaid([_of_one(adam, b2, eps) for adam in found], _KIND, way_out)
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights, is_leaf=_is_hidden):
        if _is_hidden(leaf):
            name = _checks.leaf_name(path, "the parameters")
            rule = f"must contain an {_KIND} that knows {name}"
            raise _checks.refuse("state", rule, _checks.Text("0 of them"), way_out)
    return weights


def _is_hidden(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _of_one(adam: optax.ScaleByAdamState, b2: float, eps: float) -> Any:
    """Of the leaves that one of them knows."""
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(adam)):
        rule, way_out = "must be known", "plan outside of jit, once, before the steps"
        raise _checks.refuse("state", rule, _checks.Text("a traced one"), way_out)
    count = int(np.max(np.asarray(adam.count)))
    if count < 1:
        rule, way_out = "must be that after a step at least", "make some steps first"
        raise _checks.refuse("state", rule, _checks.Text("0 steps"), way_out)
    correction = 1 - float(b2) ** count
    return jax.tree.map(
        lambda v: 1 / (jnp.sqrt(v / correction) + eps), _trees.widen(adam.nu)
    )
