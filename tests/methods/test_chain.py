"""chain, alternating and iterate: what they accept, refuse and hand on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.usefixtures("compiled_plainly")


def test_plain_transformations_see_every_oracle_vector():
    """Clipping before the pair equals clipping the vectors by hand, with one state."""
    clipped = qgenx.chain(optax.clip_by_global_norm(0.3), qgenx.extra_sgd(1.0))
    rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])

    def clip(v):
        return v * jnp.minimum(1, 0.3 / jnp.linalg.norm(v))

    x, y = jnp.ones(2), jnp.ones(2)
    step, state = qgenx.iterate(clipped, lambda x: rotation @ x), clipped.init(x)
    plain = qgenx.extra_sgd(1.0)
    by_hand, other = qgenx.iterate(plain, lambda x: clip(rotation @ x)), plain.init(y)
    for _ in range(5):
        x, state = step(x, state)
        y, other = by_hand(y, other)
    np.testing.assert_allclose(x, y, rtol=1e-6)


def test_plain_transformations_pass_an_oracle_free_extrapolation_by():
    """A plain transformation's state advances once per vector, not per half-step."""
    pair = qgenx.chain(
        optax.scale_by_schedule(lambda count: 1.0 + count),
        qgenx.q_genx(AXIS, None, variant="optimistic", step_size=0.1),
    )
    step = qgenx.map_workers(qgenx.iterate(pair, lambda x: x), AXIS, workers=2)
    x = jnp.ones(3)
    state = qgenx.init(pair, x, workers=2)
    for _ in range(4):
        x, state = step(x, state)
    assert int(state.inner[0].count) == 4


@pytest.mark.parametrize(
    "transformations",
    [
        (optax.clip(1.0),),
        (qgenx.extra_sgd(0.1), optax.clip(1.0)),
        (qgenx.extra_sgd(0.1), qgenx.extra_sgd(0.1)),
        (qgenx.ema(0.5), qgenx.extra_sgd(0.1)),
        (qgenx.extra_sgd(0.1), qgenx.ema(0.5), optax.clip(1.0)),
        (),
    ],
    ids=["no pair", "plain after", "two pairs", "observer first", "plain last", "none"],
)
def test_chains_that_would_be_wrong_are_refused(transformations):
    with pytest.raises(ValueError, match=r"transformations must be plain optax"):
        qgenx.chain(*transformations)


def test_exchanging_twice_is_refused():
    with pytest.raises(ValueError, match=r"must exchange once, by .*, got 2 exchang"):
        qgenx.chain(qgenx.quantized_mean(AXIS, None), qgenx.q_genx(AXIS, None))


def test_a_pair_where_a_transformation_is_wanted_says_so():
    optimizer = optax.chain(optax.clip(1.0), qgenx.extra_sgd(0.1))
    x = jnp.ones(2)
    with pytest.raises(TypeError, match=r"wrap it in qgenx_jax.alternating\(pair\)"):
        optimizer.update(x, optimizer.init(x), x)


def test_other_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match=r"transformation 0 must be an optax"):
        qgenx.chain(qgenx.extra_sgd)
    with pytest.raises(ValueError, match=r"pair must be an extra-gradient pair"):
        qgenx.alternating(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"pair must be an extra-gradient pair"):
        qgenx.iterate(qgenx.ema(0.5), lambda x: x)
    mixed = qgenx.ExtragradientPair(
        qgenx.extra_sgd(0.1).extrapolation, qgenx.extra_sgd(0.2).update
    )
    with pytest.raises(ValueError, match=r"one step function behind both sides"):
        qgenx.alternating(mixed)
    optimizer = qgenx.alternating(qgenx.extra_sgd(0.1))
    x = jnp.ones(2)
    with pytest.raises(ValueError, match=r"params must be given"):
        optimizer.update(x, optimizer.init(x))
    step = qgenx.iterate(qgenx.extra_sgd(0.1), lambda x, b: x)
    with pytest.raises(ValueError, match=r"leading axis of length 2, one entry per"):
        step(x, qgenx.extra_sgd(0.1).init(x), jnp.zeros((3, 4)))


def test_iterate_gives_each_oracle_call_its_own_batch_and_its_aux():
    pair = qgenx.extra_sgd(0.5)
    step = qgenx.iterate(pair, lambda x, b: (x - b, {"seen": b.sum()}), has_aux=True)
    x = jnp.zeros(2)
    batches = jnp.array([[1.0, 1.0], [2.0, 4.0]])
    x, _, aux = step(x, pair.init(x), batches)
    # half = 0 - 0.5 (0 - 1) = 0.5;  x = 0 - 0.5 (0.5 - (2, 4)) = (0.75, 1.75)
    np.testing.assert_allclose(x, [0.75, 1.75])
    np.testing.assert_array_equal(aux["seen"], [2, 6])


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
