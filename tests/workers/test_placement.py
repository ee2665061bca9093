"""K workers on fewer devices: vmap inside shard_map, over a tuple of axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors

plainly = pytest.mark.plainly

BOTH = (AXIS, "local")
BITS = qgenx.uniform(4, bucket_size=64)
SIZE = 300


def mean_of(axis_name, quantizer, flats, **where):
    """What every worker gets, its own vector, and everyone's numbers."""
    exchange = qgenx.exchange(axis_name, quantizer)

    def step(_, state, vector):
        (mean, own, numbers), state = exchange.send(vector, state, scalar=jnp.max)
        return (mean, numbers), state, own

    run = qgenx.map_workers(step, axis_name, **where)
    return run((jnp.zeros(SIZE), jnp.zeros(len(flats))), exchange.init(), flats)


@pytest.mark.parametrize(
    ("devices", "workers", "quantizer"),
    [
        pytest.param(1, 3, BITS, marks=plainly),
        (3, 6, BITS),
        (3, 6, None),
        pytest.param(8, 64, BITS, marks=plainly),
    ],
)
def test_the_bits_of_vmap(devices, workers, quantizer):
    """Means, own vectors, numbers and the state: as on one device for all workers."""
    flats = jnp.asarray(vectors(workers, SIZE))
    expected = mean_of(AXIS, quantizer, flats, workers=workers)
    mesh = mesh_of(devices)
    actual = mean_of(BOTH, quantizer, flats, mesh=mesh, workers=workers)
    if quantizer is None:  # an all-reduce adds in an order of its own
        (mean, numbers), _, own = actual
        np.testing.assert_allclose(mean, flats.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(numbers, expected[0][1])
        np.testing.assert_array_equal(own, flats)
    else:
        assert_trees_identical(actual, expected, f"{workers} on {devices}")


@plainly
def test_two_mesh_axes_and_workers_that_share_a_device():
    mesh = jax.make_mesh((1, 2), ("host", "chip"), (AxisType.Auto,) * 2)
    flats = jnp.asarray(vectors(6, SIZE))
    axes = ("host", "chip", "local")
    actual = mean_of(axes, BITS, flats, mesh=mesh, workers=6)
    assert_trees_identical(actual, mean_of(AXIS, BITS, flats, workers=6), "6 on 1x2")


@plainly
@pytest.mark.parametrize("variant", ["dual_extrapolation", "optimistic"])
def test_per_worker_state_and_replicas(variant):
    """The rule's own vectors are laid out over devices and, on each, over workers."""
    workers, devices = 6, 2
    problem = qgenx.problems.bilinear(8)
    results = []
    for axis_name, where in (
        (AXIS, {"workers": workers}),
        (BOTH, {"mesh": mesh_of(devices), "workers": workers}),
    ):
        pair = qgenx.q_genx(axis_name, BITS, variant=variant, gamma0=0.05)
        step = qgenx.iterate(pair, problem.operator, axis_name=axis_name)
        run = qgenx.map_workers(step, axis_name, **where)
        x, mesh = jnp.ones(8), where.get("mesh")
        if mesh is not None:  # placed: one compilation
            x = jax.device_put(x, NamedSharding(mesh, P()))
        state = qgenx.init(pair, x, mesh, axis_name if mesh else None, workers=workers)
        for _ in range(5):
            x, state = run(x, state)
        assert_replicas_identical((x, state))
        results.append((x, state))
    (x, state), (y, other) = results
    np.testing.assert_allclose(x, y, rtol=1e-5)
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for leaf in jax.tree.leaves(other):
        assert leaf.sharding.is_fully_replicated or leaf.shape[0] == workers


def assert_replicas_identical(tree):
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.sharding.is_fully_replicated:
            first, *others = [np.asarray(s.data) for s in leaf.addressable_shards]
            for other in others:
                np.testing.assert_array_equal(other, first)


@plainly
def test_one_collective_on_the_wire():
    """Each device sends its workers' buffers in one all-gather."""
    flats = jnp.asarray(vectors(6, SIZE))
    exchange = qgenx.exchange(BOTH, BITS)

    def step(params, state, vector):
        (mean, _, _), state = exchange.send(vector, state)
        return mean, state

    run = qgenx.map_workers(step, BOTH, mesh=mesh_of(2), workers=6)
    text = run.lower(jnp.zeros(SIZE), exchange.init(), flats).as_text()
    assert text.count("stablehlo.all_gather") == 1
    n_bytes = BITS.n_bytes(SIZE)
    assert f"tensor<3x{n_bytes}xui8>" in text, "three payloads leave each device"
    assert "all_reduce" not in text


@plainly
def test_gradients_of_replicated_parameters_are_refused():
    optimizer = qgenx.quantized_mean(BOTH, BITS, exact=None)

    def step(params, state, target):
        gradient = jax.grad(lambda p: jnp.sum((p - target) ** 2))(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    run = qgenx.map_workers(step, BOTH, mesh=mesh_of(2), workers=6)
    with pytest.raises(ValueError, match=r"must vary over the worker axis"):
        run(jnp.zeros(SIZE), optimizer.init(None), jnp.asarray(vectors(6, SIZE)))


@plainly
def test_an_exchange_over_one_of_the_axes_is_refused():
    """Else parameters would differ between devices, under one name."""
    optimizer = qgenx.quantized_mean("local", BITS, exact=None)

    def step(params, state, target):
        updates, state = optimizer.update(params - target, state, params)
        return optax.apply_updates(params, updates), state

    run = qgenx.map_workers(step, BOTH, mesh=mesh_of(2), workers=6)
    with pytest.raises(ValueError, match=r"params must be equal on all workers"):
        run(jnp.zeros(SIZE), optimizer.init(None), jnp.asarray(vectors(6, SIZE)))


@pytest.mark.quick
@plainly
def test_wrong_arguments_say_what_to_do():
    step = lambda params, state: (params, state)  # noqa: E731
    with pytest.raises(
        ValueError, match=r"workers must be a multiple of the 4 devices"
    ):
        qgenx.map_workers(step, BOTH, mesh=mesh_of(4), workers=6)
    with pytest.raises(ValueError, match=r'last name .* as in \("data", "local"\)'):
        qgenx.map_workers(step, AXIS, mesh=mesh_of(4), workers=8)
    with pytest.raises(ValueError, match=r"axis_name must be an axis of the mesh"):
        qgenx.map_workers(step, BOTH, mesh=mesh_of(4))
    state = {"per_worker": jnp.zeros((2, 5))}
    with pytest.raises(ValueError, match=r"not laid out already"):
        qgenx.lay_out(state, workers=3)


@pytest.mark.quick
def test_what_has_no_init_is_refused():
    with pytest.raises(ValueError, match=r"optimizer must have an init"):
        qgenx.init(qgenx.extra_sgd, jnp.ones(2), workers=2)
