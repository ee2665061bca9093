"""Tables of levels: what they may look like, what rounding to them costs, a grid."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._adapt.distributions import Law
from qgenx_jax._codec.bend import Bend
from qgenx_jax._codec.levels import LEAST_LEVEL, SIGNIFICANT_BITS, Shape
from qgenx_jax._types import Array


class Kind(NamedTuple):
    """What tables may look like, known when a solver is traced."""

    signed: bool
    """From -1 to 1, else from 0 to 1."""
    zero: int | None = None
    """Which level of a signed table is 0 and stays so; None for none."""
    mirrored: bool = False
    """Of magnitudes without 0: l_1 > 0 is free, and u below it goes to l_1 or -l_1."""
    ends: bool = False
    """Whether u = 0 and u = 1 cost something, too: they are no levels of a dither."""
    ranged: bool = False
    """Whether u is a place between a bucket's minimum and maximum."""

    def whole(self, table: Array) -> Array:
        """A table with both ends, (n,): a mirrored one with the 0 that is no level."""
        return jnp.pad(table, (1, 0)) if self.mirrored else table

    def levels(self, whole: Array) -> Array:
        """What `whole` was made of, along the last axis."""
        return whole[..., 1:] if self.mirrored else whole

    def free(self, count: int) -> Array:
        """Which inner levels of a whole table of this many may move, (count - 2,)."""
        return jnp.arange(1, count - 1) != (0 if self.zero is None else self.zero)

    def with_zero(self, table: Array) -> Array:
        """A whole table whose level number `zero` is 0."""
        return table if self.zero is None else table.at[self.zero].set(0)


MAGNITUDES = Kind(signed=False)
"""From 0 to 1, both of them levels."""


def kind_of(shape: Shape | Bend) -> Kind:
    """What tables of levels of a shape look like."""
    if isinstance(shape, Bend):
        return Kind(shape.signed, ends=True)
    mirrored = not (shape.signed or shape.zero)
    return Kind(shape.signed, mirrored=mirrored, ranged=shape.ranged)


class Parts(NamedTuple):
    """Of the intervals between n neighbours of a whole table, (n - 1,) each.

    A mirrored table's first interval is [-l_1, l_1], folded: to_upper of it is not.
    """

    mass: Array
    """int dF"""
    to_lower: Array
    """int (u - a) dF, by which the cost grows with the upper end c"""
    to_upper: Array
    """int (c - u) dF, by which it falls with the lower end a"""
    cost: Array
    """int (c - u)(u - a) dF"""


def parts(law: Law, whole: Array, kind: Kind) -> Parts:
    """What variance and derivative are made of.

    Of a mirrored table the first cost is int_0^l (l - u)(u + l) dF with l = l_1, which
    is int (l - u) u dF + l int (l - u) dF; it grows with l by 2 l int dF.
    """
    mass, first, cross = law.moments(whole[:-1], whole[1:])
    to_upper = jnp.diff(whole) * mass - first
    if kind.mirrored:
        lowest = whole[1]
        cross = cross.at[0].add(lowest * jnp.maximum(to_upper[0], 0))
        first = first.at[0].set(2 * lowest * mass[0])
    return Parts(mass, first, to_upper, cross)


def variance(law: Law, table: Array, kind: Kind = MAGNITUDES) -> Array:
    """sum_j int_{l_j}^{l_{j+1}} (l_{j+1} - u)(u - l_j) dF(u).

    Of mirrored tables from j = 1 on, and int_0^{l_1} (l_1^2 - u^2) dF(u) more.
    """
    return jnp.sum(parts(law, kind.whole(table), kind).cost)


def derivative(law: Law, table: Array, kind: Kind = MAGNITUDES) -> Array:
    """Of the variance, in the inner levels: all but the ends, or but the last one.

    int_{l_{j-1}}^{l_j} (u - l_{j-1}) dF - int_{l_j}^{l_{j+1}} (l_{j+1} - u) dF

    and in l_1 of mirrored tables 2 l_1 F(l_1) - int_{l_1}^{l_2} (l_2 - u) dF.
    """
    found = parts(law, kind.whole(table), kind)
    return found.to_lower[:-1] - found.to_upper[1:]


def on_grid(table: Array, kind: Kind = MAGNITUDES) -> Array:
    """A float32 table to SIGNIFICANT_BITS bits, strictly increasing, its ends kept.

    Magnitudes of that many bits, from LEAST_LEVEL up, are numbered in their order;
    levels with the same number move to the next that are free. The lowest of a mirrored
    table stays above 0, which has the number 0.
    """
    table = kind.whole(table)
    drop = 24 - SIGNIFICANT_BITS
    first = int(np.float32(LEAST_LEVEL).view(np.int32)) >> drop

    def number(x: Array) -> Array:
        bits = lax.bitcast_convert_type(jnp.abs(x).astype(jnp.float32), jnp.int32)
        code = jnp.maximum(((bits + (1 << (drop - 1))) >> drop) - first + 1, 0)
        return jnp.where(x < 0, -code, code)

    place = jnp.arange(table.shape[0], dtype=jnp.int32)
    numbers = lax.cummax(number(table) - place)
    top = number(table[-1]) - place[-1]
    numbers = lax.cummin(jnp.minimum(numbers, top), reverse=True) + place
    bits = (jnp.abs(numbers) + first - 1) << drop
    values = lax.bitcast_convert_type(bits.astype(jnp.int32), jnp.float32)
    values = jnp.where(numbers == 0, 0, jnp.sign(numbers) * values)
    return kind.levels(values.astype(table.dtype))


def valid(table: Array, kind: Kind = MAGNITUDES) -> Array:
    """Whether a table increases strictly, a mirrored one from above 0; no NaN does."""
    return jnp.all(jnp.diff(kind.whole(table)) > 0)
