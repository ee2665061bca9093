"""Levels for vectors at hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._adapt.optimum import optimum
from qgenx_jax._adapt.solvers import METHODS, Kind, on_grid, refit
from qgenx_jax._adapt.statistics import (
    Statistics,
    histogram_statistics,
    normal_statistics,
)
from qgenx_jax._types import Array


def fit_levels(
    vectors: Any,
    bits: int,
    *,
    bucket_size: int | None,
    norm: float,
    method: str = "coordinate",
    law: str = "histogram",
    signed: bool = False,
) -> Array:
    """Levels that round vectors like these with the least variance.

    They minimise

        sum_j int_{l_j}^{l_{j+1}} (l_{j+1} - u)(u - l_j) dF(u)

    where F is the law of magnitudes u = |v_i| / ||v||_q over all buckets v, each
    weighted by its coordinates times ||v||_q^2. Of several starts the best is kept, and
    uniform levels where none is better, or where nothing can be learned: all vectors
    zero, or not finite in any bucket.

    Args:
        vectors: an array or a tree of them; each leaf is one vector, flattened.
        bits: per coordinate, sign included: 2 to 8, signed ones from 1.
        bucket_size: as the quantizer's; None for one bucket.
        norm: q, as the quantizer's.
        method: "coordinate" or "gradient" descent; "amq", geometric levels; "optimal",
            dynamic programming on the host, not inside jit.
        law: "histogram", or "normal", truncated normals of the buckets' means and
            variances.
        signed: 2^bits levels of signed coordinates, none of which need be zero, in
            place of magnitudes' 2^(bits - 1) - 1, mirrored, and zero.

    Returns:
        Levels l_1 < ... < l_{s+1} = 1 for `user_levels`, of 12 significant bits; signed
        ones from -1 to 1. Where there are only ends, those.

    Raises:
        ValueError: for values outside these ranges, leaves that are not real floating
            point, and "optimal" with law "normal".

    Example:
        >>> import math
        >>> import jax, qgenx_jax as qgenx
        >>> vector = jax.random.normal(jax.random.key(0), (4096,))
        >>> buckets = {"bucket_size": 1024, "norm": math.inf}
        >>> levels = qgenx.fit_levels(vector, bits=3, **buckets)
        >>> quantizer = qgenx.user_levels(levels, **buckets)
        >>> [round(level, 1) for level in quantizer.levels]  # not 1/3, 2/3, 1
        [0.2, 0.5, 1.0]

    References:
        Faghri et al., Adaptive Gradient Quantization for Data-Parallel SGD, NeurIPS
        2020.
    """
    _checks.floating_leaves("vectors", vectors)
    bits = _checks.whole_number("bits", bits, 1 if signed else 2, 8)
    if bucket_size is not None:
        bucket_size = _checks.whole_number("bucket_size", bucket_size, 1, None)
    norm = _checks.one_of("norm", norm, (1, 2, np.inf))
    method = _checks.one_of("method", method, (*METHODS, "optimal"))
    law = _checks.one_of("law", law, ("histogram", "normal"))
    if method == "optimal" and law == "normal":
        rule = 'must be "histogram" for method "optimal"'
        raise _checks.refuse("law", rule, law, 'or choose method "coordinate"')
    count = 2**bits if signed else 2 ** (bits - 1)
    kind = Kind(signed)
    leaves = tuple(map(jnp.asarray, jax.tree.leaves(vectors)))
    summed = _summed(leaves, bucket_size, norm, law, signed)
    in_use = jnp.linspace(-1 if signed else 0, 1, count, dtype=jnp.float32)
    table = _on_host(summed, in_use, kind) if method == "optimal" else None
    table = _refitted(summed, in_use, method, kind) if table is None else table
    return table if signed else table[1:]


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _summed(
    vectors: tuple[Array, ...],
    bucket_size: int | None,
    norm: float,
    law: str,
    signed: bool,
) -> Statistics:
    """The statistics of all vectors."""
    kept = {"bucket_size": bucket_size, "norm": norm}
    if law == "normal":
        parts = [normal_statistics(x, **kept) for x in vectors]
    else:
        parts = [histogram_statistics(x, **kept, signed=signed) for x in vectors]
    return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), parts)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _refitted(statistics: Statistics, in_use: Array, method: str, kind: Kind) -> Array:
    return refit(statistics.law(signed=kind.signed), in_use, method=method, kind=kind)


def _on_host(statistics: Statistics, in_use: Array, kind: Kind) -> Array:
    """The optimum, or the table in use where there is no mass."""
    law: Any = statistics.law(signed=kind.signed)
    if not np.asarray(law.densities).sum() > 0:
        return in_use
    table = optimum(law, in_use.shape[0] - 1)
    return on_grid(jnp.asarray(table, jnp.float32))
