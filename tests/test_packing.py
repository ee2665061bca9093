"""Dense packing against the NumPy reference, and its inverse."""

import jax
import numpy as np
import pytest

from qgenx_jax import _packing
from tests import reference


@pytest.mark.parametrize("bits", range(1, 9))
def test_equals_the_reference_and_comes_back(bits):
    rng = np.random.default_rng(bits)
    there = jax.jit(lambda codes: _packing.pack(codes, bits))
    back_again = jax.jit(
        lambda packed, size: _packing.unpack(packed, size, bits), static_argnums=1
    )
    for size in [0, 1, 3, 7, 8, 9, 16, 17, 63, 1024]:
        codes = rng.integers(0, 2**bits, (3, size)).astype(np.uint8)
        packed = np.asarray(there(codes))
        assert packed.shape == (3, _packing.packed_size(size, bits))
        for row in range(3):
            np.testing.assert_array_equal(packed[row], reference.pack(codes[row], bits))
        np.testing.assert_array_equal(back_again(packed, size), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_b_bits_cost_b_bits(bits):
    assert _packing.packed_size(1024, bits) == 128 * bits
    waste = 8 * _packing.packed_size(1001, bits) - 1001 * bits
    assert 0 <= waste < 8 * bits, f"{waste} bits wasted at {bits} bits"
