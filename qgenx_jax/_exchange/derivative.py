"""The derivative of an exchange: straight through, as if nothing were rounded.

Rounding is constant almost everywhere, so its own derivative is 0, and says nothing of
its mean. As E Q(v) = v, the expectation of an exchange is the exact mean, whose
derivative is known:

    d mean = (1/K) sum_k d v_k        d own_k = d v_k

Values get it by a rule of their own, and are in the program what they are without.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from qgenx_jax import _trees
from qgenx_jax._types import AxisName
from qgenx_jax._workers import axes, collectives


def constant(tree: Any) -> Any:
    """A tree without a derivative, so that no coder is differentiated."""
    return jax.tree.map(jax.lax.stop_gradient, tree)


def of_mean(mean: Any, tree: Any, axis_name: AxisName) -> Any:
    """`mean`, with the derivative of the mean over workers of `tree`."""
    return _of_mean(mean, _arrays(tree), axis_name)


def of_own(own: Any, tree: Any) -> Any:
    """`own`, with the derivative of `tree`."""
    return _of_own(own, _arrays(tree))


def _arrays(tree: Any) -> Any:
    """A tree without NumPy arrays: of one that vmap maps over JAX makes no constant.

    It stays one until something is computed of it.
    """
    return jax.tree.map(lambda x: jnp.asarray(x) * 1, tree)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _of_mean(mean: Any, tree: Any, axis_name: AxisName) -> Any:
    del tree, axis_name
    return mean


@_of_mean.defjvp
def _(axis_name: AxisName, primals: Any, tangents: Any) -> tuple[Any, Any]:
    (mean, _), (_, tree) = primals, tangents
    total = collectives.all_reduce(_trees.cast_like(tree, mean), axis_name)
    workers = axes.axis_size(axis_name)
    return mean, jax.tree.map(lambda x: x / workers, total)


@jax.custom_jvp
def _of_own(own: Any, tree: Any) -> Any:
    del tree
    return own


@_of_own.defjvp
def _(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (own, _), (_, tree) = primals, tangents
    return own, _trees.cast_like(tree, own)
