"""Orders of shared bits: one-to-one, and equal to a transcription."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._codec import bits as random_bits
from tests.lib import reference

WORKERS = (2, 3, 5, 6, 8, 100, 255, 300)  # strata by bits, comparisons and products


def joint(workers, worker, seed=0, order="strata"):
    return random_bits.Joint(jax.random.key(seed), jnp.int32(worker), workers, order)


@pytest.mark.quick
@pytest.mark.parametrize("workers", WORKERS)
def test_a_worker_takes_every_value_of_shared_bits_once(workers):
    """All 2^16 of them, so that its own rounding is as uniform as the hash."""
    words = jnp.arange(2**16, dtype=jnp.uint32)[None] << 16
    for worker in (0, workers - 1):
        keys = jnp.arange(4, dtype=jnp.uint32)
        order = random_bits.order_for(joint(workers, worker), keys, 4, 9)
        for garbage in (0, 2**16 - 1):  # the other coordinate's bits
            found = jax.jit(order.of)(words | jnp.uint32(garbage)) >> 16
            for row in np.asarray(found):
                assert (np.bincount(row, minlength=2**16) == 1).all(), (workers, worker)


@pytest.mark.quick
@pytest.mark.parametrize("workers", WORKERS)
def test_orders_of_shared_bits_equal_a_transcription(workers):
    """Ranks of hashes, strata from ceil(a 2^16 / S) on, and turns within them."""
    rows, first, worker, strata = 3, 5, workers // 2, min(workers, 256)
    stream = joint(workers, worker, seed=4)
    keys = np.asarray(jax.random.bits(stream.key, (6,), jnp.uint32))[2:]
    h = np.random.default_rng(0).integers(0, 2**16, 50)
    order = random_bits.bits_for(stream, rows, 4, 0, first).order
    words = jnp.broadcast_to(jnp.asarray(h, jnp.uint32) << 16, (rows, h.size))
    found = np.asarray(jax.jit(order.of)(words) >> 16)
    ends = [-(-(a + 1) * 2**16 // strata) for a in range(strata)]
    starts = [0, *ends[:-1]]
    for row in range(rows):
        at = (first + row) * workers
        hashes = reference.hash_words(keys[:2], range(at, at + workers)).tolist()
        rank = sum((x, k) < (hashes[worker], worker) for k, x in enumerate(hashes))
        (hashed,) = reference.hash_words(keys[2:], [at + worker])
        shift, turn = rank % strata, (int(hashed) >> 16) * (2**16 // strata) >> 16
        for value, actual in zip(h.tolist(), found[row].tolist(), strict=True):
            if 2**16 % strata == 0:
                assert actual == value ^ (starts[shift] + turn)
                continue
            moved = (value + starts[shift]) % 2**16
            a = sum(end <= moved for end in ends)
            size = ends[a] - starts[a]
            assert actual == starts[a] + (moved - starts[a] + turn) % size


@pytest.mark.quick
@pytest.mark.parametrize("order", ["evenly", "apart"])
@pytest.mark.parametrize("workers", [2, 3, 64])
def test_turns_of_dithers_equal_a_transcription(workers, order):
    """By ranks of hashes times 2^16 / K, or by a number of the worker's own."""
    rows, first = 4, 3
    found = []
    for worker in range(workers):
        stream = joint(workers, worker, seed=5, order=order)
        turned = random_bits.bits_for(stream, rows, 4, 0, first).order
        found.append(np.asarray(turned.turn)[:, 0])
    keys = np.asarray(jax.random.bits(stream.key, (6,), jnp.uint32))[2:]
    for row in range(rows):
        at = (first + row) * workers
        hashes = reference.hash_words(keys[:2], range(at, at + workers)).tolist()
        ranks = np.argsort(np.argsort(hashes))
        expected = ranks * 2**16 // workers
        if order == "apart":
            words = reference.hash_words(keys[2:], range(at, at + workers))
            expected = [int(word) >> 16 for word in words]
        np.testing.assert_array_equal([turn[row] for turn in found], expected)


@pytest.mark.quick
def test_a_turn_is_one_to_one():
    words = jnp.arange(2**16, dtype=jnp.uint32)[None] << 16
    for turn in (0, 1, 40_000, 2**16 - 1):
        turned = random_bits.Turned(jnp.full((1, 1), turn, jnp.uint32))
        found = np.asarray(turned.of(words) >> 16)[0]
        np.testing.assert_array_equal(found, (np.arange(2**16) + turn) % 2**16)
