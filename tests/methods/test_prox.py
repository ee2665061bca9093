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
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.5, 0.5]], rtol=1e-6)


def test_sums_do_not_drift_in_few_bits():
    """20,000 steps around a cycle; normalised to the last sum it came to 1.9."""
    game = jnp.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0.0]])
    x = jnp.array([0.5, 0.3, 0.2], "bfloat16")
    pair = qgenx.extra_sgd(0.1, projection=qgenx.entropic())
    step = qgenx.iterate(
        pair, lambda x: (game @ x.astype("float32")).astype("bfloat16")
    )
    (x, _), _ = jax.jit(
        lambda c: jax.lax.scan(lambda c, _: (step(*c), None), c, length=20_000)
    )((x, pair.init(x)))
    np.testing.assert_allclose(x.astype("float32").sum(), 1, atol=3 * 2**-8)


def test_simplices_of_another_scale():
    x = jnp.array([1.5, 0.5])
    found = qgenx.entropic(2.0).step(x, jnp.log(jnp.array([1.0, 9.0])))
    np.testing.assert_allclose(found, [0.5, 1.5], rtol=1e-6)


@pytest.mark.parametrize("axis", [None, -1])
def test_what_is_empty_stays_so(axis):
    x = {"a": jnp.ones((1, 2)) / 2, "empty": jnp.zeros((3, 0))}
    pair = qgenx.extra_sgd(0.1, projection=qgenx.entropic(axis=axis))
    delta, _ = pair.extrapolation.update(x, pair.init(x), x)
    assert delta["empty"].shape == (3, 0)


TWO = {"a": jnp.ones(2) / 4, "b": jnp.ones(2) / 4}
REFUSED = {
    "a zero": (qgenx.entropic(), jnp.array([0.0, 1.0]), "params must be positive"),
    "a sum": (
        qgenx.entropic(),
        jnp.array([1.0, 1.0]),
        r"params must be feasible.*by 0",
    ),
    "two leaves": (qgenx.entropic(), TWO, "projection must be an entropic.. for each"),
    "an axis": (qgenx.entropic(axis=1), jnp.ones(2), r"axis must be one of .* \(2,\)"),
    "a scalar": (qgenx.entropic(axis=-1), jnp.ones(()), r"axis must be one of .* \(\)"),
    "a factory": (qgenx.entropic, jnp.ones(2), "projection must be what entropic ret"),
    "no projection": (
        lambda x: x / 2 + 0.1,
        jnp.full(2, 0.2),
        "leave points of its se",
    ),
    "nan": (
        lambda x: jnp.where(x > 0.5, jnp.nan, x),
        jnp.zeros(2),
        "moves its own result by nan",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_at_init_is_refused(case):
    projection, x, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        qgenx.extra_sgd(0.1, projection=projection).init(x)


def test_structures_are_refused_where_values_are_not_known():
    pair = qgenx.extra_sgd(0.1, projection=qgenx.entropic())
    with pytest.raises(ValueError, match=r"an entropic.. for each leaf"):
        jax.jit(pair.init)(TWO)
    jax.jit(pair.init)(jnp.zeros(2))  # as the docs say


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_long_entropic_steps_do_not_overflow(size):
    found = qgenx.entropic().step(jnp.array([0.5, 0.5]), jnp.array([size, -size]))
    np.testing.assert_array_equal(found, [1, jnp.finfo(jnp.float32).tiny])


def test_an_axis_is_a_whole_number():
    with pytest.raises(ValueError, match="axis must be a whole number or None"):
        qgenx.entropic(axis="rows")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="scale must be"):
        qgenx.entropic(-1.0)


def test_a_projection_returns_a_point_like_its_own():
    prox = Projection(lambda x: {"x": x})
    with pytest.raises(ValueError, match=r"projection\(x\) must have the tree struct"):
        prox(jnp.zeros(2))
