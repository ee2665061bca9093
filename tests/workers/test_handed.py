"""Frozen leaves pass from step to step, and refusals say what each cause wants."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

pytestmark = [pytest.mark.quick, pytest.mark.plainly]

W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
C = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4)), jnp.float32)
PLACES = {"shard_map": {"mesh": mesh_of(2)}, "vmap": {"workers": 2}}
STILL = {
    "set_to_zero": optax.set_to_zero(),
    "zeros": optax.stateless(lambda u, _: jax.tree.map(jnp.zeros_like, u)),
    "constants": optax.stateless(
        lambda u, _: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), u)
    ),
}


def ran(step, params, state, place):
    run = qgenx.map_workers(step, AXIS, **PLACES[place])
    return run(params, state, C)


def laid_out(optimizer, params, place):
    mesh = PLACES[place].get("mesh")
    if mesh is None:
        return qgenx.init(optimizer, params, workers=2)
    return qgenx.init(optimizer, params, mesh, AXIS)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("still", STILL)
def test_a_frozen_leaf_passes_and_the_rest_moves(still, place):
    moving = optax.chain(qgenx.quantized_mean(AXIS, None), optax.sgd(0.5))
    label = {"base": "rests", "head": "moves"}
    optimizer = optax.partition({"moves": moving, "rests": STILL[still]}, label)

    def step(params, state, c):
        own = jax.tree.map(lambda x: qgenx.local_params(x, AXIS) - c, params)
        moves, state = optimizer.update(own, state, params)
        return optax.apply_updates(params, moves), state

    params = {"base": W, "head": W}
    found, _ = ran(step, params, laid_out(optimizer, params, place), place)
    np.testing.assert_array_equal(found["base"], W)
    np.testing.assert_allclose(found["head"], W - 0.5 * (W - C.mean(axis=0)), 1e-6)


@pytest.mark.parametrize("place", PLACES)
def test_a_state_that_is_put_back_to_a_constant_passes(place):
    def step(params, state, c):
        return params, {"count": state["count"] + 1, "sum": jnp.zeros_like(c)}

    state = {"count": jnp.int32(4), "sum": jnp.ones((3, 4))}
    _, after = ran(step, W, state, place)
    assert int(after["count"]) == 5
    np.testing.assert_array_equal(after["sum"], 0)


DIFFERS = {
    "a gradient of one's own": (
        lambda p, s, c: (p - c, s),
        r"the step's params must be equal .*if it is trained, exchange its gradient",
    ),
    "a running statistic": (
        lambda p, s, c: (p, {"mean": s["mean"] + c.mean(), "scale": s["scale"]}),
        r"leaf \['mean'\] of the step's state .* averaged by jax\.lax\.pmean\(..., 'da",
    ),
    "a loss scale": (
        lambda p, s, c: (
            p,
            {"mean": s["mean"], "scale": jnp.where(jnp.all(c < 1), 2, s["scale"])},
        ),
        r"leaf \['scale'\] of the step's state .* tests a gradient is given the exchan",
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("step", "message"), [pytest.param(*row, id=name) for name, row in DIFFERS.items()]
)
def test_each_cause_of_a_difference_has_its_way_out(step, message, place):
    state = {"mean": jnp.float32(0), "scale": jnp.float32(1)}
    with pytest.raises(ValueError, match=message):
        ran(step, W, state, place)


def test_zeros_of_a_workers_own_are_told_by_vmap_what_to_do():
    """On a mesh the step's program says that nothing is added; lanes of vmap cannot."""

    def step(params, state, c):
        return params + jnp.where(jnp.isfinite(c), 0.0, 0.0), state

    np.testing.assert_array_equal(ran(step, W, (), "shard_map")[0], W)
    with pytest.raises(ValueError, match=r"step must return .*optax\.set_to_zero"):
        ran(step, W, (), "vmap")


@pytest.mark.parametrize("place", PLACES)
def test_zero_times_what_may_be_nan_is_not_taken_for_zero(place):
    with pytest.raises(ValueError, match="the step's params must be equal on all"):
        ran(lambda params, state, c: (params + 0.0 * c, state), W, (), place)


def test_a_branch_by_a_workers_own_gradient_is_told_where_it_belongs():
    optimizer = optax.apply_if_finite(
        optax.chain(qgenx.quantized_mean(AXIS, None), optax.sgd(0.5)), 2
    )

    def step(params, state, c):
        own = qgenx.local_params(params, AXIS) - c
        moves, state = optimizer.update(own, state, params)
        return optax.apply_updates(params, moves), state

    message = r"must decide alike on all workers .*after quantized_mean, not around it"
    state = laid_out(optimizer, W, "shard_map")
    with pytest.raises(ValueError, match=message):
        ran(step, W, state, "shard_map")


def test_another_type_error_of_a_cond_is_left_as_it_is():
    def step(params, state, c):
        del c
        one = lax.cond(state > 0, lambda: jnp.zeros(3), lambda: jnp.zeros(3, jnp.int32))
        return params, state + one[0]

    with pytest.raises(TypeError, match="must have equal"):
        ran(step, W, jnp.float32(0), "shard_map")


ONE_KEY = jax.random.key(0)
INPUTS = {
    "a number": (0.5, r"close over what is the same .*jnp\.full\(2, x\)"),
    "a key": (ONE_KEY, r"its own key: jax\.random\.split\(key, 2\)"),
    "a raw key": (
        jax.random.key_data(ONE_KEY)[None].repeat(3, 0),
        r"reshape a global batch",
    ),
    "a batch": (jnp.zeros((6, 3)), r"reshape a global batch \(K \* b, \.\.\.\)"),
}


@pytest.mark.parametrize("given", INPUTS)
def test_an_input_that_is_not_one_for_each_is_told_what_to_do(given):
    value, message = INPUTS[given]
    run = qgenx.map_workers(lambda p, s, x: (p, s), AXIS, workers=2)
    with pytest.raises(ValueError, match=rf"leaf \[0\] of the inputs must .*{message}"):
        run(W, (), value)
