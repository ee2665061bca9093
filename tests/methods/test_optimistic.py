"""Optimistic methods against transcriptions in NumPy, and their two closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

WORKERS, DIMENSION, ITERATIONS = 3, 10, 20


class NumpyOmd:
    """x <- x - 2 lr v_t + lr v_{t-1}, with v_0 = 0."""

    def __init__(self):
        self.last = 0.0

    def move(self, g):
        move = -2 * 0.05 * g + 0.05 * self.last
        self.last = g
        return move


class NumpyOptimisticAdam:
    """x <- x - 2 p_t + p_{t-1} with Adam's steps p, and p_0 = 0."""

    def __init__(self):
        self.m = self.v = self.last = 0.0
        self.t = 0

    def move(self, g):
        self.t += 1
        self.m = 0.5 * self.m + 0.5 * g
        self.v = 0.9 * self.v + 0.1 * g**2
        m_hat, v_hat = self.m / (1 - 0.5**self.t), self.v / (1 - 0.9**self.t)
        step = 0.05 * m_hat / (np.sqrt(v_hat) + 1e-8)
        move = -2 * step + self.last
        self.last = step
        return move


METHODS = {
    "mirror_descent": (lambda: optax.sgd(0.05), NumpyOmd),
    "adam": (lambda: optax.adam(0.05, b1=0.5, b2=0.9), NumpyOptimisticAdam),
}


@pytest.mark.parametrize("name", METHODS)
def test_equals_transcription_over_workers(name):
    base, transcription = METHODS[name]
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(WORKERS, DIMENSION, DIMENSION))
    offsets = rng.normal(size=(WORKERS, DIMENSION))
    expected = rng.normal(size=DIMENSION)
    rule = transcription()
    with jax.enable_x64(True):
        optimizer = optax.chain(
            qgenx.quantized_mean(AXIS, None), qgenx.optimistic(base())
        )

        def call(x, state, b, c):
            delta, state = optimizer.update(b @ x + c, state, x)
            return optax.apply_updates(x, delta), state

        run = qgenx.map_workers(call, AXIS, workers=WORKERS)
        x, arrays = jnp.asarray(expected), (jnp.asarray(matrices), jnp.asarray(offsets))
        state = qgenx.init(optimizer, x, workers=WORKERS)
        for t in range(ITERATIONS):
            each = [b @ expected + c for b, c in zip(matrices, offsets, strict=True)]
            expected = expected + rule.move(np.mean(each, 0))
            x, state = run(x, state, *arrays)
            np.testing.assert_allclose(
                x, expected, rtol=1e-12, atol=1e-12, err_msg=f"iteration {t + 1}"
            )


def test_it_is_the_leading_point_of_popovs_method():
    """W_{t+1} = W_t - lr v(X_t), X_{t+1} = W_{t+1} - lr v(X_t) from X_1 = W_1."""
    problem = qgenx.problems.bilinear(6, seed=1)
    optimizer = qgenx.optimistic(optax.sgd(0.3))
    w = x = problem.solution + 1.0
    y, state = x, optimizer.init(x)
    step = jax.jit(optimizer.update)
    for _ in range(ITERATIONS):
        v = problem.operator(x)
        w = w - 0.3 * v
        x = w - 0.3 * v
        move, state = step(problem.operator(y), state, y)
        y = optax.apply_updates(y, move)
    np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-5)


def test_from_the_second_step_on_it_has_optaxs_law():
    """Only the first step differs, by u_1: a double one against a single one."""
    ours, theirs = (
        qgenx.optimistic(optax.sgd(0.1)),
        optax.optimistic_gradient_descent(0.1),
    )
    x = jnp.zeros(3)
    states = ours.init(x), theirs.init(x)
    rng = np.random.default_rng(0)
    for t in range(3):
        vector = jnp.asarray(rng.normal(size=3), jnp.float32)
        mine, first = ours.update(vector, states[0], x)
        other, second = theirs.update(vector, states[1], x)
        states = first, second
        extra = -0.1 * vector if t == 0 else jnp.zeros(3)
        np.testing.assert_allclose(mine, other + extra, rtol=1e-6, atol=1e-7)


def test_few_bits_lose_nothing_of_the_last_move():
    """In bfloat16 2 u - u_{t-1} is rounded once, and the state keeps its dtypes."""
    x = jnp.ones(2, jnp.bfloat16)
    optimizer = qgenx.optimistic(optax.sgd(1.0))
    state = optimizer.init(x)
    assert state.last.dtype == jnp.float32
    first = jnp.array([0.3, 1.0078125], jnp.bfloat16)
    move, after = optimizer.update(first, state, x)
    assert move.dtype == jnp.bfloat16
    then = jnp.array([1.0078125, 0.30078125], jnp.bfloat16)
    move, _ = optimizer.update(then, after, x)
    once = (-2 * np.float32(then) + np.float32(first)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(move, once)
    # 2 u does not lose digits in bfloat16, but a sum held in it from before would
    assert (np.float32(after.last) == -np.float32(first)).all()
    assert jax.tree.map(lambda a: a.dtype, after) == jax.tree.map(
        lambda a: a.dtype, state
    )


def test_what_skips_is_refused():
    accumulated = optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()
    with pytest.raises(ValueError, match=r"base must hand on every vector"):
        qgenx.optimistic(accumulated).init(jnp.ones(2))


def test_errors():
    x = jnp.ones(2)
    optimizer = qgenx.optimistic(optax.sgd(0.1))
    state = optimizer.init(x)
    with pytest.raises(ValueError, match=r"base must be an optax.GradientTransf"):
        qgenx.optimistic(qgenx.extra_sgd(0.1))
    with pytest.raises(ValueError, match=r"base must be an optax.GradientTransf"):
        qgenx.optimistic(optax.sgd)
    with pytest.raises(ValueError, match=r"params must be given to the update"):
        optimizer.update(x, state)
    with pytest.raises(ValueError, match=r"state must be .*OptimisticState"):
        optimizer.update(x, optax.sgd(0.1).init(x), x)
    with pytest.raises(ValueError, match=r"updates must have the tree structure"):
        optimizer.update({"a": x}, state, x)
    with pytest.raises(ValueError, match=r"params.* must"):
        optimizer.init({"a": jnp.arange(3)})
