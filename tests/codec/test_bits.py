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
