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
