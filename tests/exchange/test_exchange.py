"""Exchanges in whole programs: several of them, many workers, further mesh axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax import _trees
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors
from tests.lib.hlo import collectives

plainly = pytest.mark.plainly


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
def test_raw_keys_stay_raw():
    raw = jax.random.PRNGKey(3)
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4), key=raw)
    typed = qgenx.exchange(AXIS, qgenx.uniform(4), key=jax.random.key(3))
    vector = jnp.asarray(vectors(1, 50)[0])

    def run(exchange):
        def one(_):
            (mean, _, _), state = exchange.send(vector, exchange.init())
            return mean, state.key

        mapped = jax.vmap(one, axis_name=AXIS, out_axes=None)
        return jax.jit(mapped)(jnp.arange(2))

    (mean, key), (other, _) = run(exchange), run(typed)
    assert key.dtype == jnp.uint32
    np.testing.assert_array_equal(mean, other)


def test_many_workers_add_up_in_the_same_order_as_few(monkeypatch):
    """The loop for many workers gives the bits of the unrolled sum."""
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4, bucket_size=32))
    flats = jnp.asarray(vectors(20, 100))

    def mean():
        run = lambda v: exchange.send(v, exchange.init())[0][0]  # noqa: E731
        return jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=None))(flats)

    looped = mean()
    monkeypatch.setattr(_trees, "UNROLLED", 100)
    jax.clear_caches()
    assert_trees_identical(mean(), looped, "unrolled against looped")


@plainly
@pytest.mark.parametrize("variant", ["dual_averaging", "optimistic"])
def test_sixty_four_workers(variant):
    problem = qgenx.problems.bilinear(8)
    pair = qgenx.q_genx(AXIS, qgenx.uniform(8), variant=variant, gamma0=0.01)
    run = qgenx.map_workers(qgenx.iterate(pair, problem.operator), AXIS, workers=64)
    x = jnp.zeros(8)
    state = qgenx.init(pair, x, workers=64)
    for _ in range(3):
        x, state = run(x, state)
    assert np.isfinite(x).all()
    assert float(jnp.abs(x).max()) > 0


@plainly
def test_shards_of_a_model_axis_round_differently():
    """Where JAX tracks the axes; and what is replicated over them stays so."""
    mesh = jax.make_mesh((2, 4), ("model", AXIS), (AxisType.Auto,) * 2)
    exchange = qgenx.exchange(AXIS, qgenx.uniform(2))
    vector = jnp.asarray(vectors(1, 400)[0])
    halves = jnp.stack([vector, vector])

    def sharded(halves):
        local = jax.lax.pcast(halves[0], AXIS, to="varying")
        return exchange.send(local, exchange.init())[0][0][None]

    run = jax.shard_map(sharded, mesh=mesh, in_specs=P("model"), out_specs=P("model"))
    first, second = jax.jit(run)(halves)
    assert (first != second).mean() > 0.1, "shards share one stream"

    def replicated(vector):
        local = jax.lax.pcast(vector, AXIS, to="varying")
        return exchange.send(local, exchange.init())[0][0]

    whole = jax.shard_map(replicated, mesh=mesh, in_specs=P(), out_specs=P())
    assert jax.jit(whole)(vector).shape == (400,)


@plainly
def test_a_tuple_of_axes_is_one_axis_over_workers():
    mesh = jax.make_mesh((2, 3), ("host", AXIS), (AxisType.Auto,) * 2)
    axes = ("host", AXIS)
    optimizer = optax.chain(
        qgenx.quantized_mean(axes, qgenx.uniform(8), exact=None), optax.sgd(1.0)
    )

    def step(params, state, target):
        gradient = qgenx.local_params(params, axes) - target
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.zeros(200)
    targets = jnp.asarray(vectors(6, 200))
    state = qgenx.init(optimizer, params, mesh, axes)
    run = qgenx.map_workers(step, axes, mesh=mesh)
    params, _ = run(params, state, targets)
    np.testing.assert_allclose(params, targets.mean(axis=0), atol=0.03)


@plainly
def test_a_mesh_of_explicit_axes_will_do():
    """What jax.make_mesh gives by default."""
    mesh = jax.make_mesh((3,), (AXIS,), devices=jax.devices()[:3])
    optimizer = optax.chain(qgenx.quantized_mean(AXIS, None), optax.sgd(1.0))

    def step(params, state, target):
        gradient = qgenx.local_params(params, AXIS) - target
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    targets = jnp.asarray(vectors(3, 10))
    params = jnp.zeros(10)
    state = qgenx.init(optimizer, params, mesh, AXIS)
    params, _ = qgenx.map_workers(step, AXIS, mesh=mesh)(params, state, targets)
    np.testing.assert_allclose(params, targets.mean(axis=0), rtol=1e-5, atol=1e-6)


@plainly
def test_exact_traffic_is_what_the_program_shows():
    """bfloat16 is added up in float32, and each worker's number takes a slot of K."""
    tree = {"a": jnp.zeros((3, 8, 8), jnp.bfloat16), "b": jnp.zeros((3, 5))}
    exchange = qgenx.exchange(AXIS, None)

    def run(tree):
        tree = jax.tree.map(lambda x: x[0], tree)
        (mean, _, numbers), _ = exchange.send(
            tree, exchange.init(), scalar=lambda own: own["b"][0]
        )
        return mean, numbers

    mapped = jax.shard_map(run, mesh=mesh_of(3), in_specs=P(AXIS), out_specs=P())
    hlo = jax.jit(mapped).lower(tree).compile().as_text()
    moved = sum(4 * size for op, _, size in collectives(hlo) if op == "all-reduce")
    local = jax.tree.map(lambda x: x[0], tree)
    traffic = exchange.traffic(local, workers=3, scalar_bytes=4)
    assert moved == traffic.payload_bytes == 4 * (64 + 5 + 3)
