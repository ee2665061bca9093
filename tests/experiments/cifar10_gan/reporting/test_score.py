"""Sliced Wasserstein distance: closed forms and symmetries."""

import numpy as np
import pytest

from experiments.cifar10_gan.data.pictures import draw_pictures
from experiments.cifar10_gan.reporting.score import directions, sliced_wasserstein


def test_zero_for_equal_sets_in_any_order():
    pictures = draw_pictures(64, seed=0)
    assert sliced_wasserstein(pictures, pictures) == 0
    shuffled = np.random.default_rng(0).permutation(pictures)
    # A matrix product may sum in another order for another row.
    assert sliced_wasserstein(pictures, shuffled) < 1e-5


def test_a_shift_in_closed_form():
    x = np.random.default_rng(0).standard_normal((50, 4, 4, 3)).astype(np.float32)
    units = directions(256, 48, seed=9)
    along = np.sqrt(np.mean(units.sum(0, dtype=np.float64) ** 2))
    # c (1, ..., 1) has norm c sqrt(48), so the expected value over directions is c.
    assert abs(along - 1) < 5 * np.sqrt(2 / 256) / 2, "five standard errors"
    got = sliced_wasserstein(x, x + np.float32(0.75), seed=9)
    assert got == pytest.approx(0.75 * along, rel=1e-5)
    v = np.random.default_rng(1).standard_normal((4, 4, 3)).astype(np.float32)
    expected = np.sqrt(np.mean((v.reshape(-1) @ units) ** 2))
    assert sliced_wasserstein(x, x + v, seed=9) == pytest.approx(expected, rel=1e-5)


def test_point_masses_and_scaling_by_hand():
    # One coordinate: the only directions are -1 and 1, so this is W_2 itself:
    # (0, 1, 5) against (1, 1, 2), sorted pairs differ by 1, 0, 3.
    x, y = np.array([[5.0], [0.0], [1.0]]), np.array([[1.0], [2.0], [1.0]])
    assert sliced_wasserstein(x, y) == pytest.approx(np.sqrt(10 / 3))
    assert sliced_wasserstein(y, x) == sliced_wasserstein(x, y)
    assert sliced_wasserstein(3 * x, 3 * y) == pytest.approx(3 * np.sqrt(10 / 3))


def test_orders_pictures_sensibly_and_is_seeded():
    one, two = draw_pictures(256, seed=0), draw_pictures(256, seed=1)
    noise = np.random.default_rng(0).integers(0, 256, one.shape, np.uint8)
    same, far = sliced_wasserstein(one, two), sliced_wasserstein(one, noise)
    assert same < 0.5 * far, "two samples of a distribution are nearer than noise"
    assert sliced_wasserstein(one, two) == same
    assert sliced_wasserstein(one, two, seed=1) != same


def test_directions_are_unit_vectors():
    units = directions(20, 100, seed=0)
    assert units.shape == (100, 20)
    assert np.allclose(np.linalg.norm(units, axis=0), 1, atol=1e-6)


def test_errors():
    x = np.zeros((4, 8, 8, 3))
    with pytest.raises(ValueError, match=r"one shape .* got \(4, 8, 8, 3\) and \(3, 8"):
        sliced_wasserstein(x, x[:3])
    with pytest.raises(ValueError, match="must be finite"):
        sliced_wasserstein(x, x + np.nan)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        sliced_wasserstein(x, x, projections=0)
