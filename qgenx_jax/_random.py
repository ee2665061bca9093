"""Randomness: keys, and the counter-based bits that decide every rounding.

`jax.random.bits` costs about twenty times what the rest of an encoder costs. Here the
16 bits that round a coordinate are half of a hash of (position, key), computed in
registers where they are used: nothing is stored, and the bits do not depend on how the
program is mapped.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._checks import refuse, whole_number
from qgenx_jax._types import Array

KeyOrSeed = chex.PRNGKey | int


def canonical_key(key: KeyOrSeed) -> Array:
    """A key from a key (typed, or a raw uint32 one) or from a whole-number seed.

    A raw key stays raw; `typed` makes it a typed one where it is used.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        # JAX drops what is above the lowest 32 bits: other seeds, equal keys
        return jax.random.key(whole_number("key", key, -(2**31), 2**32 - 1))
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    is_raw = dtype == jnp.uint32 and shape == _raw_shape()
    if not (is_raw or (is_typed and shape == ())):
        raise refuse(
            "key",
            "must be one PRNG key or a whole-number seed",
            key,
            "pass jax.random.key(seed) or the seed itself",
        )
    return jnp.asarray(key)


def _raw_shape() -> tuple[int, ...]:
    """Of a raw key of JAX's default generator."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape


def typed(key: Array) -> Array:
    """A typed key from a typed or a raw one."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def next_key(key: Array) -> tuple[Array, Array]:
    """The key to keep, of the kind it was (typed or raw), and a typed one to use."""
    kept, used = jax.random.split(typed(key))
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return kept if is_typed else jax.random.key_data(kept), used


class Bits(NamedTuple):
    """16 random bits for each coordinate of rows, drawn where they are used.

    Rows of 2 h coordinates have h words of 32 bits: coordinate j < h is rounded by the
    upper half of word j, and j + h by the lower. On the way to packed codes the two
    meet in one loop, so that a word is drawn once.

    Attributes:
        key: two words of a key; None where all words have been drawn.
        words: those that were drawn, (rows, h); None where they are counted.
        rows: their number.
        half: h.
        offset: index of the first word.
    """

    key: Array | None
    words: Array | None
    rows: int
    half: int
    offset: int

    def piece(self, start: int, length: int) -> Array:
        """Those of coordinates start to start + length, all in one half: int32."""
        upper = start < self.half
        first = start if upper else start - self.half
        shape = (self.rows, length)
        if self.words is not None:
            words = self.words[:, first : first + length]
        else:
            assert self.key is not None
            index = jnp.full(shape, self.offset + first, jnp.uint32)
            index += lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(self.half)
            index += lax.broadcasted_iota(jnp.uint32, shape, 1)
            words = counter_words(self.key, index)
        bits = words >> 16 if upper else words & jnp.uint32(2**16 - 1)
        return bits.astype(jnp.int32)


def bits_for(key: Array, source: str, rows: int, half: int, offset: int) -> Bits:
    """Of rows of 2 * half coordinates.

    Args:
        key: a PRNG key.
        source: "counter" or "threefry".
        rows: their number.
        half: words of a row; offset plus rows * half is at most 2**32.
        offset: how many words others of this key have used.
    """
    if source == "threefry":
        return Bits(None, threefry_words(key, (rows, half), offset), rows, half, offset)
    return Bits(jax.random.bits(key, (2,), jnp.uint32), None, rows, half, offset)


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


def threefry_words(key: Array, shape: tuple[int, ...], offset: int) -> Array:
    """32 random bits for each word of rows from `jax.random`.

    Slower than `counter_words` by far, and stored before they are used; for checks, and
    for those who want nothing but jax.random's generator.
    """
    return jax.random.bits(jax.random.fold_in(key, offset), shape, jnp.uint32)
