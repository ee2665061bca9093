"""The exact variance of one vector, and how often each code is sent, by enumeration."""

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec import records, rotation
from qgenx_jax._codec.bend import Curve
from qgenx_jax._codec.coder import Quantized
from qgenx_jax._codec.quantizer import Quantizer, coder_of
from qgenx_jax._types import Array
from qgenx_jax.bounds import tables
from qgenx_jax.bounds.sent import curve_of, prepared, sent_for
from qgenx_jax.bounds.tables import Table


def exact_variance(
    vector: Any,
    quantizer: Quantizer,
    *,
    levels: Array | None = None,
    ideal: bool = False,
) -> Any:
    """E ||Q(v) - v||_2^2 of each bucket v of a vector, over all roundings.

    With real numbers, for l_tau <= u_i = |v_i| / n <= l_{tau+1},

        n^2 sum_i (l_{tau+1} - u_i) (u_i - l_tau),

    which is unit^2 sum_i f_i (1 - f_i) for `min_max` (f the place between two codes),
    and d n^2 - ||v||_2^2 for one bit; of `dithered`, whose errors hang on the bits,
    n^2 sum_i g(s_i), see `qgenx_jax.bounds.dithers`. The codec has the scale that it
    sends in place of n, a little larger, and takes the upper level with a probability
    p that is a multiple of 2^-16, so that the mean is off by 2^-17 of a gap at most:

        sum_i p_i (upper - v_i)^2 + (1 - p_i) (v_i - lower)^2.

    Args:
        vector: real floating-point array of any shape, as `Quantizer.encode` takes it.
        quantizer: one of the library's.
        levels: in place of the quantizer's own, as in `Quantizer.encode`.
        ideal: whether real numbers are assumed, or what the codec does is computed.

    Returns:
        Array (buckets,), in the square of the vector's unit: of the full buckets, and
        of the short last one. float64 for a NumPy array; for a JAX array float32, whose
        squares below 1e-38 are zero, or float64 for one. NaN for a bucket with a NaN or
        an infinity.

    Raises:
        ValueError: for a vector or levels that `Quantizer.encode` refuses.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> v = np.array([4.0, -2.0, 1.0, 0.0])
        >>> qgenx.bounds.exact_variance(v, qgenx.uniform(2))  # n ||v||_1 - ||v||_2^2
        array([7.])
    """
    xp, coder, buckets = prepared(vector, quantizer, levels)
    with np.errstate(invalid="ignore"):  # infinities give NaN, as they should
        if ideal and coder.dithers:
            found = [_ideal_dither(coder, tables.wide(x, xp), xp) for x in buckets]
        elif ideal:
            table = tables.of_quantizer(quantizer, levels, ideal=True)
            found = [_ideal(table, tables.wide(bucket, xp), xp) for bucket in buckets]
        else:
            found = [sent_for(coder, bucket, xp).variance(xp) for bucket in buckets]
    return xp.concatenate(found) if found else xp.zeros(0)


def code_probabilities(
    vector: Any, quantizer: Quantizer, *, levels: Array | None = None
) -> Any:
    """How often each code is sent for a vector: the mean over all roundings.

    Args:
        vector: finite, as in `exact_variance`, with a coordinate at least.
        quantizer: one of the library's.
        levels: in place of the quantizer's own.

    Returns:
        Array (codes,) that adds up to 1; code 0 is the lowest level. Its `entropy` is
        what no code of one coordinate at a time goes below.

    Raises:
        ValueError: as in `exact_variance`, and for a vector without a coordinate.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> v = np.array([2.0, 1.0, -1.0, 0.0])
        >>> qgenx.bounds.code_probabilities(v, qgenx.uniform(2))
        array([0.125, 0.5  , 0.375])
    """
    xp, coder, buckets = prepared(vector, quantizer, levels)
    size = sum(bucket.size for bucket in buckets)
    if not size:
        rule = "must have a coordinate at least"
        raise _checks.refuse("vector", rule, jnp.shape(vector), "leave it out")
    count, total = coder.rounding.n_codes, xp.zeros(())
    for bucket in buckets:
        sent = sent_for(coder, bucket, xp)
        total = total + tables.histogram(sent.lower_code, 1 - sent.up, count, xp)
        total = total + tables.histogram(sent.upper_code, sent.up, count, xp)
    return total / size


