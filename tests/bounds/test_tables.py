"""The levels that codes stand for, and how far from them a codec may be."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.quantizer import coder_of
from qgenx_jax.bounds import tables
from tests.lib import reference
from tests.lib.bound_cases import RANGES, quantizers, table_of

pytestmark = pytest.mark.usefixtures("compiled_plainly")


def test_levels_are_those_of_the_definitions():
    for name, quantizer in quantizers(norms=[2]):
        table = tables.of_quantizer(quantizer, None, ideal=True)
        expected = table_of(quantizer)
        np.testing.assert_allclose(table.levels, expected, rtol=1e-15, err_msg=name)
        assert table.norm == (None if quantizer.family in RANGES else 2)
        assert table.too_large(10**6) == table.misplaced == 0


@pytest.mark.parametrize("wide", ["float32", "float64"])
def test_a_scale_has_so_many_bits(wide):
    for name, quantizer in quantizers(norms=[math.inf]):
        with jax.enable_x64(wide == "float64"):
            rounding = coder_of(quantizer, wide).rounding
        family, bits = quantizer.family, quantizer.bits
        expected = reference.significant_bits(family, bits, wide)
        assert rounding.significant(np.dtype(wide)) == expected, name


def test_scales_that_are_sent_exceed_norms_by_no_more():
    """And by nearly as much, of some bucket: of 200 random ones of 16 bits."""
    buckets = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    for q in (1, 2, math.inf):
        for make in (qgenx.uniform, qgenx.exponential):
            quantizer = make(8, norm=q, bucket_size=16)
            table = tables.of_quantizer(quantizer, None, ideal=False)
            payload = quantizer.encode(0, jnp.asarray(buckets))
            ((_, scale),) = quantizer.records(payload)
            top = np.asarray(scale, np.float64)[:, 0]
            top *= 127 / 64 if make is qgenx.uniform else 1
            norms = np.linalg.norm(buckets.astype(np.float64), q, axis=1)
            excess = top / norms - 1
            assert excess.max() <= table.too_large(16)
            assert excess.max() > 0.4 * table.excess
            assert excess.min() >= -20 * table.epsilon / 2


def test_histograms_add_up_in_numpy_and_in_jax():
    rng = np.random.default_rng(0)
    index, weights = rng.integers(0, 9, 20_000), rng.uniform(size=20_000)
    expected = [weights[index == j].sum() for j in range(11)]
    found = tables.histogram(index, weights, 11, np)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    index, weights = jnp.asarray(index, jnp.int32), jnp.asarray(weights, jnp.float32)
    found = jax.jit(lambda i, w: tables.histogram(i, w, 11, jnp))(index, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert tables.histogram(index[:0], weights[:0], 3, jnp).shape == (3,)


RULE = "levels must be one row of numbers .* that do not decrease and end in 1, got "
WRONG = {
    "text": "abc",
    "ragged": [[1.0], [0.5, 1.0]],
    "empty": [],
    "two rows": [[0.5, 1.0]],
    "one number": 1.0,
    "decreasing": [0.5, 0.2, 1.0],
    "negative": [-1.0, 0.0, 1.0],
    "not up to 1": [0.2, 0.5],
    "NaN": [float("nan"), 1.0],
    "complex": np.array([0.5, 1j]),
    "JAX": jnp.array([0.5, 0.2, 1.0]),
}


@pytest.mark.parametrize("name", WRONG)
def test_levels_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match=f"(?s)^{RULE}.*: zero is a level always"):
        qgenx.bounds.variance_bound(WRONG[name], 9, norm=2)


def test_traced_levels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=RULE):
        jax.eval_shape(
            lambda x: qgenx.bounds.variance_bound(x, 9, norm=2), np.ones((2, 2))
        )


def test_a_leading_zero_counts_for_nothing():
    for levels in ([0.25, 1.0], np.array([0.25, 1.0], np.float32)):
        with_zero = np.concatenate([[0.0], levels])
        found = [qgenx.bounds.variance_bound(x, 9, norm=2) for x in (levels, with_zero)]
        assert found[0] == found[1]
