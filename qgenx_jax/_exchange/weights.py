"""Weighted means: of workers that stand for other numbers of samples or tokens.

    sum_k w_k V_k / sum_k w_k = (1/K) sum_k (w_k V_k) * K / sum_k w_k

So a worker sends its vector times its weight, the weight rides in the same buffer, and
the mean is scaled on all workers alike. As E Q(w v) = w v, it stays unbiased.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks, _trees
from qgenx_jax._types import Array, AxisName, DualVector
from qgenx_jax._workers import axes


def checked(weight: Any, tree: DualVector, collective: str, axis_name: AxisName) -> Any:
    """A worker's weight, in the dtype of sums, as a number of its own.

    Raises:
        ValueError: if it is not one real number, is known to be negative or not finite,
            or the exchange is "hierarchical"; where somebody differentiates by it.
    """
    way_out = "pass for instance this worker's number of tokens"
    _checks.at_least_zero("weight", weight, way_out)
    refuse_hierarchical(collective)
    # a NumPy array that vmap maps over stays one until something is computed of it,
    # and JAX has no rule of derivatives for such a constant
    number = jnp.asarray(weight, dtype_of(tree)) * 1
    return _constant(axes.local_params(number, axis_name))


def refuse_hierarchical(collective: str) -> None:
    """Checks that an exchange can weigh.

    Raises:
        ValueError: if it is "hierarchical".
    """
    if collective == "hierarchical":
        rule = "must not be 'hierarchical' for weight=, whose hosts average unweighted"
        way_out = "choose 'auto', 'all_gather' or 'reduce_scatter'"
        raise _checks.refuse("collective", rule, collective, way_out)


@jax.custom_jvp
def _constant(weight: Array) -> Array:
    """The weight, which nobody may differentiate with respect to."""
    return weight


@_constant.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """Refuses: a derivative of 0 would be a wrong one, and say nothing."""
    del tangents
    raise _checks.refuse(
        "weight",
        "must be a constant to derivatives, which are those of the vectors",
        _checks.Text(jax.typeof(primals[0])),
        "pass jax.lax.stop_gradient(weight), or weigh the vectors themselves",
    )


def times(weight: Array, tree: DualVector) -> DualVector:
    """The tree times the weight, in dtypes of sums; 0 times what is not finite is 0."""

    def one(x: Array) -> Array:
        by = weight.astype(x.dtype)
        return jnp.where(by == 0, jnp.zeros_like(x), by * x)

    return jax.tree.map(one, _trees.widen(tree))


def factor(weights: Array) -> Array:
    """K / sum_k w_k, from all weights (K,); 1 if all are 0, NaN if one is no weight.

    NaN, too, where the sum overflows.
    """
    total = jnp.sum(weights)
    is_weight = jnp.all(weights >= 0) & jnp.isfinite(total)
    by = weights.size / jnp.where(total > 0, total, weights.size)
    return jnp.where(is_weight, by, jnp.nan)


def scaled(by: Array, tree: DualVector) -> DualVector:
    """The tree times what `factor` gave."""
    return jax.tree.map(lambda x: x * by.astype(x.dtype), tree)


def dtype_of(tree: DualVector) -> np.dtype:
    """In which a weight rides: float32, or float64 where a leaf is."""
    return _trees.widest(_trees.accumulator_dtype(x) for x in jax.tree.leaves(tree))


def widened(tree: Any) -> Any:
    """The shapes of a tree that was multiplied by a weight."""

    def one(x: Any) -> jax.ShapeDtypeStruct:
        dtype, placed = _trees.accumulator_dtype(x), getattr(x, "sharding", None)
        return jax.ShapeDtypeStruct(jnp.shape(x), dtype, sharding=placed)

    return jax.tree.map(one, tree)
