"""The codec: equality with the NumPy reference, unbiasedness by enumeration, edges."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._levels import steps_of
from tests import reference
from tests.helpers import within_5_sigma

BITS = [2, 3, 4, 5, 6, 7, 8]
NORMS = [1, 2, math.inf]


CASES = 40  # vectors of each size, of scales from 1e-18 to 1e18


@pytest.mark.parametrize("bits", BITS)
def test_codes_equal_the_reference(bits):
    for size, bucket_size in [(70, 16), (33, None), (5, 7), (8, 1), (0, 4)]:
        quantizer = qgenx.uniform(bits, bucket_size=bucket_size)
        rng = np.random.default_rng(size)
        vectors = rng.normal(size=(CASES, size))
        vectors[:, ::5] = np.round(2 * vectors[:, ::5])  # ties and repeated values
        vectors *= 10.0 ** rng.uniform(-36, 37.5, (CASES, 1))
        vectors = vectors.astype(np.float32)
        keys = jax.random.split(jax.random.key(bits), CASES)
        words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
        payloads = jax.jit(jax.vmap(quantizer.encode))(keys, jnp.asarray(vectors))
        for case in range(CASES):
            expected = reference.encode(
                vectors[case], np.asarray(words[case]), bits, math.inf, bucket_size
            )
            where = f"{bits} bits, size {size}, bucket {bucket_size}, case {case}"
            np.testing.assert_array_equal(payloads.data[case], expected, err_msg=where)
        assert quantizer.n_bytes(size) == expected.size


@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("bits", BITS)
def test_scales_of_other_norms(bits, q):
    """The norm is rounded up: at least the norm, at most 2^-15 above it."""
    vector = np.random.default_rng(bits).normal(size=(50, 33)).astype(np.float32)
    quantizer = qgenx.uniform(bits, norm=q, bucket_size=33)
    ((_, scales),) = quantizer.records(quantizer.encode(0, jnp.asarray(vector)))
    norms = np.asarray(scales[:, 0], np.float64) * steps_of(bits) / 2 ** (bits - 2)
    exact = np.linalg.norm(vector.astype(np.float64), q, axis=1)
    ratio = norms / exact
    assert ratio.min() >= 1 - 1e-6, f"norm on the wire too small: {ratio.min()}"
    assert ratio.max() <= 1 + 2.0**-15, f"norm on the wire too large: {ratio.max()}"


@pytest.mark.parametrize("bits", BITS)
def test_unbiased_by_enumeration_of_all_rounding_values(bits):
    """The mean over all 2^16 values of r is within 2^-17 of a step of v, everywhere."""
    quantizer = qgenx.uniform(bits, bucket_size=None)
    codec = quantizer._codec(None)
    steps = steps_of(bits)
    rng = np.random.default_rng(bits)
    grid = np.concatenate(
        [
            rng.uniform(-1, 1, 120),
            np.arange(-steps, steps + 1)[:: max(1, steps // 16)] / steps,
            [1, -1, 1 - 2.0**-24, 2.0**-20, -(2.0**-20), 0.5 / steps, 1e-6],
        ]
    ).astype(np.float32)
    bucket = jnp.asarray(grid * np.float32(0.7321))

    @jax.jit
    def total_of(start):
        r16 = start + jnp.arange(4096, dtype=jnp.int32)[:, None]
        rows = jnp.broadcast_to(bucket, (4096, bucket.size))
        codes, scale = codec.encode(rows, jnp.broadcast_to(r16, rows.shape))
        return jnp.sum(codes.astype(jnp.int32) - steps, axis=0), scale[0, 0]

    totals = [total_of(start) for start in range(0, 2**16, 4096)]
    step = float(totals[0][1]) * 2.0 ** (2 - bits)
    mean = sum(np.asarray(t, np.float64) for t, _ in totals) / 2**16
    bias = np.abs(mean - np.asarray(bucket, np.float64) / step)
    allowed = 2.0**-17 * (1 + 2.0**-6)  # the rest of a value is a float32 itself
    assert bias.max() <= allowed, (
        f"{bits} bits: bias of {bias.max():.3e} steps at {grid[bias.argmax()]}, "
        f"more than {allowed:.3e}"
    )
    assert bias.max() > 0, "a bias of exactly zero everywhere: is the grid degenerate?"


@pytest.mark.parametrize("bits", BITS)
def test_values_on_levels_never_move(bits):
    quantizer = qgenx.uniform(bits, bucket_size=64)
    vector = jax.random.normal(jax.random.key(bits), (640,))
    decoded = quantizer.decode(quantizer.encode(0, vector))
    for key in range(20):
        again = quantizer.decode(quantizer.encode(key + 1, decoded))
        np.testing.assert_array_equal(again, decoded)


@pytest.mark.parametrize("q", NORMS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mean_and_exact_variance(bits, q):
    """E Q(v) = v, and Var Q(v)_i = U^2 f (1 - f), over the counter-based source."""
    draws, size = 4096, 96
    quantizer = qgenx.uniform(bits, norm=q, bucket_size=size)
    vector = jnp.asarray(np.random.default_rng(7).normal(size=size), jnp.float32)
    keys = jax.random.split(jax.random.key(bits), draws)
    samples = jax.jit(
        jax.vmap(lambda key: quantizer.decode(quantizer.encode(key, vector)))
    )(keys)
    samples = np.asarray(samples, np.float64)
    exact = np.asarray(vector, np.float64)
    ((_, scales),) = quantizer.records(quantizer.encode(0, vector))
    step = float(scales[0, 0]) * 2.0 ** (2 - bits)
    f = exact / step - np.floor(exact / step)
    variance = step**2 * f * (1 - f)
    often = draws * f * (1 - f) > 25  # normal error bars need events on both sides
    within_5_sigma(
        samples.mean(axis=0)[often],
        exact[often],
        np.sqrt(variance / draws)[often],
        f"mean at {bits} bits",
    )
    # (Q - v)^2 is (f U)^2 or ((1 - f) U)^2
    deviation = step**2 * np.sqrt(f * (1 - f)) * np.abs(1 - 2 * f)
    within_5_sigma(
        ((samples - exact) ** 2).mean(axis=0)[often],
        variance[often],
        (deviation / np.sqrt(draws) + 1e-6 * variance)[often],
        f"variance at {bits} bits",
    )


@pytest.mark.parametrize("bits", BITS)
def test_edges(bits):
    quantizer = qgenx.uniform(bits, bucket_size=4)

    def roundtrip(values, key=3):
        x = jnp.asarray(values, jnp.float32)
        return np.asarray(quantizer.decode(quantizer.encode(key, x)))

    zeros = roundtrip([0.0] * 6)
    np.testing.assert_array_equal(zeros, np.zeros(6))
    nan = roundtrip([1.0, np.nan, 0.0, 2.0, 1.0, 0.0])
    assert np.isnan(nan[:4]).all(), f"the bucket with a NaN decoded to {nan[:4]}"
    assert np.isfinite(nan[4:]).all(), "NaN spread to another bucket"
    for infinity in (np.inf, -np.inf):
        values = roundtrip([1.0, infinity, 0.0, 2.0])
        assert np.isnan(values).all(), f"a bucket with {infinity} decoded to {values}"
    for size in (3e38, 1e-36, 3.4028235e38):
        values = roundtrip(np.array([1.0, -1.0, 0.0, 1.0]) * size)
        np.testing.assert_allclose(
            values, np.array([1.0, -1.0, 0.0, 1.0]) * size, rtol=1.001 / 2**bits
        )
    assert roundtrip([]).shape == (0,)
    scalar = quantizer.decode(quantizer.encode(0, jnp.float32(5.0)))
    assert scalar.shape == ()
    np.testing.assert_allclose(scalar, 5.0, rtol=1.001 / 2**bits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_shape_and_dtype_come_back(dtype):
    quantizer = qgenx.uniform(4, bucket_size=16)
    x = jax.random.normal(jax.random.key(0), (3, 5, 7)).astype(dtype)
    y = quantizer.decode(quantizer.encode(0, x))
    assert (y.shape, y.dtype) == (x.shape, x.dtype)


def test_seed_and_key_and_raw_key_are_one():
    quantizer = qgenx.uniform(4)
    x = jnp.linspace(-1, 1, 99)
    payloads = [
        quantizer.encode(key, x).data
        for key in (5, jax.random.key(5), jax.random.PRNGKey(5))
    ]
    np.testing.assert_array_equal(payloads[0], payloads[1])
    np.testing.assert_array_equal(payloads[0], payloads[2])
    assert (payloads[0] != quantizer.encode(6, x).data).any()


def test_wrong_arguments_say_what_to_do():
    for bits in (0, 9, 4.0, True, None):
        with pytest.raises(
            ValueError, match=r"bits must be a whole number from 1 to 8"
        ):
            qgenx.uniform(bits)
    with pytest.raises(ValueError, match=r"norm must be one of 1, 2, inf, got 3"):
        qgenx.uniform(8, norm=3)
    with pytest.raises(ValueError, match=r"bucket_size must be a whole number .*got 0"):
        qgenx.uniform(8, bucket_size=0)
    with pytest.raises(ValueError, match=r"real floating-point array, got int32"):
        qgenx.uniform(8).encode(0, jnp.arange(3))
    with pytest.raises(ValueError, match=r"key must be one PRNG key .*got 0.5"):
        qgenx.uniform(8).encode(0.5, jnp.ones(3))
    payload = qgenx.uniform(8).encode(0, jnp.ones(3))
    with pytest.raises(ValueError, match=r"decode it with the quantizer that encoded"):
        qgenx.uniform(4).decode(payload)


def test_a_quantizer_is_static_and_hashable():
    assert hash(qgenx.uniform(8)) == hash(qgenx.uniform(8))
    assert qgenx.uniform(8) != qgenx.uniform(4)
    assert not callable(qgenx.uniform(8))
