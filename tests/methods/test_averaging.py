"""Averages of iterates, in few bits and over many iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import qgenx_jax as qgenx

pytestmark = pytest.mark.usefixtures("compiled_plainly")


def test_float32_average_does_not_stagnate():
    """Gap(X-bar_T) = R |X_{T+1} - X_1| / (gamma_{T+1} T) at T = 30,000, in float32.

    A plain running mean in float32 is 3 times off there, and 15 times at 100,000.
    """
    horizon = 30_000
    problem = qgenx.problems.bilinear(20, seed=0)
    pair = qgenx.chain(qgenx.q_genx("data", None), qgenx.ergodic_average())
    step = qgenx.iterate(pair, problem.operator)

    def run(_):
        x = jnp.zeros(20)
        carry = x, pair.init(x)
        return lax.fori_loop(0, horizon, lambda _, c: step(*c), carry)

    mapped = jax.vmap(run, axis_name="data", out_axes=0)
    x, state = jax.tree.map(lambda leaf: leaf[0], jax.jit(mapped)(jnp.arange(1)))
    gamma = 1 / np.sqrt(1 + float(state.inner[0].step_size.sum_of_squares))
    expected = float(jnp.linalg.norm(x)) / (gamma * horizon)
    gap = float(problem.gap(qgenx.ergodic_average_params(state)))
    assert gap == pytest.approx(expected, rel=1e-2)


@pytest.mark.quick
def test_averages_of_bfloat16_parameters_are_kept_in_float32():
    pair = qgenx.chain(qgenx.extra_sgd(1e-3), qgenx.ergodic_average(), qgenx.ema(0.999))
    x = {"a": jnp.ones(3, jnp.bfloat16)}
    state = pair.init(x)
    delta, state = pair.extrapolation.update(x, state, x)
    half = jax.tree.map(jnp.add, x, delta)
    _, state = pair.update.update(x, state, half)
    average = qgenx.ergodic_average_params(state)["a"]
    assert average.dtype == jnp.float32
    # X_{1+1/2} = 1 - 0.001, which bfloat16 cannot hold
    np.testing.assert_allclose(average, 0.999, rtol=1e-5)
    assert qgenx.ema_params(state, x)["a"].dtype == jnp.bfloat16


@pytest.mark.quick
def test_the_default_decay_of_ema():
    """0.9999, as is usual."""
    chained = qgenx.chain(qgenx.extra_sgd(1.0), qgenx.ema())
    step = qgenx.iterate(chained, lambda x: jnp.full_like(x, 1e4))
    _, state = step(jnp.full(1, 5e3), chained.init(jnp.full(1, 5e3)))
    # X_2 = 5000 - 10^4 enters with weight 10^-4
    np.testing.assert_allclose(qgenx.ema_params(state), [4999.0], rtol=1e-5)


@pytest.mark.quick
def test_averages_are_read_once_or_not_at_all():
    pair = qgenx.chain(qgenx.extra_sgd(0.1), qgenx.ema(0.5))
    x = {"a": jnp.ones(3, jnp.bfloat16)}
    state = pair.init(x)
    assert qgenx.ema_params(state)["a"].dtype == jnp.float32
    assert qgenx.ema_params(state, x)["a"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"exactly one ErgodicAverageState, got 0 of"):
        qgenx.ergodic_average_params(state)
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1"):
        qgenx.ema(1)


@pytest.mark.quick
def test_averages_of_any_tree_are_those_of_numpy():
    """What observers keep, without a pair: `start` and `add`, in float64."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 5))
    with jax.enable_x64():
        uniform = qgenx.ErgodicAverageState.start({"x": jnp.asarray(points[0])})
        moving = qgenx.EmaState.start({"x": jnp.asarray(points[0])})
        expected = points[0]
        for point in points[1:]:
            uniform = uniform.add({"x": jnp.asarray(point)})
            moving = moving.add({"x": jnp.asarray(point)}, 0.75)
            expected = 0.75 * expected + 0.25 * point
    assert uniform.count == 6
    np.testing.assert_allclose(uniform.average["x"], points[1:].mean(0), rtol=1e-14)
    np.testing.assert_allclose(moving.average["x"], expected, rtol=1e-14)


def test_the_decay_of_a_moving_average_by_a_schedule():
    """decay(n) = (1 + n) / (10 + n), of n points after X_1, in NumPy."""

    def decay(n):
        return (1.0 + n) / (10.0 + n)

    pair = qgenx.chain(qgenx.extra_sgd(0.5), qgenx.ema(decay))
    optimizer = qgenx.alternating(pair)
    x = jnp.array([1.0, 2.0])
    state = optimizer.init(x)
    expected = np.array([1.0, 2.0])
    for n in range(4):
        for _ in range(2):
            delta, state = jax.jit(optimizer.update)(x, state, x)
            x = x + delta
        expected += (1 - decay(n)) * (np.asarray(x) - expected)
        np.testing.assert_allclose(qgenx.ema_params(state), expected, rtol=1e-6)
    constant = qgenx.chain(qgenx.extra_sgd(0.5), qgenx.ema(0.5))
    state = constant.init(x)
    assert state.inner[1].count is None
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got .*1"):
        qgenx.ema(lambda n: 1.0 + n)
    _, state = pair.extrapolation.update(x, state, x)
    with pytest.raises(ValueError, match=r"state.count must count points"):
        pair.update.update(x, state, x)
