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
