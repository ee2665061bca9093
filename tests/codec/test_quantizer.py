"""The codec: edges, shapes and dtypes, keys, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick

plainly = pytest.mark.plainly

BITS = [pytest.param(x, marks=[] if x in (2, 5, 8) else plainly) for x in range(2, 9)]


@pytest.mark.parametrize("bits", BITS)
def test_edges(bits):
    quantizer = qgenx.uniform(bits, bucket_size=4)

    @jax.jit
    def compiled(x):
        return quantizer.decode(quantizer.encode(3, x))

    def roundtrip(values):
        """Of a vector in two buckets, padded by zeros."""
        padded = np.zeros(6, np.float32)
        padded[: len(values)] = values
        return np.asarray(compiled(padded))[: len(values)]

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
    empty, scalar = map(compiled, (jnp.zeros(0), jnp.float32(5.0)))
    assert empty.shape == (0,)
    assert scalar.shape == ()
    np.testing.assert_allclose(scalar, 5.0, rtol=1.001 / 2**bits)


@plainly
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_shape_and_dtype_come_back(dtype):
    quantizer = qgenx.uniform(4, bucket_size=16)
    x = jax.random.normal(jax.random.key(0), (3, 5, 7)).astype(dtype)
    y = jax.jit(lambda x: quantizer.decode(quantizer.encode(0, x)))(x)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)


@plainly
def test_seed_and_key_and_raw_key_are_one():
    quantizer = qgenx.uniform(4)
    x = jnp.linspace(-1, 1, 99)
    keys = 5, jax.random.key(5), jax.random.PRNGKey(5), 6
    payloads = jax.jit(lambda x: [quantizer.encode(key, x).data for key in keys])(x)
    np.testing.assert_array_equal(payloads[0], payloads[1])
    np.testing.assert_array_equal(payloads[0], payloads[2])
    assert (payloads[0] != payloads[3]).any()


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


def test_arrays_of_no_coordinate_cost_nothing():
    quantizer = qgenx.uniform(4)
    payload = jax.eval_shape(lambda x: quantizer.encode(0, x), jnp.zeros((0, 3)))
    assert payload.data.size == quantizer.n_bytes(0) == 0
    assert jax.eval_shape(quantizer.decode, payload).shape == (0, 3)
