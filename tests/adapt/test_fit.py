"""Levels fitted by hand, beside the measured error of quantizers that have them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

BUCKETS = {"bucket_size": 256, "norm": math.inf}
VECTOR = np.random.default_rng(2).standard_t(3, 2**13).astype(np.float32)


def variance(levels, signed=False):
    """Of rounding VECTOR to levels, exactly, by NumPy."""
    table = np.asarray(levels) if signed else np.array([0, *levels])
    n = np.abs(VECTOR.reshape(-1, 256)).max(axis=1, keepdims=True)
    u = VECTOR.reshape(-1, 256) / n
    u = u if signed else np.abs(u)
    j = np.clip(np.searchsorted(table, u, side="right") - 1, 0, len(table) - 2)
    return (n**2 * (table[j + 1] - u) * (u - table[j])).sum()


@pytest.mark.parametrize("law", ["histogram", "normal"])
def test_fitted_levels_beat_uniform_ones(law):
    levels = qgenx.fit_levels(VECTOR, 4, law=law, **BUCKETS)
    best = variance(qgenx.fit_levels(VECTOR, 4, method="optimal", **BUCKETS))
    assert variance(levels) < (1.01 if law == "histogram" else 1.3) * best
    assert variance(np.arange(1, 8) / 7) > 3 * best
    assert qgenx.user_levels(levels, **BUCKETS).bits == 4


def test_all_signed_levels_beat_those_with_zero():
    levels = qgenx.fit_levels(VECTOR, 3, signed=True, **BUCKETS)
    assert levels.shape == (8,)
    assert variance(levels, True) < variance(qgenx.fit_levels(VECTOR, 3, **BUCKETS))


def test_inside_jit_and_of_a_tree():
    fit = jax.jit(lambda x: qgenx.fit_levels(x, 3, **BUCKETS))
    tree = {"a": jnp.asarray(VECTOR[:4096]), "b": jnp.asarray(VECTOR[4096:])}
    whole = qgenx.fit_levels(VECTOR, 3, **BUCKETS)
    np.testing.assert_allclose(fit(tree), whole, rtol=2e-3)


@pytest.mark.parametrize("vector", [np.zeros(300), np.full(300, np.nan), np.zeros(0)])
@pytest.mark.parametrize("method", ["coordinate", "optimal"])
def test_uniform_where_nothing_can_be_learned(vector, method):
    found = qgenx.fit_levels(vector, 3, method=method, **BUCKETS)
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, 1], rtol=1e-6)


def test_two_bits_are_all_ends():
    np.testing.assert_array_equal(qgenx.fit_levels(VECTOR, 2, **BUCKETS), [1])


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"bits": 1}, "bits must be a whole number from 2 to 8, got 1"),
        ({"method": "newton"}, "method must be one of 'coordinate', 'gradient'"),
        ({"law": "laplace"}, "law must be one of 'histogram', 'normal'"),
        ({"norm": 3}, "norm must be one of 1, 2, inf, got 3"),
        ({"bucket_size": 0}, "bucket_size must be a whole number of at least 1"),
        ({"vectors": np.arange(3)}, "vectors must be a real floating-point array"),
        ({"law": "normal", "method": "optimal"}, 'law must be "histogram" for'),
    ],
)
def test_refusals(changed, text):
    with pytest.raises(ValueError, match=text):
        qgenx.fit_levels(**{"vectors": VECTOR, "bits": 3, **BUCKETS, **changed})
