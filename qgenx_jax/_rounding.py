"""One bucket per row: unbiased rounding to codes, and codes back to values.

Four codecs with one interface, `encode(bucket, r16) -> (codes, meta)` and
`decode(codes, meta) -> values`, for buckets of shape (rows, n), 16 random bits per
coordinate, unsigned codes as uint8 and `meta` of shape (rows, m): what the bucket's
coordinates share. All work in float32, or in float64 for float64 buckets.

Every rounding is done in integers: with f the place between two neighbouring levels in
units of 2^-16, rounded to a whole number, the upper one is taken if f + r >= 2^16, r
uniform on 0 .. 2^16 - 1. The mean over r is f / 2^16 without error, so the bias is that
of f alone, at most 2^-17 of the distance, and a value on a level (f = 0) never moves.
Whatever is multiplied by a code or a level has so few significant bits that the product
is exact: a compiler that fuses multiplications with additions gets the same bits as one
that does not.
"""

import math
from typing import NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _levels
from qgenx_jax._types import Array

# Buckets below SMALL or above LARGE are scaled by a power of two first, so that no norm
# overflows and no reciprocal becomes subnormal, which XLA flushes to zero on CPUs.
SMALL, LARGE, LIFT = 2.0**-64, 2.0**60, 2.0**64


class Codec(Protocol):
    """Encoder and decoder of buckets."""

    def encode(self, bucket: Array, r16: Array) -> tuple[Array, Array]:
        """Codes (rows, n) uint8 and meta (rows, m) of buckets (rows, n)."""
        ...

    def decode(self, codes: Array, meta: Array) -> Array:
        """Values (rows, n) in meta's dtype."""
        ...


class Uniform(NamedTuple):
    """2 (s + 1) + 1 signed levels at equal distances U = norm / (s + 1).

        c = nearest whole number to v / U,   f = round(2^16 (v - c U) / U),
        code = c + floor((f + r) / 2^16)

    U is rounded *up* to so few significant bits that every code * U is exact; so
    v - c U is exact too, and no |code| exceeds s + 1. On the wire is 2^(bits - 2) U,
    which unlike U is a normal number for every normal norm.
    """

    bits: int
    norm: float

    @property
    def steps(self) -> int:
        """s + 1."""
        return _levels.steps_of(self.bits)

    @property
    def unit(self) -> float:
        """U / scale, a power of two."""
        return 2.0 ** (2 - self.bits)

    def encode(self, bucket: Array, r16: Array) -> tuple[Array, Array]:
        """See `Codec`."""
        bucket, lift = lifted(bucket)
        drop = 0 if self.steps == 1 else self.bits - 1
        norm = bucket_norm(bucket, self.norm)
        scale = round_up(norm, self.steps * self.unit, drop, lift)
        step = scale * self.unit
        inverse = 1 / jnp.where(step > 0, step, 1)
        nearest = jnp.round(bucket * inverse)
        rest = jnp.round((bucket - nearest * step) * (inverse * 2.0**16))
        code = nearest.astype(jnp.int32) + ((rest.astype(jnp.int32) + r16) >> 16)
        code = jnp.clip(code, -self.steps, self.steps) + self.steps
        return code.astype(jnp.uint8), scale / lift

    def decode(self, codes: Array, meta: Array) -> Array:
        """See `Codec`."""
        code = codes.astype(jnp.int32) - self.steps
        # code * unit is exact, so this is code * U, rounded nowhere
        return scaled(code, 2 - self.bits, meta.dtype) * meta


class Sign(NamedTuple):
    """One bit: -norm or +norm, the latter with probability (1 + v / norm) / 2."""

    norm: float

    def encode(self, bucket: Array, r16: Array) -> tuple[Array, Array]:
        """See `Codec`."""
        bucket, lift = lifted(bucket)
        norm = round_up(bucket_norm(bucket, self.norm), 1.0, 0, lift)
        half = 2.0**15 / jnp.where(norm > 0, norm, 1)
        place = 2**15 + jnp.round(bucket * half).astype(jnp.int32)
        codes = jnp.clip((place + r16) >> 16, 0, 1)
        return codes.astype(jnp.uint8), norm / lift

    def decode(self, codes: Array, meta: Array) -> Array:
        """See `Codec`."""
        return (2 * codes.astype(jnp.int32) - 1).astype(meta.dtype) * meta


class Levels(NamedTuple):
    """Any levels: norm * sign * (l_{tau+1} with probability xi, else l_tau).

    Levels and norm have SIGNIFICANT_BITS bits each, so that their products, which
    magnitudes are compared with, are exact.
    """

    bits: int
    norm: float
    levels: Array
    """l_1 <= ... <= l_{s+1} = 1, float32 of SIGNIFICANT_BITS bits, or all NaN."""

    def encode(self, bucket: Array, r16: Array) -> tuple[Array, Array]:
        """See `Codec`."""
        bucket, lift = lifted(bucket)
        drop = significand(bucket.dtype) - _levels.SIGNIFICANT_BITS
        scale = round_up(bucket_norm(bucket, self.norm), 1.0, drop, lift)
        scale *= self.levels[-1].astype(bucket.dtype)  # 1, or NaN: no levels at all
        levels = self.levels.astype(bucket.dtype)[None, :] * scale
        magnitude = jnp.abs(bucket)
        below = _levels.place(magnitude, levels[:, :-1])
        table = jnp.concatenate([jnp.zeros_like(scale), levels], axis=1)
        low, high = _levels.lookup(table, below), _levels.lookup(table, below + 1)
        width = jnp.where(high > low, high - low, 1)
        # not times 2^16 / width, which may be infinite
        place = jnp.round((magnitude - low) / width * 2.0**16).astype(jnp.int32)
        index = below + jnp.clip((place + r16) >> 16, 0, 1)
        code = jnp.where(bucket < 0, -index, index) + self.levels.size
        return code.astype(jnp.uint8), scale / lift

    def decode(self, codes: Array, meta: Array) -> Array:
        """See `Codec`."""
        code = codes.astype(jnp.int32) - self.levels.size
        zero = jnp.zeros(1, meta.dtype)
        table = jnp.concatenate([zero, self.levels.astype(meta.dtype)])
        signed = jnp.where(code < 0, -1, 1) * table[jnp.abs(code)]
        return signed.astype(meta.dtype) * meta


