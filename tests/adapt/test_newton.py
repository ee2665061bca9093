"""Newton's method beside finite differences, and what it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import distributions, newton, tables
from tests.adapt.test_distributions import law_of
from tests.adapt.test_tables import KINDS, TABLE


def hessian_of(law, table, kind, h=1e-5):
    """d derivative / d inner levels, by finite differences."""
    moves = np.eye(len(table))[0 if kind.mirrored else 1 : -1] * h
    slopes = jax.vmap(lambda x: tables.derivative(law, x, kind))
    up, down = (slopes(jnp.asarray(table + x)) for x in (moves, -moves))
    return (up - down) / (2 * h)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_step_solves_with_the_hessian_of_finite_differences(kind):
    with jax.enable_x64(True):
        law, table = law_of("four"), kind.levels(TABLE)
        whole = kind.whole(jnp.asarray(table))
        now = tables.parts(law, whole, kind)
        right = hessian_of(law, table, kind)
        bend = newton.curvature(law, whole, now, kind)
        np.testing.assert_allclose(bend, np.diag(right), rtol=1e-6)
        move = newton.direction(now, bend)
        slopes = tables.derivative(law, jnp.asarray(table), kind)
        np.testing.assert_allclose(right @ move, -slopes, rtol=1e-5, atol=1e-9)


@pytest.mark.plainly
@pytest.mark.parametrize("start", [1.0, 3.0])
def test_a_hundred_levels_get_to_their_places_from_far_away(start):
    finish = jax.jit(newton.finish, static_argnums=2)
    with jax.enable_x64(True):
        law = law_of("0.05")
        table = jnp.linspace(0, 1, 129) ** start
        found = finish(law, table, KINDS["mirrored"])
        slopes = tables.derivative(law, found[1:], KINDS["mirrored"])
        # the best of so many cost what their density says, int f^{1/3} cubed over 6 n^2
        fine = jnp.linspace(0, 1, 20_001)
        third = float(jnp.mean(jnp.cbrt(law.density(fine))))
        value = float(tables.variance(law, found[1:], KINDS["mirrored"]))
        np.testing.assert_allclose(value, third**3 / (6 * 127.5**2), rtol=2e-2)
        assert jnp.abs(slopes).max() < 1e-6


def test_spread_shares_the_cube_root_of_the_density_and_keeps_zero():
    law = distributions.histogram(jnp.asarray([-1.0, 0, 1]), jnp.asarray([1.0, 1]))
    table = jnp.asarray([-1, -0.5, -0.4, 0, 0.7, 1])
    for kind, right in (
        (tables.Kind(signed=True), np.linspace(-1, 1, 6)),
        (tables.Kind(signed=True, zero=3), [-1, -2 / 3, -1 / 3, 0, 0.5, 1]),
    ):
        found = newton.spread(table, tables.parts(law, table, kind), kind)
        np.testing.assert_allclose(found, right, atol=1e-6)


def test_half_a_share_below_the_lowest_level_without_zero():
    kind, law = KINDS["mirrored"], distributions.histogram(jnp.arange(2.0), jnp.ones(1))
    table = jnp.asarray([0, 0.3, 0.4, 1])
    found = newton.spread(table, tables.parts(law, table, kind), kind)
    np.testing.assert_allclose(found, [0, 0.2, 0.6, 1], atol=1e-6)
