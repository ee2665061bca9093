"""Laws of coordinates, beside truncated normals in decimals of 50 digits."""

from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import distributions
from tests.lib.fifty_digits import Folded

pytestmark = pytest.mark.plainly
LAWS = {
    "0.05": (["0"], ["0.05"], ["1"]),
    "0.1": (["0"], ["0.1"], ["1"]),
    "0.3": (["0"], ["0.3"], ["1"]),
    "four": (
        ["0.05", "-0.3", "0.01", "0.5"],
        ["0.05", "0.2", "0.01", "0.3"],
        ["4", "1", "2", "0.5"],
    ),
}
POINTS = ["0.001", "0.02", "0.1", "0.35", "0.7", "0.98"]


def law_of(name, dtype=jnp.float64, signed=False):
    columns = (jnp.asarray([float(x) for x in row], dtype) for row in LAWS[name])
    return truncated(*columns, signed=signed)


# programs that all laws of as many components share
truncated = jax.jit(distributions.truncated, static_argnames=("signed", "low"))
moments = jax.jit(lambda law, lower, upper: law.moments(lower, upper))
inverse = jax.jit(distributions.inverse)


@jax.jit
def from_zero(law, x):
    """int dF, int u dF and int u^2 dF over [0, x], and the density at x."""
    functions = (
        distributions.cdf,
        distributions.first_moment,
        distributions.second_moment,
    )
    return [f(law, 0.0, x) for f in functions], law.density(x)


@pytest.mark.parametrize("name", LAWS)
def test_normals_equal_decimals_of_fifty_digits(name):
    exact = [Folded(*LAWS[name]).moments(Decimal(0), Decimal(x)) for x in POINTS]
    with jax.enable_x64(True):
        law, x = law_of(name), jnp.asarray([float(p) for p in POINTS])
        found, density = from_zero(law, x)
        for values, right in zip(found, zip(*exact, strict=True), strict=True):
            np.testing.assert_allclose(values, np.array(right, float), rtol=1e-10)
        masses = jnp.asarray([float(row[0]) for row in exact])[:4]
        back = inverse(law, 0.0, 1.0, masses)
        density = np.asarray(density)[:4]
        # a float64 mass near 1 says no more than this about its place
        error = np.abs(np.asarray(back - x[:4]))
        assert (error <= 1e-10 + 1e-15 / np.maximum(density, 1e-12)).all()


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("width", ["0.0005", "0.02", "0.2"])
def test_tails_and_narrow_intervals_keep_their_digits(name, width):
    ends = [(Decimal(a), Decimal(a) + Decimal(width)) for a in ("0", "0.3", "0.75")]
    oracle, right = Folded(*LAWS[name]), []
    for a, c in ends:
        m0, m1, m2 = oracle.moments(a, c)
        right.append((m0, m1 - a * m0, (a + c) * m1 - m2 - a * c * m0))
    right = np.array(right, float).T
    lower, upper = np.array(ends, float).T
    with jax.enable_x64(True):
        found = moments(law_of(name), jnp.asarray(lower), jnp.asarray(upper))
        np.testing.assert_allclose(np.array(found), right, rtol=1e-8, atol=1e-30)
    lower, upper = jnp.asarray(lower, jnp.float32), jnp.asarray(upper, jnp.float32)
    low = moments(law_of(name, jnp.float32), lower, upper)
    # ends rounded to float32 move a narrow interval's width by 1e-4 of it
    np.testing.assert_allclose(np.array(low), right, rtol=2e-3, atol=1e-12)


def test_signed_laws_have_all_their_mass_between_the_ends():
    with jax.enable_x64(True):
        ends = -jnp.ones(1), jnp.ones(1)
        total = moments(law_of("four", signed=True), *ends)[0]
        np.testing.assert_allclose(total, 1, rtol=1e-14)
        over_range = truncated(*law_of("four", signed=True), signed=True, low=0.0)
        total = moments(over_range, 0 * ends[1], ends[1])[0]
        np.testing.assert_allclose(total, 1, rtol=1e-14)


def test_histograms_equal_sums_over_many_points():
    edges = jnp.asarray([0.0, 0.1, 0.4, 0.5, 1.0])
    law = distributions.histogram(edges, jnp.asarray([1.0, 0.0, 2.0, 5.0]))
    u = (np.arange(400_000) + 0.5) / 400_000
    density = np.interp(u, edges, [0] * 5)
    density = np.array([1, 0, 2, 5])[np.searchsorted(edges, u) - 1] / 8
    density = density / np.diff(edges)[np.searchsorted(edges, u) - 1] / 400_000
    lower, upper = np.array([0.0, 0.05, 0.45]), np.array([0.2, 0.47, 1.0])
    found = moments(law, jnp.asarray(lower), jnp.asarray(upper))
    for a, c, row in zip(lower, upper, np.array(found).T, strict=True):
        f = np.where((u > a) & (u < c), density, 0)
        right = [f.sum(), (f * (u - a)).sum(), (f * (u - a) * (c - u)).sum()]
        np.testing.assert_allclose(row, right, rtol=1e-4)


def test_the_inverse_of_a_histogram_crosses_empty_bins():
    law = distributions.histogram(
        jnp.asarray([0.0, 0.1, 0.4, 0.5, 1.0]), jnp.asarray([1.0, 0.0, 2.0, 5.0])
    )
    masses = jnp.asarray([0.0625, 0.25, 0.6875])
    found = inverse(law, 0.0, 1.0, masses)
    np.testing.assert_allclose(found, [0.05, 0.45, 0.75], rtol=1e-6)


def test_what_is_tabulated_has_the_masses_of_the_law():
    edges = jnp.linspace(0, 1, 9)
    table = jax.jit(distributions.tabulated)(law_of("0.3", jnp.float32), edges)
    right = moments(law_of("0.3", jnp.float32), edges[:-1], edges[1:])[0]
    np.testing.assert_allclose(table.densities / 8, right, rtol=1e-6)


def test_no_weight_is_no_mass():
    law = truncated(*jnp.zeros((3, 2)), signed=False)
    assert (moments(law, jnp.zeros(1), jnp.ones(1))[0] == 0).all()
