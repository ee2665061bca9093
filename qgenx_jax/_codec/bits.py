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

from qgenx_jax._types import Array

ROUNDINGS = ("correlated", "independent")
"""By bits that workers share, or by each one's own."""
MOST_STRATA = 256
"""Of more workers several share a stratum, fewer than by chance."""
FEW_STRATA = 5
"""Strata that a number is looked for in one by one."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joint:
    """A key that K workers have in common, and which of them this one is.

    Attributes:
        key: a PRNG key, alike on all.
        worker: its number, int32 of shape ().
        workers: K, at least 2.
    """

    key: Array
    worker: Array
    workers: int = dataclasses.field(metadata={"static": True})


Stream: TypeAlias = Array | Joint
"""Where rounding bits come from: a key of one's own, or one that workers share."""


def folded(stream: Stream, number: Array | int) -> Stream:
    """Another stream, of the same workers, for each number."""
    if isinstance(stream, Joint):
        key = jax.random.fold_in(stream.key, number)
        return Joint(key, stream.worker, stream.workers)
    return jax.random.fold_in(stream, number)


def own(stream: Stream) -> Array:
    """A key of this worker's own."""
    if isinstance(stream, Joint):
        return jax.random.fold_in(stream.key, stream.worker)
    return stream


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
    order: "Order | None" = None

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
        end, size = _ends(half * jnp.uint32(self.strata) >> 16, self.strata)
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


def _ends(stratum: Array, strata: int) -> tuple[Array, Array]:
    """ceil((a + 1) 2^16 / S), and how many numbers the stratum a has: uint32.

    By a product with 2^32 / S, rounded down: exact for S up to 255 that are no powers
    of two, as quotients that are not whole numbers are at least 1 / S away from one.
    """
    each = jnp.uint32(2**32 // strata)
    product = stratum * each
    last, before = (product + (each - 1)) >> 16, (product - 1) >> 16
    return last + 1, (last - before) & jnp.uint32(2**16 - 1)


def order_for(joint: Joint, keys: Array, rows: int, first: int) -> Order:
    """In which order a worker takes the bits of rows, `first` the number of the first.

    Its stratum is the rank of its hash among those of all workers for the row; among
    more than MOST_STRATA workers, ranks that differ by that number share one. `keys`
    are four words: two for these hashes, and two for those of the turns.
    """
    strata = min(joint.workers, MOST_STRATA)
    row = jnp.uint32(first) + lax.broadcasted_iota(jnp.uint32, (rows, 1), 0)
    row *= jnp.uint32(joint.workers)
    worker = joint.worker.astype(jnp.uint32)
    others = lax.broadcasted_iota(jnp.uint32, (1, joint.workers), 1)
    hashes, mine = (counter_words(keys[:2], row + k) for k in (others, worker))
    precedes = (hashes < mine) | ((hashes == mine) & (others < worker))
    rank = jnp.sum(precedes, axis=1, keepdims=True, dtype=jnp.uint32)
    if joint.workers > strata:
        rank %= jnp.uint32(strata)
    turn = counter_words(keys[2:], row + worker) >> 16
    turn = (turn * jnp.uint32(2**16 // strata)) >> 16
    if 2**16 % strata == 0:
        return Order(rank * jnp.uint32(2**16 // strata), turn, strata)
    end, size = _ends(rank, strata)
    return Order(end - size, turn, strata)


def bits_for(stream: Stream, rows: int, half: int, offset: int, first: int = 0) -> Bits:
    """The bits of rows of 2 * half coordinates.

    Args:
        stream: a PRNG key, or one that workers share.
        rows: their number.
        half: words of a row; offset plus rows * half is at most 2**32.
        offset: how many words others of this key have used.
        first: how many rows others of this key had.
    """
    if not isinstance(stream, Joint):
        return Bits(jax.random.bits(stream, (2,), jnp.uint32), rows, half, offset)
    words = jax.random.bits(stream.key, (6,), jnp.uint32)
    return Bits(
        words[:2], rows, half, offset, order_for(stream, words[2:], rows, first)
    )


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
