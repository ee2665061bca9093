"""The variance of a mean: closed forms, enumeration, never above independent rounding.

That an exchange has it is seen in `tests/exchange/test_streams.py`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.bounds import exact_variance, mean_variance
from tests.lib.helpers import vectors

QUANTIZERS = [
    qgenx.uniform(4, bucket_size=16),
    qgenx.uniform(1, bucket_size=16),
    qgenx.min_max(2, bucket_size=16),
    qgenx.exponential(3, bucket_size=16),
    qgenx.user_levels([0.2, 0.5, 1.0], zero=False, bucket_size=16),
    qgenx.user_levels([-1.0, -0.1, 0.2, 1.0], bucket_size=16),
    qgenx.user_levels([0.1, 0.4, 1.0], norm="range", bucket_size=16),
]


@pytest.mark.quick
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_independent_is_the_sum_of_the_vectors(quantizer):
    v = vectors(3, 40)
    expected = sum(exact_variance(x, quantizer) for x in v) / 9
    found = mean_variance(v, quantizer, rounding="independent")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    alone = mean_variance(v[:1], quantizer)
    np.testing.assert_allclose(alone, exact_variance(v[0], quantizer), rtol=1e-12)


def enumerated(places, count=60):
    """Var of (number of roundings up) over all permutations, and jitters by midpoints.

    Worker k rounds up if (sigma(k) + jitter) / K >= 1 - p_k.
    """
    workers = len(places)
    jitter = (np.arange(count) + 0.5) / count
    first, second, number = 0.0, 0.0, 0
    for sigma in itertools.permutations(range(workers)):
        up = [
            ((s + jitter) / workers >= 1 - p).mean()
            for s, p in zip(sigma, places, strict=True)
        ]
        # given the strata jitters are independent
        first += sum(up)
        second += sum(up) ** 2 + sum(x * (1 - x) for x in up)
        number += 1
    return second / number - (first / number) ** 2


@pytest.mark.quick
@pytest.mark.parametrize(
    "places", [(0.3, 0.9), (0.5, 0.5, 0.5), (0.3, 0.9, 0.9), (0.1, 0.2, 0.6, 0.95)]
)
def test_equals_all_permutations(places):
    """Coordinates between two levels, whose distance is 1; places on the grid of 60."""
    quantizer = qgenx.uniform(2)
    v = np.array([[1.0, p] for p in places])  # levels -1, 0 and 1
    (found,) = mean_variance(v, quantizer)
    np.testing.assert_allclose(
        found * len(places) ** 2, enumerated(places), rtol=0, atol=2e-4
    )


@pytest.mark.quick
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_never_above_independent_whatever_the_vectors(quantizer, workers):
    normal = vectors(workers, 64, seed=2)
    equal = np.broadcast_to(normal[:1], normal.shape)
    opposite = equal * (-1.0) ** np.arange(workers)[:, None]
    heavy = normal**3
    for v in (normal, equal, opposite.astype(np.float32), heavy):
        together = mean_variance(v, quantizer)
        apart = mean_variance(v, quantizer, rounding="independent")
        assert (together <= apart * (1 + 1e-9)).all(), (together, apart)


@pytest.mark.quick
def test_equal_vectors_have_a_quarter_of_a_step_over_k_squared_at_most():
    quantizer, v = qgenx.uniform(4), vectors(1, 1000)
    step = np.abs(v).max() / 7
    for workers in (2, 5, 16, 64):
        many = np.broadcast_to(v, (workers, v.size))
        (found,) = mean_variance(many, quantizer)
        # the scale that is sent exceeds the norm by a little
        assert found <= v.size * step**2 * 1.001 / 4 / workers**2


@pytest.mark.quick
def test_more_workers_than_strata():
    v = np.array([[1.0, 0.37]] * 300)
    (together,) = mean_variance(v, qgenx.uniform(2))
    (apart,) = mean_variance(v, qgenx.uniform(2), rounding="independent")
    assert 0 < together < apart / 5


@pytest.mark.quick
def test_jax_arrays_and_bad_input():
    quantizer, v = qgenx.uniform(3, bucket_size=16), vectors(3, 40)
    expected = mean_variance(v, quantizer)
    found = jax.jit(lambda v: mean_variance(v, quantizer))(jnp.asarray(v))
    assert isinstance(found, jax.Array)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert mean_variance(np.zeros((3, 0)), quantizer).shape == (0,)
    with pytest.raises(ValueError, match=r"vectors must be \(K, d\).*got \(40,\)"):
        mean_variance(v[0], quantizer)
    with pytest.raises(ValueError, match="rounding must be one of"):
        mean_variance(v, quantizer, rounding="none")
