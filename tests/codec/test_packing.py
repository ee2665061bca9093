"""Dense packing against the NumPy reference, and its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._codec import packing
from tests.lib import reference

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


@pytest.mark.parametrize("bits", range(1, 9))
def test_equals_the_reference_and_comes_back(bits):
    rng = np.random.default_rng(bits)
    pieces = packing.pieces_of(bits)

    @jax.jit
    def there(codes):
        return packing.pack(jnp.split(codes, pieces, axis=-1), bits)

    back_again = jax.jit(lambda packed: packing.unpack(packed, bits))
    for size in [0, 1, 3, 7, 8, 9, 16, 17, 63, 1024]:
        codes = rng.integers(0, 2**bits, (3, size)).astype(np.uint8)
        whole = np.zeros((3, -(-size // pieces) * pieces), np.uint8)
        whole[:, :size] = codes
        packed = np.asarray(there(whole))[:, : packing.packed_size(size, bits)]
        assert packed.shape == (3, packing.packed_size(size, bits))
        for row in range(3):
            np.testing.assert_array_equal(packed[row], reference.pack(codes[row], bits))
        unpacked = np.asarray(back_again(packed))
        assert unpacked.shape[1] == packing.runs_of(bits)
        np.testing.assert_array_equal(unpacked.reshape(3, -1)[:, :size], codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_b_bits_cost_b_bits(bits):
    assert packing.packed_size(1024, bits) == 128 * bits
    waste = 8 * packing.packed_size(1001, bits) - 1001 * bits
    assert 0 <= waste < 8 * bits, f"{waste} bits wasted at {bits} bits"


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 0), (2, 3)], ids=str)
def test_bytes_are_numpys_and_come_back(dtype, shape):
    with jax.enable_x64(dtype == "float64"):
        x = np.random.default_rng(0).normal(size=shape) * 9
        x = x.astype(jnp.dtype(dtype))
        found = packing.to_bytes(jnp.asarray(x))
        np.testing.assert_array_equal(found, np.frombuffer(x.tobytes(), np.uint8))
        again = packing.from_bytes(found, shape, x.dtype)
        assert again.dtype == x.dtype
        np.testing.assert_array_equal(again, x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_words_are_the_floats_of_numpys_bytes(dtype):
    """Each bit: of NaN, infinities and subnormal numbers, too."""
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(0)
        data = rng.integers(0, 256, (3, 5 * np.dtype(dtype).itemsize), dtype=np.uint8)
        found = jax.jit(lambda x: packing.words(x, np.dtype(dtype)))(data)
        assert (found.shape, found.dtype) == ((3, 5), dtype)
        np.testing.assert_array_equal(np.asarray(found).view(np.uint8), data)
