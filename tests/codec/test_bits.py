"""The counter-based source: equality with the reference, and simple statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec import bits as random_bits
from tests.lib import reference
from tests.lib.helpers import within_5_sigma


def coordinates(key, rows, length, offset=0):
    """The rounding bits of rows of an even length."""
    bits = random_bits.bits_for(key, rows, length // 2, offset)
    pieces = bits.piece(0, length // 2), bits.piece(length // 2, length // 2)
    return jnp.concatenate(pieces, axis=1)


@pytest.mark.quick
def test_equals_the_reference_at_every_shape_and_offset():
    key = jax.random.key(11)
    words = np.asarray(jax.random.bits(key, (2,), jnp.uint32))
    for rows, length, offset in [(1, 6, 0), (3, 10, 0), (2, 24, 9), (1, 12, 2**32 - 6)]:
        count = rows * length // 2
        expected = reference.hash_words(words, range(offset, offset + count))
        expected = reference.halves(expected.reshape(rows, -1), length)
        draw = functools.partial(coordinates, rows=rows, length=length, offset=offset)
        np.testing.assert_array_equal(jax.jit(draw)(key), expected)


@pytest.mark.quick
def test_pieces_are_parts_of_the_row():
    bits = random_bits.bits_for(jax.random.key(3), 2, 8, 5)
    whole = jnp.concatenate([bits.piece(0, 8), bits.piece(8, 8)], axis=1)
    for start, length in [(2, 4), (8, 3), (12, 4), (5, 0)]:
        expected = whole[:, start : start + length]
        np.testing.assert_array_equal(bits.piece(start, length), expected)


def test_positions_at_the_widths_of_matrices_are_independent():
    """Lags that are powers of two, where a weak hash shows: 16 keys, 3 thresholds."""
    size, keys = 2**20, 16
    lags = [1, 2, 3, *(2**e for e in range(2, 18)), 4095, 4097]
    source = jax.jit(lambda key: coordinates(key, size // 1024, 1024).reshape(-1))
    for fraction in (0.5, 0.1, 0.01):
        squares = np.zeros(len(lags))
        for seed in range(keys):
            up = np.asarray(source(jax.random.key(seed))) < fraction * 2**16
            u = (up - up.mean()).astype(np.float32)
            for index, lag in enumerate(lags):
                z = (u[lag:] @ u[:-lag]) / u.var() / np.sqrt(size - lag)
                squares[index] += z**2 / keys
        within_5_sigma(squares, 1, np.sqrt(2 / keys), f"z^2 at fraction {fraction}")


def test_bits_are_uniform_and_keys_independent():
    """5 sigma on the mean of every bit, on chi-square of bytes and on correlations."""
    size = 2**20
    source = jax.jit(lambda key: coordinates(key, size // 1024, 1024).reshape(-1))
    a, b = (
        np.asarray(source(jax.random.fold_in(jax.random.key(0), k))) for k in (0, 1)
    )
    assert a.min() >= 0
    assert a.max() < 2**16
    for bit in range(16):
        set_ = (a >> bit) & 1
        within_5_sigma(set_.mean(), 0.5, 0.5 / np.sqrt(size), f"bit {bit}")
        other = (b >> bit) & 1
        within_5_sigma(
            (set_ ^ other).mean(), 0.5, 0.5 / np.sqrt(size), f"bit {bit} of two keys"
        )
        within_5_sigma(
            (set_[1:] ^ set_[:-1]).mean(), 0.5, 0.5 / np.sqrt(size), f"serial bit {bit}"
        )
    for shift in (0, 8):
        counts = np.bincount((a >> shift) & 255, minlength=256)
        chi_square = ((counts - size / 256) ** 2 / (size / 256)).sum()
        within_5_sigma(chi_square, 255, np.sqrt(2 * 255), f"bytes at {shift}")


@pytest.mark.quick
def test_bits_start_at_position_0_and_differ_elsewhere():
    key = jax.random.key(2)

    @jax.jit
    def draw():
        return [
            random_bits.bits_for(key, 1, 200, offset).piece(0, 200)
            for offset in (0, 0, 200)
        ]

    first, again, later = map(np.asarray, draw())
    np.testing.assert_array_equal(first, again)
    assert (first != later).mean() > 0.9, "two offsets share their bits"
    assert first.dtype == np.int32
    assert first.min() >= 0
    assert 2**15 < first.max() < 2**16


@pytest.mark.quick
def test_random_words_never_repeat():
    wide = jax.ShapeDtypeStruct((2**33 + 4,), "float32")
    sparse = qgenx.uniform(8, bucket_size=2**20)
    with pytest.raises(
        ValueError, match=r"at most 2\^32 words .*, got '4294967298 words'"
    ):
        jax.eval_shape(lambda x: sparse.encode(0, x).data, wide)


def joint(workers, worker, seed=0):
    return random_bits.Joint(jax.random.key(seed), jnp.int32(worker), workers)


def drawn_together(workers, rows=4096, length=64, seed=1):
    """What all workers round by at the same places: (workers, rows * length)."""

    @jax.jit
    @jax.vmap
    def draw(worker):
        stream = random_bits.Joint(jax.random.key(seed), worker, workers)
        bits = random_bits.bits_for(stream, rows, length // 2, 0)
        return jnp.concatenate([bits.piece(0, length // 2), bits.piece(32, 32)], axis=1)

    return np.asarray(draw(jnp.arange(workers))).reshape(workers, -1)


@pytest.mark.parametrize("workers", [2, 3, 5, 7, 8])
def test_two_workers_round_up_together_as_strata_say_and_never_more(workers):
    """P(u_j < p, u_k < q) of all pairs, also where turns of one hash would fail.

    Over rows, which have permutations and turns of their own: 5 sigma of their means.
    """
    u = drawn_together(workers).reshape(workers, 4096, 64)
    places = [0.3, 1 / 3, 0.5, 2 / 3, 0.9, 0.97]
    for p in places:
        for q in places:
            a = np.arange(workers)
            pa, qa = (np.clip(workers * x - a, 0, 1) for x in (p, q))
            expected = pa.sum() * qa.sum() - (pa * qa).sum()
            expected /= workers * (workers - 1)
            assert expected <= p * q + 1e-12
            below = [u < x * 2**16 for x in (p, q)]
            for j, k in [(0, 1), (workers - 1, 0)]:
                rows = (below[0][j] & below[1][k]).mean(axis=1)
                error = rows.std() / np.sqrt(len(rows)) + workers * 2**-16
                within_5_sigma(rows.mean(), expected, error, f"{p:.2f} and {q:.2f}")


@pytest.mark.quick
@pytest.mark.parametrize("workers", [3, 8])
def test_no_two_workers_are_in_one_stratum(workers):
    strata = np.sort(drawn_together(workers, rows=64) * workers // 2**16, axis=0)
    differ = (strata == np.arange(workers)[:, None]).all(axis=0)
    assert (~differ).sum() <= 5 * np.sqrt(differ.size * workers**2 / 2**16)


def test_shared_bits_of_a_worker_are_uniform_and_positions_independent():
    u = drawn_together(3, rows=2**14)
    size = u.shape[1]
    for worker in range(3):
        counts = np.bincount(u[worker] >> 8, minlength=256)
        chi_square = ((counts - size / 256) ** 2 / (size / 256)).sum()
        within_5_sigma(chi_square, 255, np.sqrt(2 * 255), f"bytes of {worker}")
        up = (u[worker] < 2**14) - 0.25
        for lag in (1, 2, 32, 64, 4096):
            z = (up[lag:] @ up[:-lag]) / (0.1875 * np.sqrt(size - lag))
            within_5_sigma(z, 0, 1, f"lag {lag} of {worker}")


@pytest.mark.quick
def test_streams_of_workers_fold_alike_and_own_keys_differ():
    folded = [random_bits.folded(joint(3, k), 7) for k in range(2)]
    data = [jax.random.key_data(stream.key) for stream in folded]
    np.testing.assert_array_equal(*data)
    own = [jax.random.key_data(random_bits.own(stream)) for stream in folded]
    assert (own[0] != own[1]).any()
    key = jax.random.key(1)
    assert random_bits.own(key) is key
    by_jax = jax.random.key_data(jax.random.fold_in(key, 7))
    found = jax.random.key_data(random_bits.folded(key, 7))
    np.testing.assert_array_equal(found, by_jax)


@pytest.mark.quick
@pytest.mark.parametrize(("runs", "length"), [(2, 5), (1, 9), (4, 3), (8, 2)])
def test_runs_have_the_bits_of_pieces(runs, length):
    """What a receiver draws again is what rounded the coordinate."""
    half = -(-runs * length // 2)
    key, orders = jax.random.key(4), ("evenly", "apart", "own")
    shared = [random_bits.Joint(key, jnp.int32(1), 3, order) for order in orders]
    for stream in (key, *shared):
        drawn = random_bits.bits_for(stream, 3, half, 7, 2)
        pieces = [drawn.piece(0, half), drawn.piece(half, half)]
        whole = np.concatenate(pieces, axis=1)[:, : runs * length]
        found = np.asarray(drawn.runs(runs, length)).reshape(3, -1)
        np.testing.assert_array_equal(found, whole)


@pytest.mark.quick
def test_streams_of_rows_and_of_all_workers():
    stream = joint(3, 2)
    every, one = random_bits.of_all(stream), random_bits.of_one(stream)
    np.testing.assert_array_equal(every.worker, [0, 1, 2])
    np.testing.assert_array_equal(one.worker, [2])
    keys = jax.random.key_data(random_bits.own_keys(every))
    np.testing.assert_array_equal(keys[2], jax.random.key_data(random_bits.own(stream)))
    alone = jax.random.key(1)
    assert random_bits.of_all(alone) is alone
    assert random_bits.of_one(alone) is alone
    assert random_bits.own_keys(alone).shape == (1,)


@pytest.mark.quick
def test_bits_of_ones_own_are_those_of_the_own_key():
    stream = random_bits.Joint(jax.random.key(3), jnp.int32(1), 4, "own")
    found = random_bits.bits_for(stream, 2, 4, 0)
    expected = random_bits.bits_for(random_bits.own(stream), 2, 4, 0)
    np.testing.assert_array_equal(found.key, expected.key)
    assert found.order is None
