"""One bucket per row: unbiased rounding to codes, and codes back to values.

Four codecs with one interface, for buckets of shape (rows, n), 16 random bits per
coordinate, unsigned codes as uint8 and `meta` of shape (rows, m): what the bucket's
coordinates share. `measure(bucket)` gives meta and the `grid` that coordinates are
rounded to; `round(values, grid, r16)` and `decode(codes, meta)` take each coordinate on
its own, so that a row can be cut into pieces in between. All work in float32, or in
float64 for float64 buckets.

Every rounding is done in integers: with f the place between two neighbouring levels in
units of 2^-16, rounded to a whole number, the upper one is taken if f + r >= 2^16, r
uniform on 0 .. 2^16 - 1. The mean over r is f / 2^16 without error, so the bias is that
of f alone, at most 2^-17 of the distance, and a value on a level (f = 0) never moves.
Whatever is multiplied by a code or a level has so few significant bits that the product
is exact: a compiler that fuses multiplications with additions gets the same bits as one
that does not.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _levels, _scales
from qgenx_jax._types import Array

Nearest = Callable[[Array], Array]


class Codec(Protocol):
    """Encoder and decoder of buckets."""

    def measure(self, *pieces: Array) -> tuple[Any, Array]:
        """Of buckets (rows, n), whole or in pieces: grid and meta.

        The grid's arrays are (rows, 1), meta is (rows, m).
        """
        ...

    def round(self, values: Array, grid: Any, r16: Array) -> Array:
        """Codes uint8 of coordinates (rows, any) of these buckets.

        `Uniform`, `Sign` and `MinMax` also take `nearest`, which rounds to the nearest
        whole number, ties to even, where `jnp.round` cannot be compiled.
        """
        ...

    def decode(self, codes: Array, meta: Sequence[Array]) -> Array:
        """Values, from int32 codes and m arrays that broadcast against them."""
        ...


class Grid(NamedTuple):
    """Levels at equal distances.

    Attributes:
        lift: power of two that coordinates are multiplied by first; NaN for a bucket
            that is not finite.
        low: level 0, lifted too; 0 but for `MinMax`.
        step: U, the distance, lifted too.
        inverse: 1 / U, or 1 where U is 0.
    """

    lift: Array
    low: Array
    step: Array
    inverse: Array


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

    def measure(self, *pieces: Array) -> tuple[Grid, Array]:
        """See `Codec`."""
        largest, lift = _scales.lift_of(_scales.largest_magnitude(*pieces))
        drop = 0 if self.steps == 1 else self.bits - 1
        norm = _scales.norm_of(pieces, lift, largest, self.norm)
        scale = _scales.round_up(norm, self.steps * self.unit, drop, lift)
        step = scale * self.unit
        inverse = _scales.inverse(step)
        return Grid(lift, jnp.zeros_like(step), step, inverse), scale / lift

    def round(
        self, values: Array, grid: Grid, r16: Array, nearest: Nearest = jnp.round
    ) -> Array:
        """See `Codec`."""
        values = values * grid.lift
        near = nearest(values * grid.inverse)
        rest = nearest((values - near * grid.step) * (grid.inverse * 2.0**16))
        code = _scales.whole(near) + ((_scales.whole(rest) + r16) >> 16)
        code = jnp.clip(code, -self.steps, self.steps) + self.steps
        return code.astype(jnp.uint8)

    def decode(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Codec`."""
        (scale,) = meta
        # code * unit is exact, so this is code * U, rounded nowhere
        return _scales.scaled(codes - self.steps, 2 - self.bits, scale.dtype) * scale


