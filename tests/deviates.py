"""Statistics, each with the normal deviate z that is as unlikely."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np
from scipy import stats


class Row(NamedTuple):
    """One line of the table."""

    test: str
    statistic: float
    expected: float
    spread: str
    z: float

    @property
    def ok(self) -> bool:
        return abs(self.z) < 5


def chi_square(test: str, statistic: float, df: int) -> Row:
    """A row for a chi-square statistic; too small counts as well as too large."""
    upper, lower = stats.chi2.sf(statistic, df), stats.chi2.cdf(statistic, df)
    z = stats.norm.isf(upper) if upper < 0.5 else stats.norm.ppf(lower)
    return Row(test, float(statistic), df, f"df {df}", float(z))


def normal(test: str, statistic: float, expected: float, sd: float) -> Row:
    z = (statistic - expected) / sd
    return Row(test, statistic, expected, f"sd {sd:.3g}", float(z))


def many(test: str, z: np.ndarray, *, total: bool = True) -> list[Row]:
    """Rows for independent standard normal deviates: sum of squares, and the worst."""
    z = np.asarray(z, np.float64).ravel()
    worst = float(np.abs(z).max())
    # P(some |z| > worst) = 1 - (1 - p)^n
    p = -math.expm1(z.size * math.log1p(-min(2 * stats.norm.sf(worst), 1 - 1e-15)))
    typical = stats.norm.isf(-math.expm1(-math.log(2) / z.size) / 2)
    row = Row(f"{test}, worst |z|", worst, float(typical), f"of {z.size}", 0.0)
    rows = [row._replace(z=float(stats.norm.isf(p)) if p > 0 else math.inf)]
    if total:
        rows.insert(0, chi_square(f"{test}, sum z^2", (z**2).sum(), z.size))
    return rows


def deviates(statistics: Iterable[jax.Array], df: int) -> np.ndarray:
    """Of chi-square statistics with many degrees of freedom."""
    return np.array([(float(x) - df) / math.sqrt(2 * df) for x in statistics])
