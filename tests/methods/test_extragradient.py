"""ExtraAdam and ExtraSGD against transcriptions in NumPy; any optax optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.usefixtures("compiled_plainly")

WORKERS, DIMENSION, ITERATIONS = 3, 10, 20


class NumpyAdam:
    """Adam as Kingma and Ba write it, one step per call."""

    def __init__(self, learning_rate, b1, b2, eps):
        self.settings = learning_rate, b1, b2, eps
        self.m = self.v = 0.0
        self.t = 0

    def move(self, g):
        learning_rate, b1, b2, eps = self.settings
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        m_hat, v_hat = self.m / (1 - b1**self.t), self.v / (1 - b2**self.t)
        return -learning_rate * m_hat / (np.sqrt(v_hat) + eps)


class NumpySgd:
    """SGD with a trace that takes in every vector."""

    def __init__(self, learning_rate, momentum):
        self.learning_rate, self.momentum, self.trace = learning_rate, momentum, 0.0

    def move(self, g):
        self.trace = g + self.momentum * self.trace
        return -self.learning_rate * self.trace


METHODS = {
    "extra_adam": (
        qgenx.extra_adam(0.05, b1=0.5, b2=0.9, eps=1e-8),
        lambda: NumpyAdam(0.05, 0.5, 0.9, 1e-8),
    ),
    "extra_sgd": (qgenx.extra_sgd(0.05), lambda: NumpySgd(0.05, 0.0)),
    "momentum": (qgenx.extra_sgd(0.02, momentum=0.9), lambda: NumpySgd(0.02, 0.9)),
}


@pytest.mark.quick
@pytest.mark.parametrize("mode", ["pair", "alternating"])
@pytest.mark.parametrize("method", METHODS)
def test_equals_transcription(method, mode):
    """x_half = x + u(mean v_k(x)), x <- x + u(mean v_k(x_half)), one shared state."""
    pair, make_base = METHODS[method]
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(WORKERS, DIMENSION, DIMENSION))
    offsets = rng.normal(size=(WORKERS, DIMENSION))
    x1 = rng.normal(size=DIMENSION)

    def mean_vector(x):
        return np.mean([b @ x + c for b, c in zip(matrices, offsets, strict=True)], 0)

    base, x, expected = make_base(), x1, []
    for _ in range(ITERATIONS):
        half = x + base.move(mean_vector(x))
        x = x + base.move(mean_vector(half))
        expected.append(x)

    with jax.enable_x64(True):
        pair = qgenx.chain(qgenx.quantized_mean(AXIS, None), pair)
        arrays = jnp.asarray(matrices), jnp.asarray(offsets)
        x = jnp.asarray(x1)
        if mode == "pair":
            step = qgenx.iterate(pair, lambda x, b, c: b @ x + c)
            run = qgenx.map_workers(step, AXIS, workers=WORKERS)
            state = qgenx.init(pair, x, workers=WORKERS)
            inputs = [jnp.repeat(a[:, None], 2, axis=1) for a in arrays]
            calls = 1
        else:
            optimizer = qgenx.alternating(pair)

            def call(x, state, b, c):
                delta, state = optimizer.update(b @ x + c, state, x)
                return optax.apply_updates(x, delta), state

            run = qgenx.map_workers(call, AXIS, workers=WORKERS)
            state = qgenx.init(optimizer, x, workers=WORKERS)
            inputs, calls = arrays, 2
        for t in range(ITERATIONS):
            for _ in range(calls):
                x, state = run(x, state, *inputs)
            np.testing.assert_allclose(
                x, expected[t], rtol=1e-12, atol=1e-12, err_msg=f"iteration {t + 1}"
            )


def test_any_optax_optimizer_converges_on_a_bilinear_game():
    """Where plain gradient descent-ascent diverges."""
    problem = qgenx.problems.bilinear(6, seed=1)
    pair = qgenx.extragradient(optax.chain(optax.trace(0.0), optax.scale(-0.5)))
    step = jax.jit(qgenx.iterate(pair, problem.operator))
    x = problem.solution + 1.0
    start = float(jnp.linalg.norm(x - problem.solution))
    state = pair.init(x)
    for _ in range(2000):
        x, state = step(x, state)
    assert float(jnp.linalg.norm(x - problem.solution)) < 0.2 * start
    y = problem.solution + 1.0
    for _ in range(200):
        y = y - 0.5 * problem.operator(y)
    assert float(jnp.linalg.norm(y - problem.solution)) > 2 * start


@pytest.mark.quick
def test_a_schedule_counts_half_steps():
    seen = []
    pair = qgenx.extra_sgd(lambda count: seen.append(count) or 0.1)
    x = jnp.ones(2)
    state = pair.init(x)
    delta, state = pair.extrapolation.update(x, state, x)
    _, state = pair.update.update(x, state, x + delta)
    assert [int(count) for count in seen] == [0, 1]


def test_state_shares_no_buffer_with_the_parameters():
    """Donating parameters and state together is the usual way to train."""
    pair = qgenx.extra_adam(0.1)
    optimizer = qgenx.alternating(pair)

    def call(x, state):
        delta, state = optimizer.update(x, state, x)
        return optax.apply_updates(x, delta), state

    run = jax.jit(call, donate_argnums=(0, 1))
    x = jnp.ones(1000)
    state = optimizer.init(x)
    for _ in range(4):
        x, state = run(x, state)
    assert np.isfinite(x).all()


@pytest.mark.quick
def test_dtypes_are_kept():
    for dtype in ("bfloat16", "float16", "float32"):
        pair = qgenx.extra_sgd(0.1)
        x = jnp.ones(5, dtype)
        x_next, _ = qgenx.iterate(pair, lambda x: x)(x, pair.init(x))
        assert x_next.dtype == dtype


@pytest.mark.quick
def test_default_settings_of_extra_adam():
    """Adam's own."""
    x, v = jnp.ones(2), jnp.array([1e-8, 2.0])  # the first shows eps
    pair, base = qgenx.extra_adam(0.1), optax.adam(0.1, b1=0.9, b2=0.999, eps=1e-8)
    half, state = pair.extrapolation.update(v, pair.init(x), x)
    first, base_state = base.update(v, base.init(x))
    np.testing.assert_array_equal(half, first)
    delta, _ = pair.update.update(-3 * v, state, x + half)
    second, _ = base.update(-3 * v, base_state)
    np.testing.assert_allclose(x + half + delta, x + second, rtol=1e-6)
