"""Step sizes: adaptive, scheduled, of one's own, and those that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, over_workers, traced

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

X = np.ones(3, np.float32)


def test_the_adaptive_step_size_begins_at_the_number_of_workers():
    rule = qgenx.adaptive_step_size()
    assert float(rule.value(rule.init(), 3)) == 3.0
    assert float(rule.value(rule.update(rule.init(), 3.0), 4)) == 2.0


def test_whole_numbers_may_be_large():
    rule = qgenx.adaptive_step_size(10**10, 10**20)
    assert float(rule.value(rule.init(), 3)) == pytest.approx(3.0)


def test_another_initial_sum_is_the_papers_rule_on_a_scaled_operator():
    """c and A move as 1 and A c^(-1/2) do, with the same gamma0."""
    problem = qgenx.problems.bilinear(4, seed=0)
    x = problem.solution + 1.0
    points = []
    for c, scale in ((100.0, 1.0), (1.0, 0.1)):
        pair = qgenx.q_genx(None, None, gamma0=0.5, initial_sum=c)

        def operator(x, scale=scale):
            return scale * 10 * problem.operator(x)

        step, state, at = jax.jit(qgenx.iterate(pair, operator)), pair.init(x), x
        for _ in range(20):
            at, state = step(at, state)
        points.append(at)
    assert float(jnp.abs(points[0] - x).max()) > 0.1
    np.testing.assert_allclose(*points, rtol=1e-4, atol=1e-5)


def test_a_sum_of_squares_that_overflows_is_not_a_step_size_of_zero():
    """Else one vector of norm 1.8e19 would set parameters to X_1 for ever, silently."""
    rule = qgenx.adaptive_step_size(1.0)
    state = rule.update(rule.init(), jnp.float32(3e38))
    assert 0 < float(rule.value(state, 2)) < 1e-18
    state = rule.update(state, jnp.float32(3e38))
    assert np.isnan(rule.value(state, 2))


@pytest.mark.parametrize("needs_sum", [True, False])
def test_a_step_size_of_ones_own(needs_sum):
    """Three pure functions; values may be plain numbers, and the sum may be unused."""
    rule = qgenx.StepSize(
        lambda: jnp.zeros(()),
        lambda state, workers: 0.5,
        lambda state, sum_of_squares: state + sum_of_squares,
        needs_sum,
    )
    pair = qgenx.q_genx(AXIS, None, variant="dual_averaging", step_size=rule)
    x = jnp.array([3.0, 4.0])

    def run(_):
        state = pair.init(x)
        _, state = pair.extrapolation.update(None, state, x)
        delta, state = pair.update.update(x, state, x)
        return delta, state.inner.step_size

    delta, total = over_workers(run)
    np.testing.assert_allclose(delta, [-1.5, -2.0], rtol=1e-6)
    assert total == (50.0 if needs_sum else 0.0)


def test_hyperparameters_can_be_injected():
    def make(gamma0):
        return qgenx.alternating(
            qgenx.q_genx(AXIS, None, variant="optimistic", gamma0=gamma0)
        )

    x = jnp.array([3.0, 4.0])

    def move(gamma0):
        optimizer = optax.inject_hyperparams(make)(gamma0=0.5)

        def run(_):
            state = optimizer.init(x)
            state.hyperparams["gamma0"] = jnp.asarray(gamma0)
            return optimizer.update(x, state, x)[0]

        return over_workers(run)

    np.testing.assert_allclose(move(0.1), move(0.2) / 2, rtol=1e-5)
    by_hand = over_workers(lambda _: make(0.2).update(x, make(0.2).init(x), x)[0])
    np.testing.assert_allclose(move(0.2), by_hand, rtol=1e-5)


def test_a_schedule_that_turns_negative_in_a_compiled_program_gives_nan():
    """A step up the vector would be silent."""
    rule = qgenx.scheduled_step_size(lambda count: 0.5 - count)
    pair = qgenx.q_genx(AXIS, None, step_size=rule, variant="dual_averaging")
    step = qgenx.map_workers(qgenx.iterate(pair, lambda x: x), AXIS, workers=2)
    x, _ = step(X, qgenx.init(pair, X, workers=2))
    assert np.isnan(x).all(), x  # gamma_2 = schedule(1) < 0
    half = qgenx.extra_sgd(lambda count: 0.5 - count)
    x, _ = jax.jit(qgenx.iterate(half, lambda x: x))(X, half.init(X))
    assert np.isnan(x).all(), x


def q_genx_step(**options):
    pair = qgenx.q_genx(AXIS, None, variant="optimistic", **options)
    step = qgenx.iterate(pair, lambda x: x)
    return traced(lambda: step(X, pair.init(X)))


POSITIVE = "must be a positive, finite number, got "
GAMMA = "step_size must give one real number that is not negative, got "

ROWS = {
    "gamma0 0": (lambda: qgenx.adaptive_step_size(0), "gamma0 " + POSITIVE + "0: the"),
    "gamma0 NaN": (
        lambda: qgenx.q_genx(AXIS, None, gamma0=np.nan),
        "gamma0 " + POSITIVE + "nan: the paper",
    ),
    "initial_sum 0": (
        lambda: qgenx.adaptive_step_size(1.0, 0.0),
        "initial_sum " + POSITIVE + "0.0: the paper uses 1.0",
    ),
    "initial_sum with a step size": (
        lambda: qgenx.q_genx(AXIS, None, initial_sum=2.0, step_size=0.1),
        "initial_sum must be left out where step_size .*, got 2.0: pass step_size=",
    ),
    "gamma0 traced, a vector": (
        lambda: jax.eval_shape(lambda g: qgenx.adaptive_step_size(g).init(), X),
        "gamma0 " + POSITIVE + "JitTracer.*: the paper uses",
    ),
    "gamma0 with a step size": (
        lambda: qgenx.q_genx(AXIS, None, gamma0=2.0, step_size=0.1),
        "gamma0 must be left out where step_size .*, got 2.0: pass step_size=",
    ),
    "step size negative": (
        lambda: qgenx.q_genx(AXIS, None, step_size=-1.0),
        "step_size " + POSITIVE + "-1.0: or pass an optax schedule",
    ),
    "step size in text": (
        lambda: qgenx.scheduled_step_size("0.1"),
        "step_size " + POSITIVE + "'0.1': or pass an optax schedule",
    ),
    "step size is a factory": (
        lambda: qgenx.q_genx(AXIS, None, step_size=qgenx.adaptive_step_size),
        "step_size must be a number, .*, got <function adaptive.*: call the factory",
    ),
    "step size without functions": (
        lambda: qgenx.q_genx(AXIS, None, step_size=qgenx.StepSize(None, None, None)),
        r"step_size\.init must be a function .*, got None: give all three",
    ),
    "schedule gives a vector, which would scale coordinates": (
        lambda: q_genx_step(step_size=lambda count: X),
        GAMMA + r"(array|JitTracer|Array).*: a positive one",
    ),
    "schedule gives a complex number": (
        lambda: q_genx_step(step_size=lambda count: np.complex64(1j)),
        GAMMA + ".*: a positive one",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
