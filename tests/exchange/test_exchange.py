"""Exchanges in whole programs: several of them, many workers, further mesh axes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, vectors

plainly = pytest.mark.plainly


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


@pytest.mark.quick
@plainly
def test_two_sends_and_two_workers_round_differently():
    exchange = qgenx.exchange(AXIS, qgenx.uniform(2))
    vector = jnp.asarray(vectors(1, 999)[0])

    def run(_):
        (_, first, _), state = exchange.send(vector, exchange.init())
        (_, second, _), _ = exchange.send(vector, state)
        return first, second

    first, second = jax.jit(jax.vmap(run, axis_name=AXIS))(jnp.arange(2))
    assert (first[0] != first[1]).mean() > 0.1, "two workers share one stream"
    assert (first[0] != second[0]).mean() > 0.1, "two exchanges share one stream"


@plainly
@pytest.mark.parametrize("collective", ["reduce_scatter", "all_gather", "auto"])
def test_an_empty_tree_is_exchanged(collective):
    exchange = qgenx.exchange(
        AXIS, qgenx.uniform(4, bucket_size=50), collective=collective
    )

    def run(worker):
        (mean, own, numbers), _ = exchange.send(
            {}, exchange.init(), scalar=lambda own: worker
        )
        return mean, own, numbers

    mapped = jax.vmap(run, axis_name=AXIS, out_axes=None)
    mean, own, numbers = jax.jit(mapped)(jnp.arange(3.0))
    assert mean == own == {}
    np.testing.assert_array_equal(numbers, [0, 1, 2])
    mapped = jax.vmap(
        lambda x: exchange.send({}, exchange.init())[0],
        axis_name=AXIS,
        out_axes=None,
    )
    assert mapped(jnp.ones(3)) == ({}, {}, None)


NO_ZERO = qgenx.user_levels([0.5, 1.0], zero=False)
EMPTY = {"a": jnp.zeros((2, 0)), "b": jnp.zeros((2, 0))}


@pytest.mark.quick
@pytest.mark.parametrize(
    "quantizer",
    [
        None,
        qgenx.uniform(4),
        qgenx.min_max(3),
        NO_ZERO,
        qgenx.user_levels([-1.0, 1.0]),
        qgenx.adaptive(2, norm="range"),
    ],
)
@pytest.mark.parametrize("bucket_size", [8, None])
def test_vectors_of_no_coordinates_come_back(quantizer, bucket_size):
    """By every collective, on one axis and on two."""
    if quantizer is not None:
        quantizer = dataclasses.replace(quantizer, bucket_size=bucket_size)
    for collective in ("once", "reduce_scatter"):
        exchange = qgenx.exchange(AXIS, quantizer, collective=collective)
        run = lambda tree, exchange=exchange: exchange.send(tree, exchange.init())[0][0]  # noqa: E731
        found = jax.vmap(run, axis_name=AXIS, out_axes=None)(EMPTY)
        assert {name: x.shape for name, x in found.items()} == {"a": (0,), "b": (0,)}
    names = ("host", "chip")
    exchange = qgenx.exchange(names, quantizer, collective="hierarchical")
    run = lambda tree: exchange.mean(tree, exchange.init())[0]  # noqa: E731
    for name in reversed(names):
        run = jax.vmap(run, axis_name=name, out_axes=None)
    found = run(jax.tree.map(lambda x: x[None], EMPTY))
    assert {name: x.shape for name, x in found.items()} == {"a": (0,), "b": (0,)}


@pytest.mark.quick
@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize(
    "quantizer", [qgenx.uniform(4), qgenx.uniform(1), qgenx.min_max(8), NO_ZERO]
)
def test_a_vector_may_have_more_than_2_to_the_31_coordinates(quantizer, collective):
    """Places in it are not counted in int32; traced, not run."""
    exchange = qgenx.exchange(AXIS, quantizer, collective=collective)
    run = lambda x: exchange.mean(x, exchange.init())[0]  # noqa: E731
    x = jax.ShapeDtypeStruct((4, 2**31 + 8), "float32")
    mapped = jax.vmap(run, axis_name=AXIS, out_axes=None)
    assert jax.eval_shape(mapped, x).shape == (2**31 + 8,)


def test_an_exchange_without_an_axis_rounds_as_worker_0():
    """So what quantization changes is measured outside of mapped functions."""
    bits, x = qgenx.uniform(4), jnp.asarray(vectors(3, 50))
    settings = {"rounding": "independent", "key": 7}
    on_axis, alone = (qgenx.exchange(name, bits, **settings) for name in (AXIS, None))
    run = jax.vmap(lambda x: on_axis.quantize(x, on_axis.init()), axis_name=AXIS)
    found = alone.quantize(x[0], alone.init())
    np.testing.assert_array_equal(found, run(x)[0])
