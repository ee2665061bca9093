"""Slopes on log-log axes, and how sure they are."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Fit(NamedTuple):
    """A number over seeds: its mean, and where that lies with 95 %.

    Attributes:
        mean: over the seeds.
        low: the lower end of the interval by Student's law; the mean of one seed.
        high: the upper end.
        seeds: how many.
    """

    mean: float
    low: float
    high: float
    seeds: int


def over_seeds(values: np.ndarray) -> Fit:
    """Mean and interval of one number for each seed."""
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Fit(mean, mean, mean, 1)
    wide = float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5)
    return Fit(mean, mean - wide, mean + wide, count)


def slopes(x: np.ndarray, y: np.ndarray, low: float = 0, high: float = np.inf) -> Fit:
    """The exponent a of y ~ x^a, of each seed by least squares on logarithms.

    Args:
        x: (points,), positive.
        y: (seeds, points), positive.
        low: the least x that counts: before it is the transient.
        high: the greatest.

    Raises:
        ValueError: if fewer than two points count, or one is not positive.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    inside = (x >= low) & (x <= high)
    if inside.sum() < 2:
        raise ValueError(
            f"x must have two points at least in [{low}, {high}], got {x[inside]}; "
            "widen the window"
        )
    x, y = x[inside], y[:, inside]
    if not (np.all(x > 0) and np.all(y > 0)):
        raise ValueError(
            f"x and y must be positive, got {min(x.min(), y.min())}; end the window "
            "before it"
        )
    horizontal = np.log(x) - np.log(x).mean()
    return over_seeds(np.log(y) @ horizontal / (horizontal @ horizontal))


def crossing(x: np.ndarray, y: np.ndarray, goal: float) -> float:
    """The x where a curve comes to `goal` for good, between points on log-log axes.

    From there on it is never above; infinity if its end is.
    """
    above = np.flatnonzero(~(np.asarray(y) <= goal))
    if not len(above):
        return float(x[0])
    last = int(above[-1])
    if last + 1 == len(x):
        return float("inf")
    ys = np.log(np.maximum(y[last : last + 2], 1e-300))
    share = (ys[0] - np.log(goal)) / (ys[0] - ys[1])
    xs = np.log(x[last : last + 2])
    return float(np.exp(xs[0] + share * (xs[1] - xs[0])))