class Sign(NamedTuple):
    """One bit: -norm or +norm, the latter with probability (1 + v / norm) / 2."""

    norm: float

    def measure(self, *pieces: Array) -> tuple[Grid, Array]:
        """See `Codec`."""
        largest, lift = _scales.lift_of(_scales.largest_magnitude(*pieces))
        norm = _scales.norm_of(pieces, lift, largest, self.norm)
        norm = _scales.round_up(norm, 1.0, 0, lift)
        inverse = _scales.inverse(norm)
        return Grid(lift, jnp.zeros_like(norm), norm, inverse), norm / lift

    def round(
        self, values: Array, grid: Grid, r16: Array, nearest: Nearest = jnp.round
    ) -> Array:
        """See `Codec`."""
        place = nearest(values * grid.lift * (grid.inverse * 2.0**15))
        codes = (2**15 + _scales.whole(place) + r16) >> 16
        return jnp.clip(codes, 0, 1).astype(jnp.uint8)

    def decode(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Codec`."""
        (norm,) = meta
        return (2 * codes - 1).astype(norm.dtype) * norm


class Levels(NamedTuple):
    """Any levels: norm * sign * (l_{tau+1} with probability xi, else l_tau).

    Levels and norm have SIGNIFICANT_BITS bits each, so that their products, which
    magnitudes are compared with, are exact.
    """

    bits: int
    norm: float
    levels: Array
    """l_1 <= ... <= l_{s+1} = 1, float32 of SIGNIFICANT_BITS bits, or all NaN."""

    def measure(self, *pieces: Array) -> tuple[tuple[Array, Array], Array]:
        """See `Codec`."""
        largest, lift = _scales.lift_of(_scales.largest_magnitude(*pieces))
        drop = _scales.significand(lift.dtype) - _levels.SIGNIFICANT_BITS
        scale = _scales.round_up(
            _scales.norm_of(pieces, lift, largest, self.norm), 1.0, drop, lift
        )
        scale *= self.levels[-1].astype(lift.dtype)  # 1, or NaN: no levels at all
        return (lift, scale), scale / lift

    def round(self, values: Array, grid: tuple[Array, Array], r16: Array) -> Array:
        """See `Codec`."""
        lift, scale = grid
        magnitude = jnp.abs(values * lift)
        levels = self.levels.astype(magnitude.dtype)
        below, low, high = _levels.neighbours(magnitude, levels, scale)
        width = jnp.where(high > low, high - low, 1)
        # not times 2^16 / width, which may be infinite
        place = jnp.round((magnitude - low) / width * 2.0**16)
        index = below + jnp.clip((_scales.whole(place) + r16) >> 16, 0, 1)
        code = jnp.where(values < 0, -index, index) + self.levels.size
        return code.astype(jnp.uint8)

    def decode(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Codec`."""
        (scale,) = meta
        levels = self.levels.astype(scale.dtype)
        table = jnp.concatenate([-levels[::-1], jnp.zeros(1, scale.dtype), levels])
        return _levels.lookup(table, codes) * scale


class MinMax(NamedTuple):
    """2^b equal steps from the bucket's minimum to its maximum, as torch_cgx sends.

        unit = (max - min) / (2^b - 1),   code = (v - min) / unit rounded up or down

    with unit rounded up to 24 - b bits. On the wire are the minimum and 2^(b - 2) unit,
    a normal number that does not overflow where max - min does.
    """

    bits: int

    @property
    def half(self) -> float:
        """Scale / U, where scale is half of what 2^b steps would span."""
        return 2.0 ** (self.bits - 2)

    def measure(self, *pieces: Array) -> tuple[Grid, Array]:
        """See `Codec`."""
        low, high = _scales.extremes(*pieces)
        _, lift = _scales.lift_of(jnp.maximum(jnp.abs(low), jnp.abs(high)))
        low, high = low * lift, high * lift
        # the range may be twice the largest finite number, the top level is clipped
        steps = 2**self.bits - 1
        scale = _scales.round_up(high - low, steps / self.half, self.bits, 2 * lift)
        unit = scale * (1 / self.half)
        grid = Grid(lift, low, unit, _scales.inverse(unit))
        # not put together: that is no loop, and Triton has none for it
        first = lax.broadcasted_iota(jnp.int32, (*low.shape[:-1], 2), 1) == 0
        return grid, jnp.where(first, low, scale) / lift

    def round(
        self, values: Array, grid: Grid, r16: Array, nearest: Nearest = jnp.round
    ) -> Array:
        """See `Codec`."""
        above = values * grid.lift - grid.low
        near = nearest(above * grid.inverse)
        rest = nearest((above - near * grid.step) * (grid.inverse * 2.0**16))
        code = _scales.whole(near) + ((_scales.whole(rest) + r16) >> 16)
        return jnp.clip(code, 0, 2**self.bits - 1).astype(jnp.uint8)

    def decode(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Codec`."""
        low, scale = meta
        # halved, since the steps above the minimum may add up to more than is finite;
        # by a product, since Triton approximates quotients
        code = _scales.scaled(codes, 1 - self.bits, scale.dtype)
        largest = np.finfo(scale.dtype).max
        return jnp.clip(2 * (low * 0.5 + code * scale), -largest, largest)
