"""`alternating`: a pair as an optax optimizer, that takes a vector at a time."""

import jax
import jax.numpy as jnp
import optax
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


def test_alternating_drives_a_scan_and_a_cond():
    """The state's structure and dtypes do not change from call to call."""
    optimizer = qgenx.alternating(qgenx.chain(qgenx.extra_adam(0.1), qgenx.ema(0.9)))
    x = {"a": jnp.ones(3), "b": jnp.ones((), jnp.bfloat16)}

    def call(carry, skip):
        def go(carry):
            x, state = carry
            updates, state = optimizer.update(x, state, x)
            return optax.apply_updates(x, updates), state

        return jax.lax.cond(skip, lambda carry: carry, go, carry), None

    carry = x, optimizer.init(x)
    skips = jnp.array([False, True, False, False])
    (x_end, state), _ = jax.lax.scan(call, carry, skips)
    assert int(state.half_step) == 1
    assert x_end["b"].dtype == jnp.bfloat16
    assert float(x_end["a"][0]) < 1


def rates(count):
    return 10.0 ** -jnp.asarray(count, jnp.float32)


def scheduled(name):
    """A schedule in each place where one may stand, around or inside of a pair."""
    if name == "injected around":
        return optax.inject_hyperparams(
            lambda rate: qgenx.alternating(qgenx.extra_sgd(rate))
        )(rates)
    pair = {
        "in the base": qgenx.extra_sgd(rates),
        "before the pair": qgenx.chain(
            optax.scale_by_schedule(rates), qgenx.extra_sgd(1.0)
        ),
        "of dual extrapolation": qgenx.q_genx(
            None,
            None,
            variant="dual_extrapolation",
            step_size=qgenx.scheduled_step_size(rates),
        ),
    }[name]
    return qgenx.alternating(pair)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # X_{t+1/2} = X_t - r and X_{t+1} = X_t - r', r of half-steps 0, 1, 2, 3
        ("injected around", [-1, -0.1, -0.11, -0.101]),
        ("in the base", [-1, -0.1, -0.11, -0.101]),
        ("before the pair", [-1, -0.1, -0.11, -0.101]),
        # X_{t+1} = gamma_{t+1} Y_{t+1}, Y_2 = -1, Y_3 = -2; gamma of iterations 0, 1, 2
        ("of dual extrapolation", [-1, -0.1, -0.2, -0.02]),
    ],
)
def test_what_a_schedule_counts(name, expected):
    """Half-steps but for a schedule of `q_genx`, which counts iterations."""
    optimizer = scheduled(name)
    x = jnp.zeros(1)
    state = optimizer.init(x)
    seen = []
    for _ in range(4):
        delta, state = optimizer.update(jnp.ones(1), state, x)
        x = x + delta
        seen.append(float(x[0]))
    assert seen == pytest.approx(expected, rel=1e-5)


@pytest.mark.quick
def test_traffic_is_that_of_the_compiled_calls():
    """Two calls of dual extrapolation, in each a number; one of the optimistic."""
    x = jnp.zeros(1000)
    for variant, calls in (("dual_extrapolation", 2), ("optimistic", 1)):
        pair = qgenx.q_genx("data", qgenx.uniform(8), variant=variant)
        optimizer = qgenx.alternating(qgenx.chain(pair, qgenx.ergodic_average()))
        found = optimizer.traffic(x, 3)
        one = optimizer.exchange.traffic(x, 3, scalar_bytes=4)
        assert found.sent_bytes == calls * one.sent_bytes
        assert found.exchanges == calls
    assert not hasattr(qgenx.alternating(qgenx.extra_sgd(0.1)), "traffic")
