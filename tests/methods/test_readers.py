"""Reading X_t from states; test_q_genx.py reads it along whole trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick


def test_extragradient_in_a_chain_inside_other_states():
    pair = qgenx.chain(optax.clip(9.0), qgenx.extra_sgd(0.5), qgenx.ema(0.9))
    optimizer = optax.inject_hyperparams(
        lambda scale: optax.chain(optax.scale(scale), qgenx.alternating(pair))
    )(scale=1.0)
    x = jnp.array([1.0, 2.0])
    state = optimizer.init(x)
    starts = []
    for _ in range(4):
        starts.append(np.asarray(qgenx.x_t(state, x)))
        delta, state = optimizer.update(x, state, x)
        x = x + delta
    # X_{t+1} = X_t - 0.5 X_{t+1/2} = X_t - 0.5 (X_t - 0.5 X_t) = 0.75 X_t
    np.testing.assert_allclose(starts, np.outer([1, 1, 0.75, 0.75], [1.0, 2.0]))


def test_the_state_of_a_pair():
    pair = qgenx.extra_sgd(0.5)
    x = jnp.array([1.0, 2.0])
    state = pair.init(x)
    np.testing.assert_array_equal(qgenx.x_t(state, x), x)
    delta, state = pair.extrapolation.update(x, state, x)
    np.testing.assert_array_equal(qgenx.x_t(state, x + delta), x)


def test_the_leading_point_where_it_is():
    """X_{t+1/2} = X_t - 0.5 X_t between the half-steps; else it is refused, or NaN."""
    optimizer = qgenx.alternating(qgenx.extra_sgd(0.5))
    x = jnp.array([1.0, 2.0])
    state = optimizer.init(x)
    before = r"must be that between an extrapolation and its update.* one call earlier"
    with pytest.raises(ValueError, match=before):
        qgenx.x_half(state, x)
    read = jax.jit(qgenx.x_half)
    assert np.isnan(read(state, x)).all()
    delta, state = optimizer.update(x, state, x)
    x = x + delta
    np.testing.assert_array_equal(qgenx.x_half(state, x), [0.5, 1.0])
    np.testing.assert_array_equal(read(state, x), [0.5, 1.0])
    _, state = optimizer.update(x, state, x)
    with pytest.raises(ValueError, match=before):
        qgenx.x_half(state, x)


def test_states_without_a_pair_are_refused():
    x = jnp.ones(2)
    with pytest.raises(ValueError, match=r"exactly one QGenXState or Extra.*got 0 of"):
        qgenx.x_t(optax.adam(0.1).init(x), x)
    with pytest.raises(ValueError, match=r"must say which half-step comes next"):
        qgenx.x_t(qgenx.extra_sgd(0.1).init(x).inner, x)


HALF_HIDDEN = {"head": jnp.array([1.0, 2.0]), "base": {"w": jnp.array([3.0])}}


def frozen(pair):
    return optax.partition(
        {"moves": qgenx.alternating(pair), "rests": optax.set_to_zero()},
        {"head": "moves", "base": "rests"},
    )


@pytest.mark.parametrize("guarded", [False, True])
def test_a_frozen_part_is_where_the_parameters_are(guarded):
    """X_{t+1} = 0.75 X_t of the head, as above; the base rests, and is not averaged."""
    pair = qgenx.chain(qgenx.extra_sgd(0.5), qgenx.ema(0.5), qgenx.ergodic_average())
    optimizer = frozen(qgenx.skip_not_finite(pair) if guarded else pair)
    x, start = HALF_HIDDEN, np.array([1.0, 2.0])
    state = optimizer.init(x)
    starts = []
    for call in range(3):
        assert jax.tree.structure(qgenx.x_t(state, x)) == jax.tree.structure(x)
        starts.append(np.asarray(qgenx.x_t(state, x)["head"]))
        np.testing.assert_array_equal(qgenx.x_t(state, x)["base"]["w"], [3.0])
        if call == 1:
            half = qgenx.x_half(state, x)
            np.testing.assert_allclose(half["head"], 0.5 * start)
            np.testing.assert_array_equal(half["base"]["w"], [3.0])
        delta, state = optimizer.update(x, state, x)
        x = optax.apply_updates(x, delta)
    np.testing.assert_allclose(starts, np.outer([1, 1, 0.75], start))
    # seen so far: X_1, X_2 = 0.75 X_1; and X_{1+1/2} = 0.5 X_1, X_{2+1/2} = 0.375 X_1
    for read, factor in (
        (qgenx.ema_params, 0.875),
        (qgenx.ergodic_average_params, 0.4375),
    ):
        np.testing.assert_allclose(read(state, x)["head"], factor * start)
        np.testing.assert_array_equal(read(state, x)["base"]["w"], [3.0])
        assert isinstance(read(state)["base"], optax.MaskedNode)
    nowhere = jax.jit(qgenx.x_half)(optimizer.init(x), x)
    assert np.isnan(nowhere["head"]).all()
    np.testing.assert_array_equal(nowhere["base"]["w"], [3.0])


def test_a_pair_for_each_player():
    """X_{t+1/2} = X_t - gamma X_t, with a gamma of each, of which one is guarded."""
    pair = qgenx.chain(qgenx.extra_sgd(0.5), qgenx.ema(0.5))
    guarded = qgenx.chain(qgenx.extra_sgd(0.25), qgenx.ema(0.5))
    optimizer = optax.partition(
        {
            "one": qgenx.alternating(pair),
            "two": qgenx.alternating(qgenx.skip_not_finite(guarded)),
        },
        {"head": "one", "base": "two"},
    )
    x = HALF_HIDDEN
    state = optimizer.init(x)
    delta, state = optimizer.update(x, state, x)
    half = optax.apply_updates(x, delta)
    for leaf, other in zip(
        jax.tree.leaves(qgenx.x_t(state, half)), jax.tree.leaves(x), strict=True
    ):
        np.testing.assert_array_equal(leaf, other)
    np.testing.assert_array_equal(qgenx.x_half(state, half)["base"]["w"], [2.25])
    np.testing.assert_array_equal(qgenx.ema_params(state)["head"], [1.0, 2.0])
    np.testing.assert_array_equal(qgenx.ema_params(state, x)["base"]["w"], [3.0])
    twice = (state, state)
    with pytest.raises(ValueError, match=r"exactly one QGenXState.*2 of them that kno"):
        qgenx.x_t(twice, half)
    with pytest.raises(ValueError, match=r"exactly one EmaState.*2 of them that know"):
        qgenx.ema_params(twice)
