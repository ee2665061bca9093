"""Rounding to a table of levels over a bucket's norm, or over its range.

Levels and norms have SIGNIFICANT_BITS bits each, so that their products, which
coordinates are compared with, and which they become, are exact.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from qgenx_jax._codec import scales
from qgenx_jax._codec.levels import SIGNIFICANT_BITS, lookup, neighbours
from qgenx_jax._codec.rounding import PaddedByZeros, pytree, static
from qgenx_jax._types import Array


@pytree
class TableRounding(PaddedByZeros):
    """What all tables have in common: the norm, and the level below and above."""

    bits: int = static()
    norm: Any = static()
    scale_bits: int = static()
    table: Array
    """Not decreasing, the last one 1, float32 of SIGNIFICANT_BITS bits, or all NaN."""

    n_meta: ClassVar[int] = 1
    looks_up: ClassVar[bool] = True
    dithers: ClassVar[bool] = False

    def significant(self, dtype: np.dtype) -> int:
        """See `Rounding`: every level times the scale is exact."""
        most = scales.most_significant(self.scale_bits, dtype)
        return min(SIGNIFICANT_BITS, most)

    def measure(self, bucket: Array) -> tuple[tuple[Array, Array], Array]:
        """See `Rounding`."""
        largest, lift = scales.lift_of(scales.largest_magnitude(bucket))
        drop = scales.significand(lift.dtype) - self.significant(lift.dtype)
        scale = scales.round_up(
            scales.norm_of(bucket, lift, largest, self.norm), 1.0, drop, lift
        )
        scale *= self.table[-1].astype(lift.dtype)  # 1, or NaN: no levels at all
        return (lift, scale), scale / lift

    def up_or_down(self, value: Array, low: Array, high: Array, r16: Array) -> Array:
        """1 where a value goes to the level above it, 0 where to the one below."""
        width = jnp.where(high > low, high - low, 1)
        # not times 2^16 / width, which may be infinite; `to_int32` rounds it
        place = (value - low) / width * 2.0**16
        return (scales.to_int32(place) + r16 >= 2**16).astype(jnp.int32)


@pytree
class WithZero(TableRounding):
    """norm * sign * (l_{tau+1} with probability xi, else l_tau), l_0 = 0.

    The table has l_1, ..., l_{s+1}.
    """

    keeps_zeros: ClassVar[bool] = True
    rounds_magnitudes: ClassVar[bool] = True

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return 2 * self.table.size + 1

    def round(self, values: Array, grid: tuple[Array, Array], r16: Array) -> Array:
        """See `Rounding`."""
        lift, scale = grid
        magnitude = jnp.abs(values * lift)
        table = self.table.astype(magnitude.dtype)
        below, low, high = neighbours(magnitude, table, scale)
        index = below + self.up_or_down(magnitude, low, high, r16)
        code = jnp.where(values < 0, -index, index) + self.table.size
        return code.astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`."""
        (scale,) = meta
        above = self.table.astype(scale.dtype)
        table = jnp.concatenate([-above[::-1], jnp.zeros(1, scale.dtype), above])
        return lookup(table, codes) * scale


@pytree
class WithoutZero(TableRounding):
    """The same without a level 0: magnitudes below l_1 become l_1 or -l_1.

    Of 2n codes, n - 1 + j stands for l_j and n - j for -l_j, l_1, ..., l_n the table.
    """

    keeps_zeros: ClassVar[bool] = False
    rounds_magnitudes: ClassVar[bool] = True

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return 2 * self.table.size

    def round(self, values: Array, grid: tuple[Array, Array], r16: Array) -> Array:
        """See `Rounding`."""
        lift, scale = grid
        lifted = values * lift
        magnitude = jnp.abs(lifted)
        table = self.table.astype(magnitude.dtype)
        below, low, high = neighbours(magnitude, table, scale, -table[0])
        index = below + self.up_or_down(magnitude, low, high, r16)
        # of a magnitude 0 stands for -l_1, which is l_1 where the sign is turned
        size = self.table.size
        code = jnp.where(lifted < 0, size - index, size - 1 + index)
        return code.astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`: magnitudes are looked up, the sign is the scale's."""
        (scale,) = meta
        above = codes - self.table.size
        magnitude = lookup(self.table.astype(scale.dtype), above ^ (above >> 31))
        return magnitude * jnp.where(above < 0, -scale, scale)


@pytree
class Signed(TableRounding):
    """norm * (t_{j+1} with probability xi, else t_j), t_j <= v / norm <= t_{j+1}.

    The table goes from -1 to 1 and need not be symmetric.
    """

    keeps_zeros: ClassVar[bool] = False
    rounds_magnitudes: ClassVar[bool] = False

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return self.table.size

    def round(self, values: Array, grid: tuple[Array, Array], r16: Array) -> Array:
        """See `Rounding`."""
        lift, scale = grid
        lifted = values * lift
        table = self.table.astype(lifted.dtype)
        below, low, high = neighbours(lifted, table[1:], scale, table[0])
        return (below + self.up_or_down(lifted, low, high, r16)).astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`."""
        (scale,) = meta
        return lookup(self.table.astype(scale.dtype), codes) * scale


@pytree
class OverRange(TableRounding):
    """min + (max - min) (l_{tau+1} with probability xi, else l_tau), l_0 = 0.

    The table has l_1, ..., l_n = 1. On the wire are the minimum and half of the range,
    which does not overflow where max - min does.
    """

    n_meta: ClassVar[int] = 2
    keeps_zeros: ClassVar[bool] = False
    rounds_magnitudes: ClassVar[bool] = False

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return self.table.size + 1

    def measure(self, bucket: Array) -> tuple[tuple[Array, Array, Array], Array]:
        """See `Rounding`."""
        low, high = scales.extremes(bucket)
        _, lift = scales.lift_of(jnp.maximum(jnp.abs(low), jnp.abs(high)))
        low, high = low * lift, high * lift
        drop = scales.significand(lift.dtype) - self.significant(lift.dtype)
        # half: of the range what is finite on the wire is twice as much
        half = scales.round_up(high - low, 2.0, drop, 2 * lift)
        half *= self.table[-1].astype(lift.dtype)  # 1, or NaN: no levels at all
        return (lift, low, 2 * half), scales.side_by_side(low, half) / lift

    def round(
        self, values: Array, grid: tuple[Array, Array, Array], r16: Array
    ) -> Array:
        """See `Rounding`."""
        lift, low, scale = grid
        above = values * lift - low
        table = self.table.astype(above.dtype)
        below, lower, upper = neighbours(above, table, scale)
        return (below + self.up_or_down(above, lower, upper, r16)).astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`."""
        low, half = meta
        above = self.table.astype(half.dtype)
        table = jnp.concatenate([jnp.zeros(1, half.dtype), above])
        return scales.above(low, lookup(table, codes) * half)

    def padding(self, vector: Array, real: int | Array) -> Array:
        """See `Rounding`: the last coordinate, since a minimum counts, too."""
        return vector[jnp.maximum(real - 1, 0)]
