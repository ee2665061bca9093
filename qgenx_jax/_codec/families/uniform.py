"""Equal steps on both sides of zero; with one bit, the two ends alone."""

import math
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from qgenx_jax._codec import scales
from qgenx_jax._codec.levels import steps_of
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._codec.rounding import (
    FAMILIES,
    Family,
    Grid,
    PaddedByZeros,
    Rounding,
    pytree,
    static,
)
from qgenx_jax._types import Array


@pytree
class Uniform(PaddedByZeros):
    """2 (s + 1) + 1 signed levels at equal distances U = norm / (s + 1).

        c = nearest whole number to v / U,   f = round(2^16 (v - c U) / U),
        code = c + floor((f + r) / 2^16)

    U is rounded *up* to so few significant bits that every code * U is exact; so
    v - c U is exact too, and no |code| exceeds s + 1. On the wire is 2^(bits - 2) U,
    which unlike U is a normal number for every normal norm.
    """

    bits: int = static()
    norm: float = static()
    scale_bits: int = static()

    n_meta: ClassVar[int] = 1
    keeps_zeros: ClassVar[bool] = True
    looks_up: ClassVar[bool] = False
    dithers: ClassVar[bool] = False
    rounds_magnitudes: ClassVar[bool] = False

    @property
    def steps(self) -> int:
        """s + 1."""
        return steps_of(self.bits)

    @property
    def unit(self) -> float:
        """U / scale, a power of two."""
        return 2.0 ** (2 - self.bits)

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return 2 * self.steps + 1

    def significant(self, dtype: np.dtype) -> int:
        """See `Rounding`: every code times U is exact."""
        exact = scales.significand(dtype) - (0 if self.steps == 1 else self.bits - 1)
        return min(exact, scales.most_significant(self.scale_bits, dtype))

    def measure(self, bucket: Array) -> tuple[Grid, Array]:
        """See `Rounding`."""
        largest, lift = scales.lift_of(scales.largest_magnitude(bucket))
        drop = scales.significand(lift.dtype) - self.significant(lift.dtype)
        norm = scales.norm_of(bucket, lift, largest, self.norm)
        scale = scales.round_up(norm, self.steps * self.unit, drop, lift)
        step = scale * self.unit
        inverse = scales.inverse(step)
        return Grid(lift, jnp.zeros_like(step), step, inverse), scale / lift

    def round(self, values: Array, grid: Grid, r16: Array) -> Array:
        """See `Rounding`."""
        values = values * grid.lift
        near = jnp.round(values * grid.inverse)
        rest = jnp.round((values - near * grid.step) * (grid.inverse * 2.0**16))
        code = scales.to_int32(near) + ((scales.to_int32(rest) + r16) >> 16)
        code = jnp.clip(code, -self.steps, self.steps) + self.steps
        return code.astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`."""
        (scale,) = meta
        # code * unit is exact, so this is code * U, rounded nowhere
        return scales.scaled(codes - self.steps, 2 - self.bits, scale.dtype) * scale


@pytree
class Sign(PaddedByZeros):
    """One bit: -norm or +norm, the latter with probability (1 + v / norm) / 2."""

    norm: float = static()
    scale_bits: int = static()

    n_meta: ClassVar[int] = 1
    keeps_zeros: ClassVar[bool] = False
    looks_up: ClassVar[bool] = False
    dithers: ClassVar[bool] = False
    rounds_magnitudes: ClassVar[bool] = False

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return 2

    def significant(self, dtype: np.dtype) -> int:
        """See `Rounding`."""
        return scales.most_significant(self.scale_bits, dtype)

    def measure(self, bucket: Array) -> tuple[Grid, Array]:
        """See `Rounding`."""
        largest, lift = scales.lift_of(scales.largest_magnitude(bucket))
        norm = scales.norm_of(bucket, lift, largest, self.norm)
        drop = scales.significand(lift.dtype) - self.significant(lift.dtype)
        norm = scales.round_up(norm, 1.0, drop, lift)
        inverse = scales.inverse(norm)
        return Grid(lift, jnp.zeros_like(norm), norm, inverse), norm / lift

    def round(self, values: Array, grid: Grid, r16: Array) -> Array:
        """See `Rounding`."""
        place = jnp.round(values * grid.lift * (grid.inverse * 2.0**15))
        codes = (2**15 + scales.to_int32(place) + r16) >> 16
        return jnp.clip(codes, 0, 1).astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`."""
        (norm,) = meta
        return (2 * codes - 1).astype(norm.dtype) * norm


def _rounding(bits: int, norm: float, scale_bits: int, table: Array | None) -> Rounding:
    del table
    return Sign(norm, scale_bits) if bits == 1 else Uniform(bits, norm, scale_bits)


FAMILIES["uniform"] = Family(_rounding)


def uniform(
    bits: int = 8,
    *,
    norm: float = math.inf,
    bucket_size: int | None = 1024,
    scale_bits: int = 32,
) -> Quantizer:
    """Equal steps between -||v||_q and ||v||_q: QSGD (q = 2), QSGD-inf (q = infinity).

    Args:
        bits: per coordinate, sign included, 1 to 8; 2^(bits - 1) - 1 steps on each side
            of zero, so that 2 bits are ternary. 1 bit has the levels -n and n alone.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm; None for one bucket.
        scale_bits: of that norm on the wire: 32, or 16, which rounds it up by 1/256 in
            the mean, so that smaller buckets cost less; for float64 vectors 32 alone.

    Returns:
        The quantizer. It costs bits + scale_bits / bucket_size bits per coordinate.

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.uniform(bits=4).n_bytes(1_000_000)  # float32 takes 4,000,000
        503908

    References:
        Alistarh et al., QSGD, NeurIPS 2017; Ramezani-Kebrya et al., Distributed
        Extra-gradient with Optimal Complexity and Communication Guarantees, ICLR 2023,
        section 3.
    """
    return Quantizer("uniform", bits, norm, bucket_size, scale_bits=scale_bits)
