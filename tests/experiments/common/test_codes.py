"""Bits of codes as streams: between the entropy and what the theorem allows."""

import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.common.codes import CodeBits, code_bits
from tests.lib.helpers import compiling_plainly

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def _cheaply():
    with compiling_plainly():
        yield


SIZE = 2**14
VECTOR = jnp.asarray(np.random.default_rng(0).standard_t(3, size=SIZE), jnp.float32)


@pytest.mark.parametrize(
    "quantizer", [qgenx.uniform(3), qgenx.adaptive(3), qgenx.min_max(2)], ids=str
)
def test_a_stream_lies_between_the_entropy_and_the_bound(quantizer):
    """Within 1 %, for the codes are one draw and the stream has a header."""
    found = code_bits(VECTOR, quantizer)
    assert found.fixed == quantizer.bits * SIZE
    assert 0.99 * found.entropy < found.huffman < 1.01 * found.bound
    assert found.bound == pytest.approx(found.entropy + SIZE)
    assert found.entropy < found.fixed


def test_the_entropy_is_that_of_codes_as_they_are_drawn():
    quantizer, counts = qgenx.uniform(3), 0
    for key in range(16):
        payload = quantizer.encode(key, VECTOR)
        codes = [np.ravel(codes) for codes, _ in quantizer.records(payload)]
        counts = counts + np.bincount(np.concatenate(codes), minlength=8)
    p = counts[counts > 0] / counts.sum()
    expected = -SIZE * np.sum(p * np.log2(p))
    assert code_bits(VECTOR, quantizer).entropy == pytest.approx(expected, rel=2e-3)


def test_given_levels_take_the_place_of_the_quantizers_own():
    levels = [0.01, 0.02, 0.03, 1.0]
    given = code_bits(VECTOR, qgenx.adaptive(3), jnp.asarray(levels))
    own = code_bits(VECTOR, qgenx.user_levels(levels, zero=False))
    assert given == pytest.approx(own)
    assert given.entropy > 1.5 * code_bits(VECTOR, qgenx.adaptive(3)).entropy


def test_bits_of_two_vectors_add_up():
    one, other = CodeBits(1, 2, 3, 4), CodeBits(10, 20, 30, 40)
    assert one.plus(other) == CodeBits(11, 22, 33, 44)
