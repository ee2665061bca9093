"""What the battery draws: numbers of a source, features of them, keys of streams."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import random as prng

from qgenx_jax._codec.bits import counter_words
from qgenx_jax._random import next_key

Source = Callable[..., jax.Array]  # (key, shape, offset) -> 16 bits as int32

MEAN, SD = (2**16 - 1) / 2, math.sqrt((2**32 - 1) / 12)
FEATURES = ("value", "below 1/2", "below 1/100")


def coordinates(key: jax.Array, shape: tuple[int, ...], offset: Any = 0) -> jax.Array:
    """The library's source: the bits of coordinates, row-major from `offset` on.

    As in buckets of 1024: coordinate j < 512 of a row has the upper half of the row's
    word j, and j + 512 the lower half.
    """
    at = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape) + jnp.uint32(offset)
    index = (at >> 10) * jnp.uint32(512) + (at & jnp.uint32(511))
    words = counter_words(jax.random.bits(key, (2,), jnp.uint32), index)
    upper = (at & jnp.uint32(512)) == 0
    return jnp.where(upper, words >> 16, words & jnp.uint32(2**16 - 1)).astype(
        jnp.int32
    )


@functools.partial(jax.jit, static_argnums=(0, 2))
def stream(source: Source, key: jax.Array, n: int) -> jax.Array:
    """The first n numbers of a key's stream."""
    return source(key, (n,), 0).astype(jnp.uint16)


@jax.jit
def counts(values: jax.Array) -> jax.Array:
    """How often each of 2^16 values occurs."""
    return jnp.zeros(2**16, jnp.int32).at[values.astype(jnp.int32)].add(1)


def feature(bits: jax.Array, name: str) -> jax.Array:
    """A function of bits with mean 0 and variance 1."""
    if name == "value":
        return (bits.astype(jnp.float32) - MEAN) / SD
    until = 2**16 // int(name.rpartition("/")[2])
    p = until / 2**16
    return ((bits < until) - jnp.float32(p)) / math.sqrt(p * (1 - p))


def chosen_words(words: jax.Array) -> jax.Array:
    """A key whose `jax.random.bits(key, (2,))` are these two words."""
    return jax.random.wrap_key_data(words, impl=WORDS)


WORDS = prng.define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jnp.stack([seed, seed]).astype(jnp.uint32),
    split=lambda key, shape: jnp.broadcast_to(key, (*shape, 2)),
    random_bits=lambda key, width, shape: key,
    fold_in=lambda key, data: key,
    name="words",
)


@jax.jit
def exchange_keys(key: jax.Array) -> jax.Array:
    """Keys of two exchanges of two parts between four workers, as they are made.

    Six of each worker: of `all_gather`, and of both phases of `reduce_scatter`.
    """

    def six(used, part, worker):
        own = jax.random.fold_in(jax.random.fold_in(used, part), worker)
        chunks = jax.vmap(jax.random.fold_in, (None, 0))(own, jnp.arange(5))
        return jnp.concatenate([own[None], chunks])

    key, first = next_key(key)
    steps = jnp.stack([first, next_key(key)[1]])
    step, part, worker = np.indices((2, 2, 4)).reshape(3, -1)
    return jax.vmap(six)(steps[step], part, worker).ravel()
