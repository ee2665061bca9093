"""The levels of a quantizer, fitted to what it is about to encode."""

from typing import Any

import jax.numpy as jnp

from qgenx_jax._adapt import bends, solvers
from qgenx_jax._adapt.fit import predicted
from qgenx_jax._adapt.statistics import Statistics, summed_up
from qgenx_jax._adapt.tables import kind_of
from qgenx_jax._codec import rotation
from qgenx_jax._codec.bend import Bend
from qgenx_jax._codec.levels import Shape
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._codec.rounding import FAMILIES
from qgenx_jax._types import Array


def statistics(quantizer: Quantizer, vector: Array) -> Statistics:
    """What a vector is summed up by, for an adaptive quantizer that will encode it."""
    shape, refresh = _of(quantizer)
    if quantizer.rotate:
        assert quantizer.bucket_size is not None  # or it would not be rotated
        vector = rotation.turned(vector, quantizer.bucket_size)
    buckets: Any = {"bucket_size": quantizer.bucket_size, "norm": quantizer.norm}
    return summed_up(vector, refresh.law, kind_of(shape), **buckets)


def refitted(
    quantizer: Quantizer, total: Statistics, levels: Array, error: Array
) -> tuple[Array, Array]:
    """The best levels found, or those in use; and the relative error expected of them.

    Args:
        quantizer: adaptive.
        total: the sum of all workers' statistics.
        levels: in use, as a state holds them.
        error: that is known of them, which stays where there is nothing to learn from.

    Returns:
        Levels and error, of the shapes and dtypes given.
    """
    shape, refresh = _of(quantizer)
    if isinstance(shape, Bend):
        table, expected = bends.refitted(quantizer.bits, total, levels)
        known = (total.energy > 0) & jnp.isfinite(expected)
        return table, jnp.where(known, expected.astype(error.dtype), error)
    kind = kind_of(shape)
    law = total.law(kind)
    dtype = jnp.result_type(total.energy)
    table = levels.astype(dtype)
    if shape.zero:
        table = jnp.concatenate([jnp.zeros(1, dtype), table])
    table = solvers.refit(law, table, method=refresh.method, kind=kind)
    expected = predicted(total, table, kind)
    expected = expected.astype(error.dtype)
    known = (total.energy > 0) & jnp.isfinite(expected)
    expected = jnp.where(known, expected, error)
    return table[int(shape.zero) :].astype(levels.dtype), expected


def _of(quantizer: Quantizer) -> tuple[Shape | Bend, Any]:
    shape = FAMILIES[quantizer.family].takes_levels
    assert shape is not None  # no other family is fitted
    return shape, quantizer.refresh
