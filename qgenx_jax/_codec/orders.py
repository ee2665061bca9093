"""One-to-one maps of 16 bits, by which workers take shared bits in orders of their own.

What they are for is said in `bits`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from qgenx_jax._types import Array

FEW_STRATA = 5
"""Strata that a number is looked for in one by one."""


class Turned(NamedTuple):
    """The 16 bits of each row, turned round.

    Attributes:
        turn: what is added, less than 2^16, uint32 (rows, 1).
    """

    turn: Array

    def of(self, words: Array) -> Array:
        """Words (rows, any) whose upper halves are turned: uint32."""
        turn = self.turn.reshape(-1, *(1 for _ in words.shape[1:]))
        return words + (turn << 16)


class Order(NamedTuple):
    """A one-to-one map of 16 bits for each row, in which a worker takes shared bits.

    Of S strata, number a has the numbers from ceil(a 2^16 / S) on.

    Attributes:
        shift: where the stratum begins that stratum 0 goes to, uint32 (rows, 1).
        turn: what is added within a stratum, less than any has, uint32 (rows, 1).
        strata: S, 2 to MOST_STRATA.
    """

    shift: Array
    turn: Array
    strata: int

    def of(self, words: Array) -> Array:
        """Words (rows, any) whose upper halves are mapped: uint32."""
        if 2**16 % self.strata == 0:  # to move and turn is to flip bits
            return words ^ ((self.shift | self.turn) << 16)
        moved = words + (self.shift << 16)
        if self.strata <= FEW_STRATA:
            return self._by_comparing(moved)
        half = moved >> 16
        end, size = ends(half * jnp.uint32(self.strata) >> 16, self.strata)
        turned = half + self.turn
        return jnp.where(turned >= end, turned - size, turned) << 16

    def _by_comparing(self, moved: Array) -> Array:
        """The stratum by comparisons, which for few are less than two products.

        As signed numbers, 2^31 less, since CPUs have no comparison of unsigned ones.
        """
        ends = [-(-(a + 1) * 2**16 // self.strata) for a in range(self.strata)]
        sizes = [end - before for end, before in zip(ends, [0, *ends], strict=False)]
        sign = jnp.uint32(2**31)
        turn, moved = self.turn << 16, _signed(moved + sign)
        # the last number that is turned forward, and how far the others are moved
        last = _signed(jnp.uint32(2**31 - 1) - turn)
        back = _signed(turn - jnp.uint32(sizes[-1] << 16) + sign)
        for a in reversed(range(self.strata - 1)):
            end = jnp.uint32(ends[a] << 16) - sign
            is_below, last_here = moved < _signed(end), _signed(end - 1 - turn)
            last = jnp.where(is_below, last_here, last)
            if sizes[a] != sizes[a + 1]:
                back_here = _signed(turn - jnp.uint32(sizes[a] << 16) + sign)
                back = jnp.where(is_below, back_here, back)
        turned = moved + jnp.where(moved > last, back, _signed(turn + sign))
        return lax.bitcast_convert_type(turned, jnp.uint32)


def _signed(words: Array) -> Array:
    return lax.bitcast_convert_type(words, jnp.int32)


def ends(stratum: Array, strata: int) -> tuple[Array, Array]:
    """ceil((a + 1) 2^16 / S), and how many numbers the stratum a has: uint32.

    By a product with 2^32 / S, rounded down: exact for S up to 255 that are no powers
    of two, as quotients that are not whole numbers are at least 1 / S away from one.
    """
    each = jnp.uint32(2**32 // strata)
    product = stratum * each
    last, before = (product + (each - 1)) >> 16, (product - 1) >> 16
    return last + 1, (last - before) & jnp.uint32(2**16 - 1)
