"""What a bucket's coordinates share: maxima, norms, numbers of few significant bits.

All of it on buckets (rows, n), kept as (rows, 1), in float32 or float64, and free of
overflow and of numbers that XLA flushes to zero.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._types import Array

# Buckets below SMALL or above LARGE are scaled by a power of two first, so that no norm
# overflows and no reciprocal becomes subnormal, which XLA flushes to zero on CPUs.
SMALL, LARGE, LIFT = 2.0**-64, 2.0**60, 2.0**64


def significand(dtype: np.dtype) -> int:
    """Significant bits of a dtype, the implicit one included: 24 or 53."""
    return int(np.finfo(dtype).nmant) + 1


SCALE_BITS = (16, 32)
"""What a scale may take on the wire: a bfloat16, or all of a float32 or float64."""


def most_significant(scale_bits: int, dtype: np.dtype) -> int:
    """How many significant bits of a scale travel: 8 of 16 bits."""
    return 8 if scale_bits == 16 else significand(dtype)


def to_int32(x: Array) -> Array:
    """int32 of small numbers in floats, to the nearest, of two the even one.

    Of what is not small, any number. Added to 1.5 * 2^23 (2^52), the number is in a
    float's lowest bits. A conversion would take XLA three comparisons and three
    selections more, to saturate.
    """
    magic = np.asarray(1.5 * 2.0 ** (significand(x.dtype) - 1), x.dtype)
    word = _word(x.dtype)
    bits = lax.bitcast_convert_type(x + magic, word)
    return (bits - magic.view(word)).astype(jnp.int32)


def scaled(code: Array, exponent: int, dtype: np.dtype) -> Array:
    """code * 2^exponent, exactly, for small int32 codes, by adding to a float's bits.

    A product with a constant XLA would move to the scale that follows, code * (2^e *
    scale), and flush that to zero for norms below 2^-119.
    """
    word = _word(dtype)
    # its last place is 2^exponent
    magic = np.asarray(1.5 * 2.0 ** (significand(dtype) - 1 + exponent), dtype)
    bits = code.astype(word) + magic.view(word)
    return lax.bitcast_convert_type(bits, dtype) - magic


def product(one: Array, other: Any) -> Array:
    """one * other without its last bit, so that no compiler fuses it with an addition.

    For products that are not exact, and are added: fused or not, the sum has the same
    bits. It loses 2^-24 (2^-53) of itself in the mean.
    """
    found = jnp.asarray(one) * other
    bits = lax.bitcast_convert_type(found, _word(found.dtype))
    return lax.bitcast_convert_type(bits & ~1, found.dtype)


def largest_magnitude(bucket: Array) -> Array:
    """max |v| of each row, (rows, 1), infinite where there is a NaN.

    A float maximum would not do: XLA's on CPUs may lose a NaN. As whole numbers the
    bits of |v| are in the order of |v|, NaNs last, and are made infinite afterwards,
    when there are fewer of them.
    """
    dtype = bucket.dtype
    word = _word(dtype)
    top = np.iinfo(word).max
    bits = lax.bitcast_convert_type(bucket, word) & top
    infinity = np.asarray(np.inf, dtype).view(word)
    largest = jnp.minimum(_folded(jnp.maximum, bits), infinity)
    magnitude = lax.bitcast_convert_type(largest, dtype)
    return jnp.max(magnitude, axis=-1, keepdims=True)


def extremes(bucket: Array) -> tuple[Array, Array]:
    """min v and max v of each row, (rows, 1); infinite where there is a NaN."""
    dtype = bucket.dtype
    word = _word(dtype)
    top = np.iinfo(word).max
    bits = lax.bitcast_convert_type(bucket, word)
    # in the order of v: of negative numbers the bits of |v| are turned around
    order = bits ^ ((bits >> (np.iinfo(word).bits - 1)) & top)
    infinity = np.asarray(np.inf, dtype).view(word)

    def back(order: Array) -> Array:
        order = jnp.clip(order, ~infinity, infinity)
        bits = order ^ ((order >> (np.iinfo(word).bits - 1)) & top)
        return lax.bitcast_convert_type(bits, dtype)

    low = jnp.min(back(_folded(jnp.minimum, order)), axis=-1, keepdims=True)
    high = jnp.max(back(_folded(jnp.maximum, order)), axis=-1, keepdims=True)
    # of 0 and -0 either may have been found
    return jnp.where(low == 0, 0, low), jnp.where(high == 0, 0, high)


def _word(dtype: np.dtype) -> Any:
    """Whole numbers as wide."""
    return np.int32 if dtype == np.float32 else np.int64


def _folded(combine: Callable[[Array, Array], Array], x: Array) -> Array:
    """Rows (rows, n) to (rows, n / 8), where they are long.

    By eight runs, the last overlapping: loops over whole runs are vectorized;
    reductions of whole numbers are not.
    """
    size = x.shape[-1]
    if size < 64:
        return x
    length = -(-size // 8)
    starts = [min(run * length, size - length) for run in range(8)]
    return functools.reduce(combine, [x[..., i : i + length] for i in starts])


def lift_of(largest: Array) -> tuple[Array, Array]:
    """The largest magnitudes, lifted, and the power of two that lifts a bucket.

    It keeps buckets from extremes, and is NaN for one with a NaN or an infinity.
    """
    lift = jnp.where(largest < SMALL, LIFT, jnp.where(largest > LARGE, 1 / LIFT, 1))
    lift = jnp.where(jnp.isfinite(largest), lift, jnp.nan).astype(largest.dtype)
    return largest * lift, lift


def round_up(norm: Array, ratio: float, drop: int, lift: Array) -> Array:
    """The smallest number of few significant bits with number * ratio >= norm.

    Args:
        norm: not negative, of a bucket that was multiplied by `lift`; NaN or infinite
            gives NaN.
        ratio: a whole number of few bits, times a power of two.
        drop: how many of the dtype's significant bits to leave out.
        lift: the number over lift, times the ratio, stays finite.
    """
    word = np.uint32 if norm.dtype == np.float32 else np.uint64
    grid = 1 << drop
    as_bits = lax.bitcast_convert_type(norm * (1 / ratio), word)
    # to the nearest first, then up where that is short: the division's own rounding
    # must not push a norm that is on the grid to the grid's next point
    nearest = (as_bits + word(grid >> 1)) & ~word(grid - 1)
    result = lax.bitcast_convert_type(nearest, norm.dtype)
    above = lax.bitcast_convert_type(nearest + word(grid), norm.dtype)
    result = jnp.where(result * ratio < norm, above, result)
    # where rounding up would make the top level infinite, down: an error of less than
    # 2^-11 of the dtype's largest number, and none below it
    bits = significand(norm.dtype)
    fraction, exponent = math.frexp(float(np.finfo(norm.dtype).max) / ratio)
    largest = math.ldexp(
        math.floor(math.ldexp(fraction, bits - drop)), exponent - bits + drop
    )
    result = jnp.minimum(result, largest * lift)
    return jnp.where(jnp.isfinite(norm), result, jnp.nan)


def inverse(step: Array) -> Array:
    """1 / step, or 1 where the step is 0.

    By way of 2 / step: for 1 / step alone GPUs have an instruction that rounds
    otherwise. Powers of two change no bit.
    """
    return 2 / jnp.where(step > 0, step, 1) * 0.5


def norm_of(bucket: Array, lift: Array, largest: Array, q: float) -> Array:
    """||v||_q of lifted buckets (rows, 1); q = 1, 2 or infinity, no overflow inside.

    Computed as M ||v / M||_q with M = max |v|, and never less than M.
    """
    if q == math.inf:
        return largest
    ratio = bucket * lift / jnp.where(largest > 0, largest, 1)
    if q == 1:
        relative = jnp.sum(jnp.abs(ratio), axis=-1, keepdims=True)
    else:
        relative = jnp.sqrt(jnp.sum(ratio * ratio, axis=-1, keepdims=True))
    return largest * jnp.maximum(relative, 1)


def share(count: int, scales: Array) -> Array:
    """1 / count, by which a sum of decoded terms becomes their mean; NaN where one is.

    Hanging on the scales it is no constant. A constant XLA would multiply with the
    power of two by which an encoder lifts the mean, and LLVM fuse what is left with an
    addition: the mean would be rounded or not, as it pleases.

    Args:
        count: a whole number.
        scales: the sum of what the terms were scaled by, each at least 0 or NaN.
    """
    inverse = np.asarray(1, scales.dtype) / np.asarray(count, scales.dtype)
    return jnp.where(jnp.isnan(scales), scales, inverse)


def side_by_side(first: Array, second: Array) -> Array:
    """Two columns (rows, 1) as (rows, 2), selected: to join them would stop fusion."""
    is_first = lax.broadcasted_iota(jnp.int32, (*first.shape[:-1], 2), 1) == 0
    return jnp.where(is_first, first, second)


def above(low: Array, half: Array) -> Array:
    """low + 2 half, clipped to what is finite, which 2 half alone may not be."""
    largest = np.finfo(half.dtype).max
    return jnp.clip(2 * (low * 0.5 + half), -largest, largest)
