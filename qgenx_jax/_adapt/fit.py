"""Levels for vectors at hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._adapt.optimum import optimum
from qgenx_jax._adapt.solvers import METHODS, refit
from qgenx_jax._adapt.statistics import (
    Statistics,
    added,
    exponent,
    scaled,
    summed_up,
)
from qgenx_jax._adapt.tables import Kind, kind_of, on_grid, variance
from qgenx_jax._codec.levels import RANGE, Shape
from qgenx_jax._types import Array


def fit_levels(
    vectors: Any,
    bits: int,
    *,
    bucket_size: int | None,
    norm: float | str,
    method: str = "coordinate",
    law: str = "histogram",
    signed: bool = False,
    zero: bool = True,
) -> Array:
    """Levels that round vectors like these with the least variance.

    They minimise

        sum_j int_{l_j}^{l_{j+1}} (l_{j+1} - u)(u - l_j) dF(u)

    where F is the law of magnitudes u = |v_i| / ||v||_q over all buckets v, each
    weighted by its coordinates times ||v||_q^2; with norm="range" that of places
    u = (v_i - min v) / (max v - min v), with max v - min v for ||v||_q. Of several
    starts the best is kept, and uniform levels where none is better, or where nothing
    can be learned: all vectors zero, or not finite in any bucket.

    Args:
        vectors: an array or a tree of them; each leaf is one vector, flattened.
        bits: per coordinate, sign included: 2 to 8, from 1 if signed, without zero or
            over the range.
        bucket_size: as the quantizer's; None for one bucket.
        norm: q, or "range", as the quantizer's.
        method: "coordinate" or "gradient" descent, which Newton's method finishes, or
            "newton", that alone, the fastest; "amq", geometric levels; "optimal",
            dynamic programming on the host, not inside jit.
        law: "histogram", or "normal", truncated normals of the buckets' means and
            variances.
        signed: 2^bits levels of signed coordinates, none of which need be zero, in
            place of magnitudes' 2^(bits - 1) - 1, mirrored, and zero.
        zero: whether zero is a level beside magnitudes. If not they are 2^(bits - 1),
            and what lies below the lowest is rounded to it or its mirror image, at a
            cost of int_0^{l_1} (l_1^2 - u^2) dF: less variance where few coordinates
            are 0. For `user_levels(..., zero=False)`.

    Returns:
        Levels l_1 < ... < l_{s+1} = 1 for `user_levels`, of 12 significant bits; signed
        ones from -1 to 1; over the range the 2^bits - 1 above 0. Where there are only
        ends, those.

    Raises:
        ValueError: for values outside these ranges, leaves that are not real floating
            point, "optimal" with law "normal", and signed levels with zero=False;
            signed levels, or without zero, with norm="range".

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
    ranged = isinstance(norm, str) and norm == RANGE
    least = 1 if signed or not zero or ranged else 2
    bits = _checks.whole_number("bits", bits, least, 8)
    if bucket_size is not None:
        bucket_size = _checks.whole_number("bucket_size", bucket_size, 1, None)
    norm = _checks.one_of("norm", norm, (1, 2, np.inf, RANGE))
    method = _checks.one_of("method", method, (*METHODS, "optimal"))
    law = _checks.one_of("law", law, ("histogram", "normal"))
    if method == "optimal" and law == "normal":
        rule = 'must be "histogram" for method "optimal"'
        raise _checks.refuse("law", rule, law, 'or choose method "coordinate"')
    if signed and not zero:
        way_out = "leave zero out, signed levels are fitted with or without one"
        raise _checks.refuse("zero", "must be True for signed levels", zero, way_out)
    if ranged and (signed or not zero):
        rule, way_out = "must be left out for levels over the range", "leave it out"
        name, found = ("signed", signed) if signed else ("zero", zero)
        raise _checks.refuse(name, rule, found, way_out)
    shape = Shape(signed, zero and not signed, ranged)
    kind = kind_of(shape)
    leaves = tuple(map(jnp.asarray, jax.tree.leaves(vectors)))
    summed = _summed(leaves, bucket_size, norm, law, kind)
    steps = [0.0] * shape.zero + list(shape.equal(bits))
    in_use = jnp.asarray(steps, jnp.float32)
    table = _on_host(summed, in_use, kind) if method == "optimal" else None
    table = _refitted(summed, in_use, method, kind) if table is None else table
    return table[int(shape.zero) :]


def predicted(statistics: Statistics, table: Array, kind: Kind) -> Array:
    """E||Q(v) - v||^2 / ||v||^2 of all vectors that were summed up, (); 0 without any.

    It is the sum of n_q^2 over coordinates, times the law's variance, over the energy.
    Histograms are exact but for where coordinates lie inside their bins; normals are as
    good as the vectors are normal. In jit.

    Args:
        statistics: of all vectors.
        table: levels of this kind, (n,), with both ends; a mirrored one with its last.
        kind: that of the statistics: signed, and mirrored.
    """
    energy = statistics.energy
    cost = variance(statistics.law(kind), table, kind)
    error = statistics.total() * cost / jnp.where(energy > 0, energy, 1)
    return jnp.where(energy > 0, error, 0)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _summed(
    vectors: tuple[Array, ...],
    bucket_size: int | None,
    norm: float | str,
    law: str,
    kind: Kind,
) -> Statistics:
    """The statistics of all vectors, over the power of two that none is above."""
    most = functools.reduce(jnp.maximum, map(exponent, vectors))
    parts = [
        summed_up(scaled(x, most), law, kind, bucket_size=bucket_size, norm=norm)
        for x in vectors
    ]
    return functools.reduce(added, parts)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _refitted(statistics: Statistics, in_use: Array, method: str, kind: Kind) -> Array:
    return refit(statistics.law(kind), in_use, method=method, kind=kind)


def _on_host(statistics: Statistics, in_use: Array, kind: Kind) -> Array:
    """The optimum, or the table in use where there is no mass."""
    law: Any = statistics.law(kind)
    if not np.asarray(law.densities).sum() > 0:
        return in_use
    steps = in_use.shape[0] - (0 if kind.mirrored else 1)
    table = optimum(law, steps, mirrored=kind.mirrored)
    return jax.jit(on_grid, static_argnums=1)(jnp.asarray(table, jnp.float32), kind)
