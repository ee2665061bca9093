"""Frechet's and the kernel distance: closed forms, SciPy's root, and error bars."""

import numpy as np
import pytest
import scipy.linalg

from experiments.scores.frechet import Moments, distance, kernel_distance, moments


def drawn(n, d, *, seed, shift=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((d, d)) / np.sqrt(d)
    return (scale * rng.standard_normal((n, d)) @ mixing + shift).astype(np.float32)


def by_scipy(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    first, second = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(first @ second).real
    gap = np.sum((x.mean(0) - y.mean(0)) ** 2)
    return gap + np.trace(first + second - 2 * root)


def test_the_distance_is_that_of_scipys_root():
    x, y = drawn(500, 40, seed=0), drawn(300, 40, seed=1, shift=0.3, scale=1.4)
    assert distance(moments(x), moments(y)) == pytest.approx(by_scipy(x, y), rel=1e-6)


def test_the_distance_of_diagonal_laws_in_closed_form():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 0.0])
    first = Moments(9, np.array([1.0, 0.0, 0.0]), np.diag(a))
    second = Moments(9, np.array([0.0, 2.0, 0.0]), np.diag(b))
    expected = 5 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert distance(first, second) == pytest.approx(expected, rel=1e-12)
    assert distance(second, first) == pytest.approx(expected, rel=1e-12)


def test_equal_sets_have_distance_zero_also_where_covariances_are_singular():
    x = drawn(20, 60, seed=0)  # fewer pictures than features
    own = moments(x)
    # the root of what should be 0 times the largest eigenvalue, 40 times over
    assert distance(own, own) < 1e-5 * np.trace(own.covariance)
    assert np.isfinite(distance(own, moments(drawn(30, 60, seed=1))))


def test_moments_of_a_far_mean_lose_no_digits():
    x = drawn(400, 5, seed=0).astype(np.float64)
    np.testing.assert_allclose(moments(x + 1e4).covariance, np.cov(x.T), rtol=1e-6)


def test_the_kernel_distance_is_its_definition():
    x, y = drawn(13, 6, seed=0), drawn(20, 6, seed=1, shift=0.5)

    def kernel(a, b):
        return (float(a @ b) / 6 + 1) ** 3

    rng = np.random.default_rng(3)
    us = x[rng.permutation(13)[:12]].reshape(3, 4, 6).astype(np.float64)
    vs = y[rng.permutation(20)[:12]].reshape(3, 4, 6).astype(np.float64)
    estimates = []
    for u, v in zip(us, vs, strict=True):
        pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
        within = np.mean([kernel(u[i], u[j]) + kernel(v[i], v[j]) for i, j in pairs])
        across = np.mean([kernel(a, b) for a in u for b in v])
        estimates.append(within - 2 * across)
    value, error = kernel_distance(x, y, blocks=3, seed=3)
    assert value == pytest.approx(np.mean(estimates), rel=1e-5)
    assert error == pytest.approx(np.std(estimates, ddof=1) / np.sqrt(3), rel=1e-4)


def test_the_kernel_distance_of_equal_laws_is_zero_within_its_error():
    """And the errors it gives are how far it is off, by a chi-squared test."""
    found = np.array(
        [
            kernel_distance(drawn(60, 8, seed=2 * i), drawn(90, 8, seed=2 * i + 1))
            for i in range(200)
        ]
    )
    values, errors = found.T
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values)) < 5 * spread / np.sqrt(len(values))
    # variances of 10 blocks have a relative deviation of about sqrt(2 / 9), heavy tails
    # of the estimates aside
    relative = np.mean(errors**2) / spread**2
    assert 0.6 < relative < 1.6
    far, _ = kernel_distance(drawn(60, 8, seed=0), drawn(60, 8, seed=1, shift=1))
    assert far > 5 * spread


def test_errors():
    x = drawn(10, 4, seed=0)
    with pytest.raises(ValueError, match=r"n at least 2, got \(1, 4\)"):
        moments(x[:1])
    with pytest.raises(ValueError, match="must be finite"):
        moments(x * np.nan)
    with pytest.raises(ValueError, match="features of one size"):
        distance(moments(x), moments(x[:, :3]))
    with pytest.raises(ValueError, match="features of one size"):
        kernel_distance(x, x[:, :3], blocks=2)
    with pytest.raises(ValueError, match="at least 20 features for 10 blocks, got 10"):
        kernel_distance(x, x)
    with pytest.raises(ValueError, match="blocks must be at least 2, got 1"):
        kernel_distance(x, x, blocks=1)
