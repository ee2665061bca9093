"""States of Q-GenX: dtypes, step sizes of one's own, and states that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, within_5_sigma

pytestmark = pytest.mark.usefixtures("compiled_plainly")

VARIANTS = ["dual_averaging", "dual_extrapolation", "optimistic"]


def over_workers(run, workers=2):
    """run(k) on every worker k, worker 0's results."""
    mapped = jax.jit(jax.vmap(run, axis_name=AXIS))
    return jax.tree.map(lambda x: x[0], mapped(jnp.arange(workers)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dtypes_of_parameters_and_of_every_state_leaf(variant, dtype):
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), variant=variant)
    optimizer = qgenx.alternating(pair)
    x = jnp.ones(6, dtype)
    before = jax.eval_shape(optimizer.init, x)

    def run(_):
        x, state = jnp.ones(6, dtype), optimizer.init(jnp.ones(6, dtype))
        for _ in range(2):
            delta, state = optimizer.update(x, state, x)
            x = optax.apply_updates(x, delta)
        return x, state

    x_end, after = over_workers(run)
    assert x_end.dtype == dtype
    kinds = [leaf.dtype for leaf in jax.tree.leaves(before)]
    assert kinds == [leaf.dtype for leaf in jax.tree.leaves(after)]
    assert before.inner.dual.dtype == jnp.float32
    assert before.inner.anchor.dtype == dtype


def test_dual_vectors_in_bfloat16_are_averaged_without_bias():
    """Y is the sum of decoded vectors, which bfloat16 could not hold."""
    workers, draws = 4, 2000
    pair = qgenx.q_genx(
        AXIS, qgenx.uniform(8), variant="dual_averaging", step_size=1e-6
    )
    vector = jnp.array([1.7, 0.879, -0.31], jnp.bfloat16)

    def run(_):
        def one(state, _):
            _, state = pair.extrapolation.update(None, state, x)
            _, state = pair.update.update(vector, state, x)
            return state, None

        x = jnp.zeros(3, jnp.bfloat16)
        return lax.scan(one, pair.init(x), None, length=draws)[0].inner.dual

    dual = np.asarray(over_workers(run, workers), np.float64)
    step = 1.7 / 127
    error = step / 2 / np.sqrt(workers * draws)
    expected = -np.asarray(vector, np.float64)
    within_5_sigma(dual / draws, expected, error, "mean of the dual vectors")


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


def test_states_of_another_configuration_are_refused_by_field():
    x = jnp.ones(3)
    pairs = {v: qgenx.q_genx(AXIS, None, variant=v) for v in VARIANTS}
    pairs["constant"] = qgenx.q_genx(
        AXIS, None, variant="dual_averaging", step_size=0.1
    )
    expected = {
        ("optimistic", "dual_extrapolation"): "state.extrapolation must be None",
        ("dual_extrapolation", "optimistic"): "state.extrapolation must be a tree",
        ("dual_extrapolation", "dual_averaging"): "state.per_worker must be None",
        ("dual_averaging", "constant"): "state.step_size must be ScheduledStepSize",
    }
    for (made, used), message in expected.items():
        state = pairs[made].init(x)
        with pytest.raises(ValueError, match=message):
            pairs[used].extrapolation.update(x, state, x)
    inner = qgenx.extra_sgd(0.1).init(x)
    with pytest.raises(ValueError, match="state must be a QGenXState, got Extragrad"):
        pairs["optimistic"].extrapolation.update(None, inner, x)


def test_per_worker_leaves_of_all_workers_inside_one_are_refused():
    """A state of map_workers, used in a hand-made vmap without its axis mapped."""
    pair = qgenx.q_genx(AXIS, None, variant="optimistic")
    x = jnp.ones(3)
    state = qgenx.init(pair, x, workers=4)
    with pytest.raises(ValueError, match=r"state.per_worker must have a leading axis"):
        pair.extrapolation.update(None, state, x)


def test_no_leaf_to_quantize_is_said_at_init():
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), exact=qgenx.small_leaves)
    with pytest.raises(ValueError, match=r"exact must leave .* at least one leaf"):
        pair.init(jnp.ones(3))


def test_a_sum_of_squares_that_overflows_is_not_a_step_size_of_zero():
    """Else one vector of norm 1.8e19 would set parameters to X_1 for ever, silently."""
    rule = qgenx.adaptive_step_size(1.0)
    state = rule.update(rule.init(), jnp.float32(3e38))
    assert 0 < float(rule.value(state, 2)) < 1e-18
    state = rule.update(state, jnp.float32(3e38))
    assert np.isnan(rule.value(state, 2))
