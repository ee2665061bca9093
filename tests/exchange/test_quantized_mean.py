"""`quantized_mean`: an exchange as a transformation of optax, and that it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.exchanges import tree_of
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors

plainly = pytest.mark.plainly


@pytest.mark.quick
@plainly
def test_quantized_mean_is_the_mean_of_an_exchange():
    quantizer = qgenx.uniform(4)
    transformation = qgenx.quantized_mean(
        AXIS, quantizer, collective="all_gather", key=9
    )
    exchange = qgenx.exchange(AXIS, quantizer, exact=qgenx.small_leaves, key=9)

    def run(flat):
        tree = tree_of(flat)
        updates, state = transformation.update(tree, transformation.init(tree))
        (mean, _, _), other = exchange.send(tree, exchange.init())
        mean = {name: x.astype(tree[name].dtype) for name, x in mean.items()}
        return (updates, state), (mean, other)

    flats = jnp.asarray(vectors(3, 2100))
    a, b = jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=None))(flats)
    assert_trees_identical(a, b, "quantized_mean against exchange")


@plainly
def test_two_exchanges_of_one_program_round_differently():
    """Also with equal keys: paths and shapes enter the stream."""
    mean = lambda: qgenx.quantized_mean(AXIS, qgenx.uniform(2), exact=None)  # noqa: E731
    optimizer = optax.partition(
        {"g": mean(), "d": mean()}, {"first": "g", "second": "d"}
    )
    vector = jnp.asarray(vectors(1, 500)[0])
    tree = {"first": vector, "second": vector}

    def run(_):
        return optimizer.update(tree, optimizer.init(tree))[0]

    mapped = jax.vmap(run, axis_name=AXIS, out_axes=None, axis_size=2)
    updates = jax.jit(mapped)(jnp.arange(2))
    differ = (updates["first"] != updates["second"]).mean()
    assert differ > 0.1, "two exchanges share one stream"


@plainly
def test_the_state_shares_no_buffer_with_the_key():
    key = jax.random.key(3)
    transformation = qgenx.quantized_mean(AXIS, qgenx.uniform(4), key=key)
    for _ in range(2):
        state = transformation.init(None)
        jax.jit(lambda state: state, donate_argnums=0)(state)
    assert not key.is_deleted(), "donating the state took the user's key with it"
    jax.random.key_data(key).block_until_ready()


@plainly
def test_optax_chain_trains():
    """Data-parallel least squares: 4 bits reach what the exact mean reaches."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(4, 64, 32)).astype(np.float32)
    truth = rng.normal(size=(32, 32)).astype(np.float32)
    targets = inputs @ truth
    losses = {}
    for bits in (None, 4):
        quantizer = None if bits is None else qgenx.uniform(bits)
        optimizer = optax.chain(qgenx.quantized_mean(AXIS, quantizer), optax.adam(3e-2))

        def step(params, state, x, y, optimizer=optimizer):
            loss, gradient = jax.value_and_grad(lambda p: jnp.mean((x @ p - y) ** 2))(
                qgenx.local_params(params, AXIS)
            )
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, loss

        run = qgenx.map_workers(step, AXIS, mesh=mesh_of(4))
        params = jax.device_put(jnp.zeros((32, 32)), NamedSharding(mesh_of(4), P()))
        state = qgenx.init(optimizer, params, mesh_of(4), AXIS)
        for _ in range(400):
            params, state, loss = run(params, state, inputs, targets)
        losses[bits] = float(loss.mean())
    assert losses[4] < 1e-3, losses
    assert losses[None] < 1e-3, losses


@plainly
def test_an_optax_chain_trains_in_two_phases():
    targets = jnp.asarray(vectors(4, 2048).reshape(4, 32, 64))
    optimizer = optax.chain(
        qgenx.quantized_mean(AXIS, qgenx.uniform(4, bucket_size=50)), optax.sgd(0.3)
    )

    def step(params, state, target):
        gradient = qgenx.local_params(params, AXIS) - target
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    mesh, params = mesh_of(4), jnp.zeros((32, 64))
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    state = qgenx.init(optimizer, params, mesh, AXIS)
    for _ in range(40):
        params, state = run(params, state, targets)
    np.testing.assert_allclose(params, targets.mean(axis=0), atol=0.3)
