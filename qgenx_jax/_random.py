"""Randomness: keys, and the counter-based bits that decide every rounding.

`jax.random.bits` costs about twenty times what the rest of an encoder costs. Here the
16 bits that round coordinate i are a hash of (i, key), computed in registers where they
are used: nothing is stored, and the bits do not depend on how the program is mapped.
"""

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


def counter_bits(key: Array, shape: tuple[int, ...], offset: int = 0) -> Array:
    """16 random bits per position, uniform on 0 .. 65535, as int32 of `shape`.

    Position i (row-major, counted from `offset`) gets the upper half of a 32-bit hash,
    three rounds of multiply and xor-shift. One word of the key enters before the first
    and one after it, so that streams of two keys are not shifted copies of each other.

    Args:
        key: a PRNG key; two words are drawn from it.
        shape: of the result; offset plus its size is at most 2**32.
        offset: index of the first position.

    References:
        The multipliers and shifts are those of triple32, found by C. Wellons's search
        for integer hashes of low bias (2018).
    """
    words = jax.random.bits(key, (2,), jnp.uint32)
    x = jnp.full(shape, offset, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        x += lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    x += words[0]
    x = (x ^ (x >> 17)) * jnp.uint32(0xED5AD4BB)
    x += words[1]
    x = (x ^ (x >> 11)) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    x ^= x >> 14
    return (x >> 16).astype(jnp.int32)


def threefry_bits(key: Array, shape: tuple[int, ...], offset: int = 0) -> Array:
    """16 random bits per position from `jax.random`, as int32 of `shape`.

    Slower than `counter_bits` by far, and stored before they are used; for checks, and
    for those who want nothing but jax.random's generator.
    """
    key = jax.random.fold_in(key, offset)
    return jax.random.bits(key, shape, jnp.uint16).astype(jnp.int32)
