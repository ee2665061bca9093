"""Slopes, intervals and crossings of curves that are known."""

import numpy as np
import pytest

from experiments.vi import fits
from experiments.vi.claims import Claim

pytestmark = pytest.mark.quick
X = np.geomspace(10, 1e4, 24)


@pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.0, 2.0])
def test_a_power_law_has_its_exponent(exponent):
    fit = fits.slopes(X, np.array([[0.1], [1.0], [30.0]]) * X**exponent)
    assert fit == pytest.approx((exponent, exponent, exponent, 3), abs=1e-12)


def test_what_comes_before_the_window_does_not_count():
    y = np.where(X < 100, 0.1, X**-0.5)[None]
    assert fits.slopes(X, y, low=100).mean == pytest.approx(-0.5)
    assert fits.slopes(X, y).mean > -0.45


def test_intervals_hold_the_exponent_95_times_in_100():
    rng = np.random.default_rng(0)
    y = X**-0.7 * np.exp(0.3 * rng.normal(size=(1000, 5, len(X))))
    found = [fits.slopes(X, each) for each in y]
    inside = np.mean([fit.low <= -0.7 <= fit.high for fit in found])
    assert 0.93 < inside < 0.97
    assert fits.over_seeds(np.array([3.0])) == (3.0, 3.0, 3.0, 1)


def test_intervals_by_hand():
    fit = fits.over_seeds(np.array([1.0, 2.0, 3.0]))
    wide = 4.302652729911275 / 3**0.5  # Student's, two degrees of freedom
    assert fit == pytest.approx((2.0, 2 - wide, 2 + wide, 3))


def test_where_a_curve_comes_to_its_goal_for_good():
    assert fits.crossing(X, X**-0.5, 0.05) == pytest.approx(400)
    there_and_back = np.where(X > 1000, 1.0, X**-0.5)
    assert fits.crossing(X, there_and_back, 0.05) == np.inf
    assert fits.crossing(X, 0 * X, 0.05) == X[0]
    assert fits.crossing(X, np.full_like(X, np.nan), 0.05) == np.inf


def test_what_has_no_slope_is_refused():
    with pytest.raises(ValueError, match=r"x must have two points .*widen the window"):
        fits.slopes(X, X[None], low=9999)
    with pytest.raises(ValueError, match=r"must be positive, got -1"):
        fits.slopes(X, -np.ones((1, len(X))))


@pytest.mark.parametrize(
    ("kind", "mean", "holds"),
    [
        *(("near", -0.45, True), ("near", -0.65, False), ("near", -0.3, False)),
        *(("least", 9.0, True), ("least", -0.55, True), ("least", -0.7, False)),
        *(("most", -9.0, True), ("most", -0.45, True), ("most", -0.3, False)),
    ],
)
def test_verdicts(kind, mean, holds):
    claim = Claim("", "", -0.5, 0.1, fits.Fit(mean, mean, mean, 1), kind)
    assert claim.holds is holds
    assert claim.row["verdict"] == ("holds" if holds else "does not")
