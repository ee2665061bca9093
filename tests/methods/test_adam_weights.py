"""The weights of Adam's errors, from any state with Adam's in it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]
PARAMS = {"a": jnp.ones(3), "b": {"c": jnp.ones((2, 2))}}
VECTOR = jax.tree.map(lambda x: jnp.arange(1.0, 1 + x.size).reshape(x.shape), PARAMS)


def state_of(optimizer, calls=3):
    state = optimizer.init(PARAMS)
    for _ in range(calls):
        _, state = optimizer.update(VECTOR, state, PARAMS)
    return state


def assert_weights(found, eps):
    """Of equal vectors the corrected second moment is their square."""
    assert jax.tree.structure(found) == jax.tree.structure(PARAMS)
    for w, v in zip(jax.tree.leaves(found), jax.tree.leaves(VECTOR), strict=True):
        np.testing.assert_allclose(w, 1 / (v + eps), rtol=1e-5)


def players():
    label = {"a": "x", "b": "y"}
    return optax.partition(
        {"x": optax.adam(1e-3, b2=0.9), "y": optax.adam(2e-3, b2=0.9)}, label
    )


STATES = {
    "adam": lambda: optax.adam(1e-3, b2=0.9),
    "a chain": lambda: optax.chain(optax.clip(9.0), optax.adamw(1e-3, b2=0.9)),
    "a pair": lambda: qgenx.alternating(qgenx.extra_adam(1e-3, b2=0.9)),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(1e-3, b2=0.9),
    "two players": players,
}


@pytest.mark.parametrize("name", STATES)
def test_it_is_found_in_any_state(name):
    state = state_of(STATES[name]())
    assert_weights(qgenx.adam_weights(state, b2=0.9), 1e-8)
    assert_weights(qgenx.adam_weights(state, b2=0.9, eps=0.5), 0.5)


def test_a_plan_takes_them():
    vector = {"a": jnp.linspace(1, 2, 3000), "b": {"c": 100 * jnp.ones((50, 40))}}
    weights = qgenx.adam_weights(
        optax.adam(1e-3).update(vector, optax.adam(1e-3).init(vector))[1]
    )
    plan = qgenx.plan_bits(vector, bits_per_coordinate=4.1, weights=weights)
    assert plan.energy == pytest.approx(5000, rel=1e-4)


def one_player():
    return optax.partition(
        {"x": optax.adam(1e-3), "y": optax.sgd(1e-3)}, {"a": "x", "b": "y"}
    )


REFUSED = {
    "none": (lambda: state_of(optax.sgd(1.0)), {}, r"must contain an .*got 0 of them"),
    "two": (
        lambda: state_of(optax.chain(optax.adam(1e-3), optax.adam(1e-3))),
        {},
        r"exactly one optax.ScaleByAdamState",
    ),
    "not all": (lambda: state_of(one_player()), {}, r"knows leaf \['b'\].* of the par"),
    "no step": (lambda: state_of(optax.adam(1e-3), 0), {}, r"after a step at least"),
    "b2": (lambda: state_of(optax.adam(1e-3)), {"b2": 1.0}, r"b2 must be a number in"),
    "eps": (lambda: state_of(optax.adam(1e-3)), {"eps": -1.0}, r"eps must be a finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_states_that_do_not_tell_are_refused(case):
    state, settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        qgenx.adam_weights(state(), **settings)


def test_a_traced_state_is_refused():
    state = state_of(optax.adam(1e-3))
    with pytest.raises(ValueError, match=r"state must be known, got a traced one"):
        jax.jit(qgenx.adam_weights)(state)
