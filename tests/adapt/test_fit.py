"""Levels fitted by hand, beside the measured error of quantizers that have them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._adapt import fit
from qgenx_jax._adapt.statistics import histogram_statistics, normal_statistics
from qgenx_jax._adapt.tables import Kind

BUCKETS = {"bucket_size": 256, "norm": math.inf}
histogram = jax.jit(
    histogram_statistics, static_argnames=("kind", "bucket_size", "norm")
)
normals = jax.jit(normal_statistics, static_argnames=("bucket_size", "norm"))
predicted = jax.jit(fit.predicted, static_argnames="kind")
VECTOR = np.random.default_rng(2).standard_t(3, 2**13).astype(np.float32)


def variance(levels, signed=False, vector=VECTOR):
    """Of rounding a vector to levels, exactly, by NumPy."""
    table = np.asarray(levels) if signed else np.array([0, *levels])
    n = np.abs(vector.reshape(-1, 256)).max(axis=1, keepdims=True)
    u = vector.reshape(-1, 256) / n
    u = u if signed else np.abs(u)
    j = np.clip(np.searchsorted(table, u, side="right") - 1, 0, len(table) - 2)
    return (n**2 * (table[j + 1] - u) * (u - table[j])).sum()


@pytest.mark.plainly
@pytest.mark.parametrize("law", ["histogram", "normal"])
def test_fitted_levels_beat_uniform_ones(law):
    levels = qgenx.fit_levels(VECTOR, 4, law=law, **BUCKETS)
    best = variance(qgenx.fit_levels(VECTOR, 4, method="optimal", **BUCKETS))
    assert variance(levels) < (1.01 if law == "histogram" else 1.3) * best
    assert variance(np.arange(1, 8) / 7) > 3 * best
    assert qgenx.user_levels(levels, **BUCKETS).bits == 4


@pytest.mark.plainly
def test_without_zero_levels_are_as_good_as_all_signed_ones():
    levels = np.asarray(qgenx.fit_levels(VECTOR, 3, zero=False, **BUCKETS))
    assert levels.shape == (4,)
    mirrored = [*-levels[::-1], *levels]
    best = qgenx.fit_levels(VECTOR, 3, zero=False, method="optimal", **BUCKETS)
    assert variance(mirrored, True) < 1.01 * variance([*-best[::-1], *best], True)
    signed = variance(qgenx.fit_levels(VECTOR, 3, signed=True, **BUCKETS), True)
    np.testing.assert_allclose(variance(mirrored, True), signed, rtol=3e-2)


@pytest.mark.plainly
def test_one_bit_without_zero_is_the_end():
    found = qgenx.fit_levels(VECTOR, 1, zero=False, **BUCKETS)
    np.testing.assert_array_equal(found, [1])


KINDS = {
    "magnitudes": Kind(signed=False),
    "mirrored": Kind(signed=False, mirrored=True),
    "signed": Kind(signed=True),
}


@pytest.mark.plainly
@pytest.mark.parametrize("label", KINDS)
def test_what_is_predicted_is_the_variance(label):
    kind, sparse = KINDS[label], np.where(np.arange(2**13) % 5, VECTOR, 0)
    vector = jnp.asarray(sparse, jnp.float32)
    summed = histogram(vector, kind, **BUCKETS)
    table = np.array([0.05, 0.2, 0.5, 1])
    whole = [*-table[::-1], *([0] if label == "magnitudes" else []), *table]
    given = {"magnitudes": [0, *table], "mirrored": table, "signed": whole}[label]
    found = predicted(summed, jnp.asarray(given, jnp.float32), kind=kind)
    if label == "magnitudes":
        quantizer = qgenx.user_levels(table, **BUCKETS)
        right = qgenx.bounds.exact_variance(sparse, quantizer, ideal=True).sum()
    else:
        right = variance(whole, True, sparse)
    # the bins are 1 % wide, 2 % of signed coordinates
    np.testing.assert_allclose(found, right / (sparse**2).sum(), rtol=2e-3)


@pytest.mark.plainly
def test_what_is_predicted_of_normal_vectors():
    vector = np.random.default_rng(5).standard_normal(2**13)
    summed = normals(jnp.asarray(vector, jnp.float32), **BUCKETS)
    table = np.array([0.1, 0.3, 0.6, 1])
    found = predicted(summed, jnp.asarray([0, *table]), kind=KINDS["magnitudes"])
    quantizer = qgenx.user_levels(table, **BUCKETS)
    right = qgenx.bounds.exact_variance(vector, quantizer, ideal=True).sum()
    # the largest of 256 is at 1 in a bucket, which a normal does not know
    np.testing.assert_allclose(found, right / (vector**2).sum(), rtol=2e-2)


@pytest.mark.plainly
def test_nothing_is_predicted_of_no_energy():
    kind = KINDS["mirrored"]
    zeros = jnp.zeros(2**13)
    summed = histogram(zeros, kind, **BUCKETS)
    assert predicted(summed, jnp.asarray([0.05, 0.2, 0.5, 1]), kind=kind) == 0


@pytest.mark.plainly
def test_all_signed_levels_beat_those_with_zero():
    levels = qgenx.fit_levels(VECTOR, 3, signed=True, **BUCKETS)
    assert levels.shape == (8,)
    assert variance(levels, True) < variance(qgenx.fit_levels(VECTOR, 3, **BUCKETS))


@pytest.mark.plainly
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("law", ["histogram", "normal"])
def test_levels_over_the_range_beat_signed_ones_of_skewed_vectors(sign, law):
    """And equal steps over it: of squares, and of the same with the other sign."""
    vector = sign * VECTOR**2
    over_range = {"bucket_size": 256, "norm": "range"}

    def error(bits, levels):
        quantizer = qgenx.user_levels(levels, norm="range", bucket_size=256)
        assert quantizer.bits == bits
        return qgenx.bounds.exact_variance(vector, quantizer, ideal=True).sum()

    if law == "normal":  # far from these, yet better than equal steps
        fitted = error(3, qgenx.fit_levels(vector, 3, law=law, **over_range))
        assert fitted < error(3, np.arange(1, 8) / 7) / 2
        return
    for bits in (2, 3):
        found = qgenx.fit_levels(vector, bits, **over_range)
        best = qgenx.fit_levels(vector, bits, method="optimal", **over_range)
        assert error(bits, found) < 1.01 * error(bits, best)
        signed = qgenx.fit_levels(vector, bits, signed=True, **BUCKETS)
        assert error(bits, found) < 0.8 * variance(signed, True, vector)
        steps = np.arange(1, 2**bits) / (2**bits - 1)
        assert error(bits, found) < 0.3 * error(bits, steps)


def test_inside_jit_and_of_a_tree():
    fitted = jax.jit(lambda x: qgenx.fit_levels(x, 3, **BUCKETS))
    tree = {"a": jnp.asarray(VECTOR[:4096]), "b": jnp.asarray(VECTOR[4096:])}
    whole = qgenx.fit_levels(VECTOR, 3, **BUCKETS)
    np.testing.assert_allclose(fitted(tree), whole, rtol=2e-3)


@pytest.mark.plainly
@pytest.mark.parametrize("vector", [np.zeros(300), np.full(300, np.nan), np.zeros(0)])
@pytest.mark.parametrize("method", ["coordinate", "optimal"])
def test_uniform_where_nothing_can_be_learned(vector, method):
    found = qgenx.fit_levels(vector, 3, method=method, **BUCKETS)
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, 1], rtol=1e-6)


@pytest.mark.plainly
def test_two_bits_are_all_ends():
    np.testing.assert_array_equal(qgenx.fit_levels(VECTOR, 2, **BUCKETS), [1])


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"bits": 1}, "bits must be a whole number from 2 to 8, got 1"),
        ({"method": "lloyd"}, "method must be one of 'newton', 'coordinate'"),
        ({"zero": False, "signed": True}, "zero must be True for signed levels, got F"),
        ({"zero": False, "bits": 0}, "bits must be a whole number from 1 to 8, got 0"),
        ({"law": "laplace"}, "law must be one of 'histogram', 'normal'"),
        ({"norm": 3}, "norm must be one of 1, 2, inf, 'range', got 3"),
        ({"norm": "range", "signed": True}, "signed must be left out for levels over"),
        ({"norm": "range", "zero": False}, "zero must be left out for levels over the"),
        ({"bucket_size": 0}, "bucket_size must be a whole number of at least 1"),
        ({"vectors": np.arange(3)}, "vectors must be a real floating-point array"),
        ({"law": "normal", "method": "optimal"}, 'law must be "histogram" for'),
    ],
)
def test_refusals(changed, text):
    with pytest.raises(ValueError, match=text):
        qgenx.fit_levels(**{"vectors": VECTOR, "bits": 3, **BUCKETS, **changed})
