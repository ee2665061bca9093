"""Newton's method beside finite differences, and what it keeps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import distributions, newton, tables
from tests.adapt.test_distributions import law_of
from tests.adapt.test_tables import KINDS, TABLE

pytestmark = pytest.mark.plainly


def hessian_of(law, table, kind, h=1e-5):
    """d derivative / d inner levels, by finite differences."""
    moves = np.eye(len(table))[0 if kind.mirrored else 1 : -1] * h
    slopes = jax.jit(jax.vmap(lambda x: tables.derivative(law, x, kind)))
    up, down = (slopes(jnp.asarray(table + x)) for x in (moves, -moves))
    return (up - down) / (2 * h)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_step_solves_with_the_hessian_of_finite_differences(kind):
    with jax.enable_x64(True):
        law, table = law_of("four"), kind.levels(TABLE)
        whole = kind.whole(jnp.asarray(table))
        right = hessian_of(law, table, kind)

        @jax.jit
        def found(whole):
            now = tables.parts(law, whole, kind)
            bend = newton.curvature(law, whole, now, kind)
            slopes = now.to_lower[:-1] - now.to_upper[1:]
            return bend, newton.direction(now, bend), slopes

        bend, move, slopes = map(np.asarray, found(whole))
        np.testing.assert_allclose(bend, np.diag(right), rtol=1e-6)
        np.testing.assert_allclose(right @ move, -slopes, rtol=1e-5, atol=1e-9)


@functools.cache
def finished():
    """From equal steps, and from their cubes: variances, slopes, and int f^{1/3}."""
    kind = KINDS["mirrored"]

    @jax.jit
    def values(law, starts):
        found = jax.vmap(lambda x: newton.finish(law, x, kind)[1:])(starts)
        costs = jax.vmap(lambda x: tables.variance(law, x, kind))(found)
        slopes = jax.vmap(lambda x: tables.derivative(law, x, kind))(found)
        third = jnp.mean(jnp.cbrt(law.density(jnp.linspace(0, 1, 20_001))))
        return costs, slopes, third

    with jax.enable_x64(True):
        equal = np.linspace(0, 1, 129)
        starts = jnp.asarray(np.stack([equal, equal**3]))
        return jax.tree.map(np.asarray, values(law_of("0.05"), starts))


@pytest.mark.parametrize("start", [0, 1], ids=["equal", "cubes"])
def test_a_hundred_levels_get_to_their_places_from_far_away(start):
    costs, slopes, third = finished()
    # the best of so many cost what the density says: (int f^{1/3})^3 / (6 n^2)
    np.testing.assert_allclose(costs[start], third**3 / (6 * 127.5**2), rtol=2e-2)
    assert np.abs(slopes[start]).max() < 1e-6


@functools.partial(jax.jit, static_argnums=2)
def spread(law, table, kind):
    return newton.spread(table, tables.parts(law, table, kind), kind)


def test_spread_shares_the_cube_root_of_the_density_and_keeps_zero():
    law = distributions.histogram(jnp.asarray([-1.0, 0, 1]), jnp.asarray([1.0, 1]))
    table = jnp.asarray([-1, -0.5, -0.4, 0, 0.7, 1])
    for kind, right in (
        (tables.Kind(signed=True), np.linspace(-1, 1, 6)),
        (tables.Kind(signed=True, zero=3), [-1, -2 / 3, -1 / 3, 0, 0.5, 1]),
    ):
        np.testing.assert_allclose(spread(law, table, kind), right, atol=1e-6)


def test_half_a_share_below_the_lowest_level_without_zero():
    kind, law = KINDS["mirrored"], distributions.histogram(jnp.arange(2.0), jnp.ones(1))
    table = jnp.asarray([0, 0.3, 0.4, 1])
    found = spread(law, table, kind)
    np.testing.assert_allclose(found, [0, 0.2, 0.6, 1], atol=1e-6)
