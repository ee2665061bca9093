"""Turned buckets: NumPy and SciPy's Hadamard matrix, bits, edges, unbiased rounding."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import qgenx_jax as qgenx
from qgenx_jax._codec import rotation
from qgenx_jax._codec.quantizer import coder_of
from qgenx_jax.bounds import sent
from tests.lib.helpers import within_5_sigma

WIDE = 2**64 - 1


def sign_of(place):
    """The top bit of splitmix64's number of this place, in Python's integers."""
    x = (place + 1) * 0x9E3779B97F4A7C15 & WIDE
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WIDE
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WIDE
    return -1 if (x ^ x >> 31) >> 63 else 1


def matrix(count):
    """R, block by block, float64."""
    digits = [2**bit for bit in range(16, -1, -1) if count >> bit & 1]
    blocks = [scipy.linalg.hadamard(n) / math.sqrt(n) for n in digits]
    signs = [sign_of(place) for place in range(count)]
    return scipy.linalg.block_diag(*blocks) * np.array(signs)


def rows_of(count, rows=5, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(rows, count)).astype(dtype)


SIZES = (1, 2, 8, 32, 128, 256, 1024, 3, 20, 77, 1023)


@pytest.mark.quick
@pytest.mark.parametrize("count", SIZES)
def test_the_matrix_is_that_of_scipy_with_signs(count):
    known, x = matrix(count), rows_of(count)
    np.testing.assert_allclose(known @ known.T, np.eye(count), atol=1e-12)
    z = rotation.forward(x)
    assert z.dtype == jnp.float32
    np.testing.assert_allclose(z, x @ known.T, atol=3e-6)
    np.testing.assert_allclose(rotation.inverse(z), x, atol=3e-6)
    np.testing.assert_allclose(rotation.inverse(x), x @ known, atol=3e-6)
    exact = rotation.forward_exactly(x)
    np.testing.assert_allclose(exact, x.astype(np.float64) @ known.T, atol=1e-13)
    with jax.enable_x64(True):
        wide = rotation.forward(x.astype(np.float64))
        assert wide.dtype == jnp.float64
        np.testing.assert_allclose(wide, exact, atol=1e-13)
        np.testing.assert_allclose(rotation.inverse(wide), x, atol=1e-13)


@pytest.mark.quick
def test_signs_and_the_matrix_themselves():
    signs = rotation.signs(4096)
    assert signs[:300].tolist() == [sign_of(place) for place in range(300)]
    within_5_sigma(signs.mean(), 0, 1 / 64, "as many of either sign")
    within_5_sigma((signs[1:] * signs[:-1]).mean(), 0, 1 / 63, "neighbours")
    np.testing.assert_array_equal(rotation.signs(70), signs[:70])
    np.testing.assert_array_equal(rotation.hadamard(64), scipy.linalg.hadamard(64))


@pytest.mark.parametrize("count", [32, 256, 300])
def test_bits_are_the_same_however_it_is_compiled(count):
    """Products before it, which a compiler would fuse with its first additions."""
    x, y = rows_of(count, 6), rows_of(count, 6, seed=1)
    for turn in (rotation.forward, rotation.inverse):

        def fused(x, y, turn=turn):
            return turn(x * y)

        wanted = np.asarray(turn(jnp.asarray(x) * y))
        np.testing.assert_array_equal(jax.jit(fused)(x, y), wanted)
        by_row = jax.jit(jax.vmap(lambda x, y, f=fused: f(x[None], y[None])[0]))
        np.testing.assert_array_equal(by_row(x, y), wanted)
        some = jax.jit(lambda x, y, f=fused: f(x[:1], y[:1]))(x, y)
        np.testing.assert_array_equal(some, wanted[:1])
        looped = jax.jit(lambda x, y, f=fused: jax.lax.map(lambda z: f(*z), (x, y)))
        found = looped(x[:, None], y[:, None])[:, 0]
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.quick
def test_errors_of_coordinates_are_alike_within_a_run():
    """E v_i^2 = sum_j R_ji^2 E z_j^2, of errors that are not correlated."""
    for count in (16, 13):
        squares = rows_of(count, 3) ** 2
        expected = squares @ matrix(count) ** 2
        np.testing.assert_allclose(rotation.spread(squares), expected, rtol=1e-5)


@pytest.mark.quick
def test_a_vector_is_turned_bucket_by_bucket():
    x = rows_of(70, 1)[0]
    parts = [x[:32] @ matrix(32).T, x[32:64] @ matrix(32).T, x[64:] @ matrix(6).T]
    found = rotation.turned(jnp.asarray(x), 32)
    np.testing.assert_allclose(found, np.concatenate(parts), atol=2e-6)
    short = rotation.turned(jnp.asarray(x[:6]), 32)
    np.testing.assert_allclose(short, x[:6] @ matrix(6).T, atol=2e-6)


KINDS = {
    "uniform": qgenx.uniform(3, bucket_size=32),
    "sign": qgenx.uniform(1, bucket_size=32),
    "L2": qgenx.exponential(3, bucket_size=32),
    "min_max": qgenx.min_max(3, bucket_size=32),
    "levels": qgenx.user_levels([0.2, 0.5, 1.0], zero=False, bucket_size=32),
    "signed": qgenx.user_levels([-1.0, -0.1, 0.2, 1.0], bucket_size=32),
    "dithered": qgenx.dithered(2, bend=0.8, bucket_size=32),
    "narrow": qgenx.uniform(4, bucket_size=32, scale_bits=16),
}


@pytest.mark.plainly
@pytest.mark.parametrize("kind", KINDS)
def test_unbiased_with_the_variance_that_bounds_say(kind):
    """Over 4,000 keys, of heavy tails; with a short bucket of 13."""
    quantizer = qgenx.rotated(KINDS[kind])
    x = np.random.default_rng(1).standard_t(3, 77).astype(np.float32)

    def one(key):
        return quantizer.decode(quantizer.encode(key, x), key=key)

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 4000))
    errors = np.asarray(found, np.float64) - x
    # and what float32 adds where nothing is rounded, as a minimum of `min_max`
    bars = errors.std(axis=0) / math.sqrt(len(errors)) + 1e-6
    within_5_sigma(errors.mean(axis=0), np.zeros(77), bars, "bias")
    squares = np.stack([(errors[:, i : i + 32] ** 2).sum(axis=1) for i in (0, 32, 64)])
    bars = squares.std(axis=1) / math.sqrt(len(errors))
    expected = qgenx.bounds.exact_variance(x, quantizer)
    within_5_sigma(squares.mean(axis=1), expected, bars, "variance of a bucket")
    bound = qgenx.bounds.variance_bound(quantizer, 77, form="sharp")
    assert expected.sum() <= bound * (x.astype(np.float64) ** 2).sum()


@pytest.mark.quick
@pytest.mark.parametrize("kind", [x for x in KINDS if x != "dithered"])
def test_unbiased_over_all_bits(kind):
    """E Q(R v) by all 2^16 roundings, turned back by the matrix, is v."""
    quantizer = qgenx.rotated(KINDS[kind])
    x = np.random.default_rng(1).standard_t(3, 45).astype(np.float32)
    start = 0
    coder = coder_of(quantizer, x.dtype)
    _, _, buckets = sent.prepared(x, quantizer, None)
    for bucket in buckets:
        may = sent.sent_for(coder, bucket, np)
        mean = may.up * may.upper + (1 - may.up) * may.lower
        end = start + mean.shape[1]
        gap = np.abs(may.upper - may.lower)
        bar = (2.0**-17 * gap + 2e-6 * np.abs(x).max()) @ np.abs(matrix(mean.shape[1]))
        assert (np.abs(mean @ matrix(mean.shape[1]) - x[start:end]) <= bar).all()
        start = end


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["uniform", "min_max", "dithered"])
def test_zeros_extremes_and_what_is_not_finite(kind):
    quantizer = qgenx.rotated(KINDS[kind])

    @jax.jit
    def roundtrip(x):
        return quantizer.decode(quantizer.encode(3, x), key=3)

    x = np.zeros(77, np.float32)
    np.testing.assert_array_equal(roundtrip(x), x)
    x[40:50] = rows_of(10, 1)
    found = np.asarray(roundtrip(x))
    np.testing.assert_array_equal(found[:32], 0)  # whole buckets of zeros
    np.testing.assert_array_equal(found[64:], 0)
    assert (found[32:40] != 0).any(), "zeros beside others do not stay zeros"
    for size in (1e37, 1e20, 1e-20, 1e-33):
        found = np.asarray(roundtrip(x * np.float32(size))) / size
        assert np.isfinite(found).all(), size
        assert np.linalg.norm(found - x) < 1.5 * np.linalg.norm(x)
    for bad in (np.nan, np.inf, -np.inf):
        x[45] = bad
        found = np.asarray(roundtrip(x))
        assert np.isnan(found[32:64]).all(), f"{bad} was hidden"
        assert np.isfinite(found[:32]).all(), f"{bad} spread"
    empty = jnp.zeros((2, 0))
    assert roundtrip(empty).shape == (2, 0)


@pytest.mark.quick
def test_bytes_and_dtypes_are_those_of_the_quantizer():
    for size in (1, 32, 77, 1000):
        for plain in KINDS.values():
            assert qgenx.rotated(plain).n_bytes(size) == plain.n_bytes(size)
    quantizer = qgenx.rotated(qgenx.uniform(8, bucket_size=16))
    x = jax.random.normal(jax.random.key(0), (3, 5, 7)).astype("bfloat16")
    found = jax.jit(lambda x: quantizer.decode(quantizer.encode(0, x)))(x)
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    np.testing.assert_allclose(*map(np.float32, (found, x)), atol=0.1)
    with jax.enable_x64(True):
        y = jnp.asarray(rows_of(100, 1, dtype=np.float64)[0]) * 1e200
        found = jax.jit(lambda x: quantizer.decode(quantizer.encode(0, x)))(y)
        assert found.dtype == jnp.float64
        assert jnp.linalg.norm((found - y) / 1e200) < 0.02 * 10


@pytest.mark.quick
def test_what_cannot_be_turned_says_so():
    for size in (None, 1, 24, 1000, 2**17):
        with pytest.raises(ValueError, match="bucket_size must be a power of two from"):
            qgenx.rotated(qgenx.uniform(4, bucket_size=size))
    with pytest.raises(ValueError, match="quantizer must be"):
        qgenx.rotated(4)
    make = functools.partial(qgenx.Quantizer, "uniform", 4, math.inf, 64)
    with pytest.raises(ValueError, match="rotate must be"):
        make(rotate=1)
    assert make(rotate=True) == qgenx.rotated(make())
    plain = make()
    payload = qgenx.rotated(plain).encode(0, jnp.ones(64))
    with pytest.raises(ValueError, match="payload must be encoded by"):
        plain.decode(payload)
