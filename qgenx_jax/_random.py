"""Randomness: keys, and the counter-based bits that decide every rounding.

`jax.random.bits` costs about twenty times what the rest of an encoder costs. Here the
16 bits that round coordinate i are a hash of (i, key), computed in registers where they
are used: nothing is stored, and the bits do not depend on how the program is mapped.
"""

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax._checks import refuse
from qgenx_jax._types import Array

KeyOrSeed = Array | int


def canonical_key(key: KeyOrSeed) -> Array:
    """A key from a key (typed, or a raw uint32 one) or from a whole-number seed.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(key, int) and not isinstance(key, bool):
        return jax.random.key(key)
    if not isinstance(key, bool | int | float):
        dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
        if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
            if shape == ():
                return jnp.asarray(key)
        elif dtype == jnp.uint32 and shape is not None and len(shape) == 1:
            return jax.random.wrap_key_data(key)
    raise refuse(
        "key",
        "must be one PRNG key or a whole-number seed",
        key,
        "pass jax.random.key(seed) or the seed itself",
    )


def counter_bits(key: Array, shape: tuple[int, ...], offset: int = 0) -> Array:
    """16 random bits per position, uniform on 0 .. 65535, as int32 of `shape`.

    Position i (row-major, counted from `offset`) gets the upper half of a 32-bit hash:
    two rounds of multiply and xor-shift, one word of the key entering before the first
    and one before the second, so that two keys never give shifted copies of one stream.

    Args:
        key: a PRNG key; two words are drawn from it.
        shape: of the result; offset plus its size is at most 2**32.
        offset: index of the first position.
    """
    words = jax.random.bits(key, (2,), jnp.uint32)
    x = jnp.full(shape, offset, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        x += lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    x += words[0]
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x += words[1]
    x = (x ^ (x >> 15)) * jnp.uint32(0x735A2D97)
    x ^= x >> 15
    return (x >> 16).astype(jnp.int32)
