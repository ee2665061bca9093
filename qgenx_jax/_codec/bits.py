"""The counter-based bits that decide every rounding.

`jax.random.bits` costs about twenty times what the rest of an encoder costs. Here the
16 bits that round a coordinate are half of a hash of (position, key), computed in
registers where they are used: nothing is stored, and the bits do not depend on how the
program is mapped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax._types import Array


class Bits(NamedTuple):
    """16 random bits for each coordinate of rows, drawn where they are used.

    Rows of 2 h coordinates have h words of 32 bits: coordinate j < h is rounded by the
    upper half of word j, and j + h by the lower. On the way to packed codes the two
    meet in one loop, so that a word is drawn once.

    Attributes:
        key: two words of a key, uint32 of shape (2,).
        rows: their number.
        half: h.
        offset: index of the first word.
    """

    key: Array
    rows: int
    half: int
    offset: int

    def piece(self, start: int, length: int) -> Array:
        """Those of coordinates start to start + length, all in one half.

        Returns:
            int32 of shape (rows, length), from 0 to 2^16 - 1.
        """
        upper = start < self.half
        first = start if upper else start - self.half
        shape = (self.rows, length)
        index = jnp.full(shape, self.offset + first, jnp.uint32)
        index += lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(self.half)
        index += lax.broadcasted_iota(jnp.uint32, shape, 1)
        words = counter_words(self.key, index)
        bits = words >> 16 if upper else words & jnp.uint32(2**16 - 1)
        return bits.astype(jnp.int32)


def bits_for(key: Array, rows: int, half: int, offset: int) -> Bits:
    """The bits of rows of 2 * half coordinates.

    Args:
        key: a PRNG key.
        rows: their number.
        half: words of a row; offset plus rows * half is at most 2**32.
        offset: how many words others of this key have used.
    """
    return Bits(jax.random.bits(key, (2,), jnp.uint32), rows, half, offset)


def counter_words(key: Array, index: Array) -> Array:
    """32 random bits for each index, a hash of it and of two words.

    Three rounds of multiply and xor-shift. One word of the key enters before the first
    and one after it, so that streams of two keys are not shifted copies of each other.

    Args:
        key: two words, uint32, of shape (2,).
        index: uint32, of any shape.

    References:
        The multipliers and shifts are those of triple32, found by C. Wellons's search
        for integer hashes of low bias (2018).
    """
    x = index + key[0]
    x = (x ^ (x >> 17)) * jnp.uint32(0xED5AD4BB)
    x += key[1]
    x = (x ^ (x >> 11)) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    return x ^ (x >> 14)
