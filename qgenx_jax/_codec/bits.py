"""The counter-based bits that decide every rounding.

`jax.random.bits` costs about twenty times what the rest of an encoder costs. Here the
16 bits that round a coordinate are half of a hash of (position, key), computed in
registers where they are used: nothing is stored, and the bits do not depend on how the
program is mapped.

K workers that average their vectors may share the hash (`Joint`): each then takes the
bits in an order of its own, in which no two of them are in the same one of K strata.

    h           the 16 bits of a position, alike on all workers
    sigma       a permutation of the workers, anew for each bucket
    stratum     of h, moved on by sigma(k) strata: no two workers are in the same
    u_k         h moved so, and turned round within its stratum, by a number of the
                worker's own for each bucket

For given sigma and turns h -> u_k is one-to-one on 0 .. 2^16 - 1, so that u_k is as
uniform as h is, for every K; and over sigma and turns, u_j and u_k are independent
given their strata, which are any two with equal probability. So for two workers

    P(u_j < p, u_k < q) = (sum_a p_a sum_b q_b - sum_a p_a q_a) / (K (K - 1)) <= p q

with p_a = clip(K p - a, 0, 1): roundings up are never positively correlated, and the
mean of K vectors never has more variance than by bits of their own.

References:
    Suresh, Sun, Ro, Yu, Correlated Quantization for Distributed Mean Estimation and
    Optimization, ICML 2022, has u_k = (pi(k) + gamma_k) / K with a gamma_k, and a
    permutation pi, for each coordinate: the same law of two workers, by K hashes.
"""

import dataclasses
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax._codec.orders import Order, Turned, ends
from qgenx_jax._types import Array

ROUNDINGS = ("correlated", "independent")
"""By bits that workers share, or by each one's own."""
MOST_STRATA = 256
"""Of more workers several share a stratum, fewer than by chance."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joint:
    """A key that K workers have in common, and which of them this one is.

    Attributes:
        key: a PRNG key, alike on all.
        worker: its number, int32 of shape (); or those that rows came from, (rows,).
        workers: K, at least 2.
        order: in which each takes the bits: "strata", as above, or, for dithers, turned
            round: "evenly", by multiples of 2^16 / K, no two workers by the same one,
            or "apart", each by a number of its own; all anew for each bucket. "own" is
            of bits that are not shared, by the key `own`.
    """

    key: Array
    worker: Array
    workers: int = dataclasses.field(metadata={"static": True})
    order: str = dataclasses.field(default="strata", metadata={"static": True})


Stream: TypeAlias = Array | Joint
"""Where rounding bits come from: a key of one's own, or one that workers share."""


def folded(stream: Stream, number: Array | int) -> Stream:
    """Another stream, of the same workers, for each number."""
    if isinstance(stream, Joint):
        key = jax.random.fold_in(stream.key, number)
        return dataclasses.replace(stream, key=key)
    return jax.random.fold_in(stream, number)


def own(stream: Stream) -> Array:
    """A key of this worker's own."""
    if isinstance(stream, Joint):
        return jax.random.fold_in(stream.key, stream.worker)
    return stream


def of_all(stream: Stream) -> Stream:
    """Of K workers' rows, in their order; a key of one's own is that of one row."""
    if isinstance(stream, Joint):
        every = jnp.arange(stream.workers, dtype=jnp.int32)
        return dataclasses.replace(stream, worker=every)
    return stream


def of_one(stream: Stream) -> Stream:
    """Of this worker's one row."""
    if isinstance(stream, Joint):
        return dataclasses.replace(stream, worker=stream.worker[None])
    return stream


def row(stream: Stream, k: Array | int) -> Stream:
    """Of the worker that row k came from."""
    if isinstance(stream, Joint):
        return dataclasses.replace(stream, worker=stream.worker[k])
    return stream