class MinMax(NamedTuple):
    """2^b equal steps from the bucket's minimum to its maximum, as torch_cgx sends.

        unit = (max - min) / (2^b - 1),   code = (v - min) / unit rounded up or down

    with unit rounded up to 24 - b bits. On the wire are the minimum and 2^(b - 2) unit,
    a normal number that does not overflow where max - min does.
    """

    bits: int

    def encode(self, bucket: Array, r16: Array) -> tuple[Array, Array]:
        """See `Codec`."""
        bucket, lift = lifted(bucket)
        low = jnp.min(bucket, axis=-1, keepdims=True)
        high = jnp.max(bucket, axis=-1, keepdims=True)
        steps = 2**self.bits - 1
        # on the wire is half of what would be the range of 2^b steps
        half = 2.0 ** (self.bits - 2)
        # the range may be twice the largest finite number, the top level is clipped
        scale = round_up(high - low, steps / half, self.bits, 2 * lift)
        unit = scale / half
        inverse = 1 / jnp.where(unit > 0, unit, 1)
        nearest = jnp.round((bucket - low) * inverse)
        rest = jnp.round(((bucket - low) - nearest * unit) * (inverse * 2.0**16))
        code = nearest.astype(jnp.int32) + ((rest.astype(jnp.int32) + r16) >> 16)
        code = jnp.clip(code, 0, steps).astype(jnp.uint8)
        return code, jnp.concatenate([low, scale], axis=-1) / lift

    def decode(self, codes: Array, meta: Array) -> Array:
        """See `Codec`."""
        low, scale = meta[..., :1], meta[..., 1:]
        # halved, since the steps above the minimum may add up to more than is finite
        code = scaled(codes.astype(jnp.int32), 1 - self.bits, meta.dtype)
        largest = np.finfo(meta.dtype).max
        return jnp.clip(2 * (low / 2 + code * scale), -largest, largest)


def significand(dtype: np.dtype) -> int:
    """Significant bits of a dtype, the implicit one included: 24 or 53."""
    return int(np.finfo(dtype).nmant) + 1


def scaled(code: Array, exponent: int, dtype: np.dtype) -> Array:
    """code * 2^exponent, exactly, for small int32 codes, by adding to a float's bits.

    A product with a constant XLA would move to the scale that follows, code * (2^e *
    scale), and flush that to zero for norms below 2^-119.
    """
    word = jnp.int32 if dtype == jnp.float32 else jnp.int64
    # its last place is 2^exponent
    magic = np.asarray(1.5 * 2.0 ** (significand(dtype) - 1 + exponent), dtype)
    bits = lax.bitcast_convert_type(jnp.asarray(magic), word) + code.astype(word)
    return lax.bitcast_convert_type(bits, dtype) - magic


def lifted(bucket: Array) -> tuple[Array, Array]:
    """The bucket times a power of two that keeps it from extremes, and that power.

    The power is NaN for a bucket with a NaN or an infinity. A maximum alone would not
    tell: XLA's on CPUs may lose a NaN, so that NaNs are made infinite first.
    """
    magnitude = jnp.where(jnp.isnan(bucket), jnp.inf, jnp.abs(bucket))
    largest = jnp.max(magnitude, axis=-1, keepdims=True)
    lift = jnp.where(largest < SMALL, LIFT, jnp.where(largest > LARGE, 1 / LIFT, 1))
    lift = jnp.where(jnp.isfinite(largest), lift, jnp.nan).astype(bucket.dtype)
    return bucket * lift, lift


def round_up(norm: Array, ratio: float, drop: int, lift: Array) -> Array:
    """The smallest number of few significant bits with number * ratio >= norm.

    Args:
        norm: not negative, of a bucket that was multiplied by `lift`; NaN or infinite
            gives NaN.
        ratio: a whole number of few bits, times a power of two.
        drop: how many of the dtype's significant bits to leave out.
        lift: the number over lift, times the ratio, stays finite.
    """
    word = jnp.uint32 if norm.dtype == jnp.float32 else jnp.uint64
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


def bucket_norm(bucket: Array, q: float) -> Array:
    """||v||_q over the last axis, kept; q = 1, 2 or infinity, with no overflow inside.

    Computed as M ||v / M||_q with M = max |v|, and never less than M.
    """
    largest = jnp.max(jnp.abs(bucket), axis=-1, keepdims=True)
    if q == math.inf:
        return largest
    ratio = bucket / jnp.where(largest > 0, largest, 1)
    if q == 1:
        relative = jnp.sum(jnp.abs(ratio), axis=-1, keepdims=True)
    else:
        relative = jnp.sqrt(jnp.sum(ratio * ratio, axis=-1, keepdims=True))
    return largest * jnp.maximum(relative, 1)
