"""One set: a user's projection as a prox, and the entropy's mirror map."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

import qgenx_jax as qgenx
from qgenx_jax._methods.prox import Projection

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


def test_a_projection_is_the_prox_of_the_distance():
    rng = np.random.default_rng(0)
    x = rng.dirichlet(np.ones(6))
    u = rng.normal(size=6)
    with jax.enable_x64(True):
        prox = Projection(optax.projections.projection_simplex)
        found = np.asarray(prox.step(jnp.asarray(x), jnp.asarray(u)))
    solved = optimize.minimize(
        lambda z: ((z - x) ** 2).sum() / 2 - u @ z,
        x,
        jac=lambda z: z - x - u,
        method="SLSQP",
        bounds=[(0, None)] * 6,
        constraints={"type": "eq", "fun": lambda z: z.sum() - 1},
        options={"ftol": 1e-15},
    )
    np.testing.assert_allclose(found, solved.x, atol=1e-7)


def test_the_entropic_step_is_the_prox_of_the_relative_entropy():
    rng = np.random.default_rng(1)
    x = rng.dirichlet(np.ones(5))
    u = rng.normal(size=5)
    with jax.enable_x64(True):
        found = np.asarray(qgenx.entropic().step(jnp.asarray(x), jnp.asarray(u)))
    raised = x * np.exp(u)
    np.testing.assert_allclose(found, raised / raised.sum(), rtol=1e-14)
    # stationary on the simplex: log(z / x) - u is the same in all coordinates
    slope = np.log(found / x) - u
    assert np.ptp(slope) < 1e-12


def test_entropic_rows_are_simplices_of_their_own():
    x = jnp.array([[0.2, 0.8], [1.0, 2.0]])
    found = qgenx.entropic(axis=-1).step(x, jnp.log(jnp.array([[4.0, 1], [2, 1]])))
    np.testing.assert_allclose(found, [[0.5, 0.5], [1.5, 1.5]], rtol=1e-6)


def test_an_entropic_simplex_of_several_leaves():
    x = {"a": jnp.array([0.1, 0.2]), "b": jnp.array([[0.7]])}
    u = {"a": jnp.array([1.0, 0.0]), "b": jnp.array([[-1.0]])}
    found = qgenx.entropic().step(x, u)
    raised = np.array([0.1 * np.e, 0.2, 0.7 / np.e])
    expected = raised / raised.sum()
    np.testing.assert_allclose(found["a"], expected[:2], rtol=1e-6)
    np.testing.assert_allclose(found["b"], expected[2:, None], rtol=1e-6)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_long_entropic_steps_do_not_overflow(size):
    found = qgenx.entropic().step(jnp.array([0.5, 0.5]), jnp.array([size, -size]))
    np.testing.assert_array_equal(found, [1, jnp.finfo(jnp.float32).tiny])


def test_an_entropic_start_has_no_zeros():
    pair = qgenx.extra_sgd(0.1, projection=qgenx.entropic())
    with pytest.raises(ValueError, match="params must be feasible"):
        pair.init(jnp.array([0.0, 1.0]))


def test_an_axis_is_a_whole_number():
    with pytest.raises(ValueError, match="axis must be a whole number or None"):
        qgenx.entropic(axis="rows")  # pyright: ignore[reportArgumentType]


def test_a_projection_returns_a_point_like_its_own():
    prox = Projection(lambda x: {"x": x})
    with pytest.raises(ValueError, match=r"projection\(x\) must have the tree struct"):
        prox(jnp.zeros(2))