def own_keys(stream: Stream) -> Array:
    """The keys `own` of the workers that rows came from: (rows,)."""
    if isinstance(stream, Joint):
        return jax.vmap(lambda k: jax.random.fold_in(stream.key, k))(stream.worker)
    return stream[None]


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
        order: in which a worker takes shared bits; None for bits of its own.
    """

    key: Array
    rows: int
    half: int
    offset: int
    order: Order | Turned | None = None

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
        if self.order is not None:
            words = self.order.of(words if upper else words << 16)
            upper = True
        bits = words >> 16 if upper else words & jnp.uint32(2**16 - 1)
        return bits.astype(jnp.int32)

    def runs(self, count: int, length: int) -> Array:
        """Those of rows that are read in runs: int32 (rows, count, length).

        What follows a row's end has bits, too.
        """
        shape = (self.rows, count, length)
        place = lax.broadcasted_iota(jnp.uint32, shape, 1) * jnp.uint32(length)
        place += lax.broadcasted_iota(jnp.uint32, shape, 2)
        is_lower = place >= jnp.uint32(self.half)
        index = place - jnp.where(is_lower, jnp.uint32(self.half), jnp.uint32(0))
        index += lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(self.half)
        words = counter_words(self.key, index + jnp.uint32(self.offset))
        words = jnp.where(is_lower, words << 16, words)
        if self.order is not None:
            assert isinstance(self.order, Turned)  # strata are not drawn again
            words = self.order.of(words)
        return (words >> 16).astype(jnp.int32)


def hashes_of(joint: Joint, keys: Array, rows: int, first: int) -> Array:
    """By which workers are ranked for rows, anew for each: uint32 (rows, K)."""
    row = jnp.uint32(first) + lax.broadcasted_iota(jnp.uint32, (rows, 1), 0)
    others = lax.broadcasted_iota(jnp.uint32, (1, joint.workers), 1)
    return counter_words(keys[:2], row * jnp.uint32(joint.workers) + others)


def order_for(
    joint: Joint, keys: Array, rows: int, first: int, hashes: Array | None = None
) -> Order | Turned:
    """In which order a worker takes the bits of rows, `first` the number of the first.

    Its stratum is the rank of its hash among those of all workers for the row; among
    more than MOST_STRATA workers, ranks that differ by that number share one. `keys`
    are four words: two for these hashes (`hashes_of`, where they are known), and two
    for those of the turns.
    """
    strata = min(joint.workers, MOST_STRATA)
    row = jnp.uint32(first) + lax.broadcasted_iota(jnp.uint32, (rows, 1), 0)
    row *= jnp.uint32(joint.workers)
    worker = joint.worker.astype(jnp.uint32)
    if joint.order == "apart":
        return Turned(counter_words(keys[2:], row + worker) >> 16)
    others = lax.broadcasted_iota(jnp.uint32, (1, joint.workers), 1)
    if hashes is None:
        hashes = hashes_of(joint, keys, rows, first)
    mine = counter_words(keys[:2], row + worker)
    precedes = (hashes < mine) | ((hashes == mine) & (others < worker))
    rank = jnp.sum(precedes, axis=1, keepdims=True, dtype=jnp.uint32)
    if joint.order == "evenly":
        return Turned((rank << 16) // jnp.uint32(joint.workers))
    if joint.workers > strata:
        rank %= jnp.uint32(strata)
    turn = counter_words(keys[2:], row + worker) >> 16
    turn = (turn * jnp.uint32(2**16 // strata)) >> 16
    if 2**16 % strata == 0:
        return Order(rank * jnp.uint32(2**16 // strata), turn, strata)
    end, size = ends(rank, strata)
    return Order(end - size, turn, strata)


def words_of(stream: Stream) -> Array:
    """What all bits of a stream are made of: uint32."""
    if isinstance(stream, Joint) and stream.order != "own":
        return jax.random.bits(stream.key, (6,), jnp.uint32)
    return jax.random.bits(own(stream), (2,), jnp.uint32)


def bits_for(
    stream: Stream,
    rows: int,
    half: int,
    offset: int,
    first: int = 0,
    words: Array | None = None,
    hashes: Array | None = None,
) -> Bits:
    """The bits of rows of 2 * half coordinates.

    Args:
        stream: a PRNG key, or one that workers share.
        rows: their number.
        half: words of a row; offset plus rows * half is at most 2**32.
        offset: how many words others of this key have used.
        first: how many rows others of this key had.
        words: `words_of` the stream, where they are known.
        hashes: `hashes_of` it, where they are.
    """
    words = words_of(stream) if words is None else words
    order = None
    if isinstance(stream, Joint) and stream.order != "own":
        order = order_for(stream, words[2:], rows, first, hashes)
    return Bits(words[:2], rows, half, offset, order)


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
