"""The error of a quantizer on a tree of one's own."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax.bounds.given_vector import exact_variance


def error(
    tree: Any,
    quantizer: Quantizer,
    *,
    exact: Callable[[str, jax.ShapeDtypeStruct], bool] | None = None,
    levels: Any = None,
) -> Any:
    """E ||Q(v) - v||_2^2 / ||v||_2^2 of a tree, a gradient say, over all roundings.

    What one worker's rounding adds, as a share of what there is: of the mean over K
    workers a K-th of it or less. 0.01 is a signal-to-noise ratio of 20 dB.

    Args:
        tree: of real floating-point arrays; leaves are rounded as one vector, one after
            the other, as an exchange rounds them.
        quantizer: one of the library's.
        exact: leaves that would travel exact, by path and shape, for instance
            `qgenx_jax.small_leaves`; they add no error. None for none.
        levels: those that an exchange has fitted, `ExchangeState.levels["all"]`, of a
            quantizer that fits them; else None.

    Returns:
        One number; in `jax.jit` a traced one. NaN of zeros.

    Raises:
        ValueError: as `exact_variance` does, if no leaf is left to quantize, and for a
            quantizer that fits levels, without them: they are another one's until then.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> gradient = {"kernel": jax.random.normal(jax.random.key(0), (64, 64))}
        >>> for bits in (8, 4, 2):
        ...     print(bits, f"{qgenx.bounds.error(gradient, qgenx.uniform(bits)):.1e}")
        8 1.2e-04
        4 4.1e-02
        2 1.7e+00
    """
    _checks.instance_of("quantizer", quantizer, Quantizer, "make one by uniform(4)")
    if quantizer.refresh is not None and levels is None:
        raise _checks.refuse(
            "levels",
            "must be given for a quantizer that fits them to what is sent",
            None,
            "pass those of a state after an exchange: _, state = "
            "exchange(None, quantizer).mean(tree, init()), state.levels['all']",
        )
    _checks.floating_leaves("tree", tree)
    # the largest is 1, so that no square leaves the range
    sizes = [jnp.max(jnp.abs(x)) for x in jax.tree.leaves(tree) if jnp.size(x)]
    largest = functools.reduce(jnp.maximum, sizes, jnp.zeros(()))
    rounded, total = [], 0.0
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        x = jnp.asarray(leaf)
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        wide = wide / largest.astype(wide.dtype)
        total = total + jnp.sum(jnp.square(wide))
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        if exact is None or not exact(jax.tree_util.keystr(path), shape):
            rounded.append(wide.reshape(-1))
    if not rounded:
        rule, way_out = "must leave at least one leaf to quantize", "leave it out"
        raise _checks.refuse("exact", rule, _checks.Text("none"), way_out)
    dtype = np.result_type(*(x.dtype for x in rounded))
    flat = jnp.concatenate([x.astype(dtype) for x in rounded])
    return jnp.sum(exact_variance(flat, quantizer, levels=levels)) / total