def coordinate_variances(vector: np.ndarray, quantizer: Quantizer) -> np.ndarray:
    """E (Q(v)_i - v_i)^2 of each coordinate, with real numbers.

    Their sums over buckets are those of `exact_variance(..., ideal=True)`.

    Args:
        vector: (d,), finite, as `Quantizer.encode` cuts it into buckets.
        quantizer: one of the library's.

    Returns:
        float64 (d,), in the square of the vector's unit.
    """
    table, form = _table_and_form(quantizer)
    found, start = np.empty(vector.size), 0
    for rows, length in form.buckets(vector.size):
        # whole buckets, some thousands of coordinates, which stay in caches
        step = max(1, 2**16 // length)
        for first in range(0, rows, step):
            last = start + min(step, rows - first) * length
            bucket = tables.wide(vector[start:last].reshape(-1, length), np)
            if form.turned:
                bucket = rotation.forward_exactly(bucket)
            if table.curve is not None:
                each, scale = dither_variances(table.curve, bucket, np)
            else:
                each, scale = _gaps(table, bucket, np)
            each = each * scale**2
            each = rotation.spread(each) if form.turned else each
            found[start:last] = each.reshape(-1)
            start = last
    return found


@functools.lru_cache(maxsize=64)
def _table_and_form(quantizer: Quantizer) -> tuple[Table, records.Format]:
    """Once for each quantizer, and not for each leaf."""
    table = tables.of_quantizer(quantizer, None, ideal=True)
    return table, coder_of(quantizer, "float32").form


def _ideal_dither(coder: Quantized, bucket: Any, xp: Any) -> Any:
    """Of each row, with real numbers."""
    found, scale = dither_variances(curve_of(coder, xp), bucket, xp)
    return xp.sum(found, axis=-1) * xp.squeeze(scale, -1) ** 2


def dither_variances(curve: Curve, bucket: Any, xp: Any) -> tuple[Any, Any]:
    """g(s) of coordinates, with real numbers, and the rows' norms (rows, 1)."""
    norm = _norm(bucket, math.inf, xp)
    u = xp.abs(bucket) / xp.where(norm > 0, norm, 1)
    return curve.variance(curve.half * curve.root(u, 3)), norm


def _ideal(table: Table, bucket: Any, xp: Any) -> Any:
    """Of each row, with real numbers."""
    each, scale = _gaps(table, bucket, xp)
    return xp.sum(each, axis=-1) * xp.squeeze(scale, -1) ** 2


def _gaps(table: Table, bucket: Any, xp: Any) -> tuple[Any, Any]:
    """(l_{tau+1} - u) (u - l_tau) of coordinates, and the rows' scales (rows, 1)."""
    if table.norm is None:
        low = xp.min(bucket, axis=-1, keepdims=True)
        scale = xp.max(bucket, axis=-1, keepdims=True) - low
    else:
        low, scale = 0, _norm(bucket, table.norm, xp)
    u = (bucket - low) / xp.where(scale > 0, scale, 1)
    levels = xp.asarray(table.levels, u.dtype)
    above = xp.clip(xp.searchsorted(levels, u, side="right"), 1, levels.size - 1)
    # over a norm the product with u beyond its ends is rounding alone
    each = xp.maximum((levels[above] - u) * (u - levels[above - 1]), 0)
    # NaN and infinities stay: a maximum may lose them
    return xp.where(xp.isfinite(u), each, xp.nan), scale


def _norm(bucket: Any, q: float, xp: Any) -> Any:
    """||v||_q of rows, (rows, 1), as M ||v / M||_q."""
    largest = xp.max(xp.abs(bucket), axis=-1, keepdims=True)
    if q == math.inf:
        return largest
    ratio = xp.abs(bucket) / xp.where(largest > 0, largest, 1)
    return largest * xp.sum(ratio**q, axis=-1, keepdims=True) ** (1 / q)
