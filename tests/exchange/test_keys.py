"""Keys in states: plain words that every tool takes, of any generator."""

import copy
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of, vectors

plainly = pytest.mark.plainly

PARAMS = {"w": jnp.ones((40, 40))}


def state_of(key=0):
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4), key=key)
    return optax.chain(mean, optax.adam(1e-3)).init(PARAMS)


def cast(state):
    return optax.tree.cast(state, jnp.bfloat16)


def saved_by_numpy(state):
    np.savez("/dev/null", *jax.tree.leaves(jax.tree.map(np.asarray, state)))


def as_flax_bytes(state):
    serialization = pytest.importorskip("flax.serialization")
    back = serialization.from_bytes(state, serialization.to_bytes(state))
    chex.assert_trees_all_equal(back, state)


def replicated_by_flax(state):
    return pytest.importorskip("flax.jax_utils").replicate(state)


TOOLS = {
    "broadcast_one_to_all": multihost_utils.broadcast_one_to_all,
    "process_allgather": multihost_utils.process_allgather,
    "assert_equal": lambda state: multihost_utils.assert_equal(state, "state"),
    "optax.tree.norm": optax.tree.norm,
    "optax.tree.cast": cast,
    "numpy.savez": saved_by_numpy,
    "chex.assert_trees_all_close": lambda s: chex.assert_trees_all_close(s, s),
    "flax bytes": as_flax_bytes,
    "flax replicate": replicated_by_flax,
    "device_get": jax.device_get,
    "pickle": lambda state: pickle.loads(pickle.dumps(state)),
    "deepcopy": copy.deepcopy,
}
KEYS = {
    "default": lambda: 0,
    "raw": lambda: jax.random.PRNGKey(4),
    "typed": lambda: jax.random.key(4),
    "rbg": lambda: jax.random.key(4, impl="rbg"),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("tool", TOOLS)
def test_tools_for_whole_states_take_the_state_of_init(tool, kind):
    TOOLS[tool](state_of(KEYS[kind]()))


def sent(exchange, state=None, tree=None):
    """Of two workers: the mean, and the key afterwards."""
    tree = jnp.asarray(vectors(1, 50)[0]) if tree is None else tree

    def one(_):
        before = exchange.init() if state is None else state
        (mean, _, _), after = exchange.send(tree, before)
        return mean, after.key

    mapped = jax.vmap(one, axis_name=AXIS, out_axes=None)
    return jax.jit(mapped)(jnp.arange(2))


@pytest.mark.quick
@plainly
@pytest.mark.parametrize("generator", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_the_words_of_a_key_round_as_the_key(generator):
    """State with words against a state with the typed key that they are words of."""
    key = jax.random.key(3, impl=generator)
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4), key=key)
    state = exchange.init()
    assert state.key.dtype == jnp.uint32
    np.testing.assert_array_equal(state.key, jax.random.key_data(key))
    mean, after = sent(exchange)
    expected, typed_after = sent(exchange, state._replace(key=key))
    np.testing.assert_array_equal(mean, expected)
    kept, _ = jax.random.split(key)
    assert jnp.issubdtype(typed_after.dtype, jax.dtypes.prng_key)
    for found in (after, jax.random.key_data(typed_after)):
        np.testing.assert_array_equal(found, jax.random.key_data(kept))


@pytest.mark.quick
@plainly
def test_a_seed_a_raw_and_a_typed_key_are_one():
    keys = (3, jax.random.PRNGKey(3), jax.random.key(3), np.array([0, 3], np.uint32))
    found = [sent(qgenx.exchange(AXIS, qgenx.uniform(4), key=key)) for key in keys]
    for mean, key in found[1:]:
        np.testing.assert_array_equal(mean, found[0][0])
        np.testing.assert_array_equal(key, found[0][1])


@plainly
def test_generators_round_differently():
    keys = (jax.random.key(3), jax.random.key(3, impl="rbg"))
    a, b = (sent(qgenx.exchange(AXIS, qgenx.uniform(4), key=key))[0] for key in keys)
    assert (a != b).any()


@plainly
@pytest.mark.parametrize("given", ["seed", "raw"])
def test_the_generator_is_that_of_when_the_exchange_was_made(given):
    """JAX's default may change between making, init and send."""
    with jax.default_prng_impl("rbg"):
        key = 3 if given == "seed" else jax.random.PRNGKey(3)
        expected = jax.random.key_data(jax.random.key(3))
        exchange = qgenx.exchange(AXIS, qgenx.uniform(4), key=key)
        mean, key = sent(exchange)
    np.testing.assert_array_equal(exchange.init().key, expected)
    found, key_found = sent(exchange)
    np.testing.assert_array_equal(found, mean)
    np.testing.assert_array_equal(key_found, key)
    typed = jax.random.wrap_key_data(expected, impl="rbg")
    twin = qgenx.exchange(AXIS, qgenx.uniform(4), key=typed)
    np.testing.assert_array_equal(sent(twin)[0], mean)


@pytest.mark.quick
def test_words_that_are_no_key_of_the_exchange_are_refused():
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4))
    of_rbg = qgenx.exchange(AXIS, qgenx.uniform(4), key=jax.random.key(0, impl="rbg"))
    for state in (of_rbg.init(), cast(exchange.init())):
        with pytest.raises(ValueError, match=r"^state.key must be one PRNG key .*fry"):
            sent(exchange, state)
    with pytest.raises(ValueError, match=r"^state.key .* rbg is .* shape \(4,\)"):
        sent(of_rbg, exchange.init())


@plainly
@pytest.mark.parametrize("place", ["vmap", "mesh"])
def test_a_generator_of_another_kind_in_whole_programs(place):
    """jit alone, scan, vmap and a mesh: the bits of K workers, replicas equal."""
    key = jax.random.key(5, impl="rbg")
    optimizer = optax.chain(
        qgenx.quantized_mean(AXIS, qgenx.uniform(4), exact=None, key=key),
        optax.sgd(0.1),
    )

    def step(params, state, target):
        def once(carry, _):
            params, state = carry
            gradient = qgenx.local_params(params, AXIS) - target
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(once, (params, state), length=3)[0]

    workers, mesh = (3, None) if place == "vmap" else (None, mesh_of(3))
    params, targets = jnp.zeros(600), jnp.asarray(vectors(3, 600))
    state = qgenx.init(optimizer, params, mesh, AXIS, workers=workers)
    run = qgenx.map_workers(step, AXIS, mesh=mesh, workers=workers)
    params, state = run(params, state, targets)
    expected = key
    for _ in range(3):
        expected = jax.random.split(expected)[0]
    np.testing.assert_array_equal(state[0].key, jax.random.key_data(expected))
    # three steps of 0.1 towards the mean, each rounded to 7 steps of the largest entry
    off = params - (1 - 0.9**3) * targets.mean(0)
    assert 0 < jnp.abs(off).max() < 3 * 0.1 * jnp.abs(targets).max() / 7
