"""Sets of players: nearest points, corners, and the inequalities that describe them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from qgenx_jax.problems.sets import Box, Product, Simplex, onto_simplex

pytestmark = pytest.mark.quick

BOX = Box(np.array([-1.0, 0.0]), np.array([0.5, np.inf]))
PRODUCT = Product((BOX, Simplex(3)))


@pytest.mark.parametrize("seed", range(3))
def test_the_projection_is_the_nearest_point(seed):
    x = np.random.default_rng(seed).normal(size=5) * 2
    (g, h), (e, f) = PRODUCT.inequalities(), PRODUCT.equalities()
    expected = optimize.minimize(
        lambda y: ((y - x) ** 2).sum(),
        np.array([0, 1, 1 / 3, 1 / 3, 1 / 3]),
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda y: g @ y - h},
            {"type": "eq", "fun": lambda y: e @ y - f},
        ],
        options={"ftol": 1e-15},
    ).x
    with jax.enable_x64(True):
        found = PRODUCT.project(jnp.asarray(x))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert (g @ np.asarray(found) >= h - 1e-15).all()
        np.testing.assert_allclose(e @ np.asarray(found), f, atol=1e-15)
        np.testing.assert_allclose(PRODUCT.project(found), found, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_the_farthest_point_is_the_one_that_a_linear_program_finds(seed):
    direction = np.random.default_rng(seed).normal(size=5)
    bounded = PRODUCT.near(np.zeros(5), None)
    (g, h), (e, f) = bounded.inequalities(), bounded.equalities()
    options = {"A_ub": -g, "b_ub": -h, "A_eq": e, "b_eq": f, "bounds": (None, None)}
    expected = optimize.linprog(-direction, **options).x
    found = bounded.farthest(jnp.asarray(direction))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_projection_of_numpy_is_the_same():
    x = np.random.default_rng(0).normal(size=7)
    with jax.enable_x64(True):
        expected = Simplex(7).project(jnp.asarray(x))
    np.testing.assert_allclose(onto_simplex(x), expected, atol=1e-15)


def test_the_part_near_a_center():
    near = BOX.near(np.array([0.25, 3.0]), 0.5)
    np.testing.assert_array_equal(near.low, [-0.25, 2.5])
    np.testing.assert_array_equal(near.high, [0.5, 3.5])
    bounded = Box(np.zeros(2), np.ones(2))
    assert bounded.near(np.zeros(2), None) is bounded
    np.testing.assert_array_equal(BOX.near(np.zeros(2), None).high, [0.5, 1.0])
    message = r"radius must be left out on simplices, .* got 0.5: call gap\(x\)"
    with pytest.raises(ValueError, match=f"^{message}"):
        PRODUCT.near(np.zeros(5), 0.5)
