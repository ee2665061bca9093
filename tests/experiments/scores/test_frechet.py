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
    x, y = drawn(12, 6, seed=0), drawn(9, 6, seed=1, shift=0.5)

    def kernel(a, b):
        return (float(a @ b) / 6 + 1) ** 3

    rng = np.random.default_rng(3)
    estimates = []
    for _ in range(4):
        u = x[rng.choice(12, 5, replace=False)].astype(np.float64)
        v = y[rng.choice(9, 5, replace=False)].astype(np.float64)
        pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
        within = np.mean([kernel(u[i], u[j]) + kernel(v[i], v[j]) for i, j in pairs])
        across = np.mean([kernel(a, b) for a in u for b in v])
        estimates.append(within - 2 * across)
    value, error = kernel_distance(x, y, subsets=4, size=5, seed=3)
    assert value == pytest.approx(np.mean(estimates), rel=1e-5)
    assert error == pytest.approx(np.std(estimates, ddof=1) / 2, rel=1e-4)


def test_the_kernel_distance_of_equal_laws_is_zero_in_the_mean():
    values = [
        kernel_distance(
            drawn(60, 8, seed=2 * i), drawn(60, 8, seed=2 * i + 1), subsets=1, size=60
        )[0]
        for i in range(200)
    ]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 5 * error
    far = kernel_distance(drawn(60, 8, seed=0), drawn(60, 8, seed=1, shift=1), size=60)
    assert far[0] > np.mean(values) + 5 * np.std(values)


def test_errors():
    x = drawn(10, 4, seed=0)
    with pytest.raises(ValueError, match=r"n at least 2, got \(1, 4\)"):
        moments(x[:1])
    with pytest.raises(ValueError, match="must be finite"):
        moments(x * np.nan)
    with pytest.raises(ValueError, match="features of one size"):
        distance(moments(x), moments(x[:, :3]))
    with pytest.raises(ValueError, match="features of one size"):
        kernel_distance(x, x[:, :3], size=5)
    with pytest.raises(ValueError, match="from 2 to the 10 features there are, got 11"):
        kernel_distance(x, x, size=11)
    with pytest.raises(ValueError, match="subsets must be at least 1, got 0"):
        kernel_distance(x, x, size=5, subsets=0)
