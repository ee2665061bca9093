"""The exact variance of one vector, and how often each code is sent, by enumeration."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec import records
from qgenx_jax._codec.coder import Quantized
from qgenx_jax._codec.quantizer import Quantizer, coder_of
from qgenx_jax._types import Array
from qgenx_jax.bounds import tables
from qgenx_jax.bounds.tables import Table

DRAWS = 2**16
"""Values that the bits may take that round a coordinate."""


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
    and d n^2 - ||v||_2^2 for one bit. The codec has the scale that it sends in place
    of n, a little larger, and takes the upper level with a probability p that is a
    multiple of 2^-16, so that the mean is off by 2^-17 of a gap at most:

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
    xp, coder, buckets = _prepared(vector, quantizer, levels)
    with np.errstate(invalid="ignore"):  # infinities give NaN, as they should
        if ideal:
            table = tables.of_quantizer(quantizer, levels, ideal=True)
            found = [_ideal(table, tables.wide(bucket, xp), xp) for bucket in buckets]
        else:
            found = [_sent(coder, bucket, xp).variance(xp) for bucket in buckets]
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
    xp, coder, buckets = _prepared(vector, quantizer, levels)
    size = sum(bucket.size for bucket in buckets)
    if not size:
        rule = "must have a coordinate at least"
        raise _checks.refuse("vector", rule, jnp.shape(vector), "leave it out")
    count, total = coder.rounding.n_codes, xp.zeros(())
    for bucket in buckets:
        sent = _sent(coder, bucket, xp)
        total = total + tables.histogram(sent.lower_code, 1 - sent.up, count, xp)
        total = total + tables.histogram(sent.upper_code, sent.up, count, xp)
    return total / size


def _prepared(
    vector: Any, quantizer: Quantizer, levels: Array | None
) -> tuple[Any, Quantized, list[Array]]:
    """Where to compute, the coder, and the buckets as it sees them."""
    _checks.instance_of("quantizer", quantizer, Quantizer, "make one by uniform(4)")
    _checks.floating_leaves("vector", vector)
    if not hasattr(vector, "dtype"):
        found, way_out = _checks.Text(type(vector).__name__), "pass a leaf of the tree"
        raise _checks.refuse("vector", "must be one array", found, way_out)
    x = jnp.asarray(vector)
    # inside jit what is made of a NumPy array is traced
    xp = tables.namespace(vector, levels) if tables.is_known(x) else jnp
    coder = coder_of(quantizer, x.dtype, levels)
    return xp, coder, list(records.cut(coder.form, x.size, x.reshape(-1)))


def sent(
    vectors: Any, quantizer: Quantizer, levels: Array | None
) -> tuple[list["Sent"], Any]:
    """What may be sent for each of (K, d) vectors, K >= 1, and where to compute.

    Returns:
        Of the full buckets, and of the short ones: values (K, rows, length).
    """
    prepared = [_prepared(vector, quantizer, levels) for vector in vectors]
    xp = prepared[0][0]
    found = [[_sent(coder, x, xp) for x in buckets] for _, coder, buckets in prepared]
    by_length = zip(*found, strict=True)
    return [Sent(*map(xp.stack, zip(*of, strict=True))) for of in by_length], xp


class Sent(NamedTuple):
    """What a codec may send for coordinates (rows, length).

    Attributes:
        values: of the coordinates.
        lower_code, upper_code: codes for the least and the largest bits.
        lower, upper: their values.
        up: how often the upper one is sent.
    """

    values: Any
    lower_code: Any
    upper_code: Any
    lower: Any
    upper: Any
    up: Any

    def squares(self) -> Any:
        """E (Q(v)_i - v_i)^2 of each coordinate."""
        above, below = self.upper - self.values, self.values - self.lower
        return self.up * above * above + (1 - self.up) * below * below

    def variance(self, xp: Any) -> Any:
        """Of each row."""
        return xp.sum(self.squares(), axis=-1)


def _sent(coder: Quantized, bucket: Array, xp: Any) -> Sent:
    codes, levels, up = _around(coder, bucket)
    v, lower, upper, up = (tables.wide(x, xp) for x in (bucket, *levels, up))
    lower_code, upper_code = (xp.asarray(code) for code in codes)
    return Sent(v, lower_code, upper_code, lower, upper, up)


@jax.jit
def _around(
    coder: Quantized, bucket: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array], Array]:
    """Each coordinate's two codes, their values, and how often it is the second.

    The codes are those for the least and the largest bits; what lies between is found
    by bisection, since a rounding does not decrease with its bits.
    """
    grid, meta = coder.rounding.measure(bucket)
    columns = [meta[:, i : i + 1] for i in range(meta.shape[1])]

    def codes(r16: Array) -> Array:
        return coder.rounding.round(bucket, grid, r16).astype(jnp.int32)

    least = jnp.zeros(bucket.shape, jnp.int32)
    lower, upper = codes(least), codes(least + (DRAWS - 1))

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        below, reached = bracket
        middle = (below + reached) // 2
        is_upper = codes(middle) == upper
        below = jnp.where(is_upper, below, middle)
        return below, jnp.where(is_upper, middle, reached)

    _, first = jax.lax.fori_loop(0, 16, halve, (least, least + DRAWS))
    up = (DRAWS - first).astype(bucket.dtype) / DRAWS
    values = (
        coder.rounding.values(lower, columns),
        coder.rounding.values(upper, columns),
    )
    return (lower, upper), values, up


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
            each, scale = _gaps(table, bucket, np)
            found[start:last] = (each * scale**2).reshape(-1)
            start = last
    return found


@functools.lru_cache(maxsize=64)
def _table_and_form(quantizer: Quantizer) -> tuple[Table, records.Format]:
    """Once for each quantizer, and not for each leaf."""
    table = tables.of_quantizer(quantizer, None, ideal=True)
    return table, coder_of(quantizer, "float32").form


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
