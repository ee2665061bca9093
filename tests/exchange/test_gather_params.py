"""FSDP: whole parameters of a worker's shards, and shards of the mean gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.cut_model import (
    KEY,
    QUANTIZERS,
    SPECS,
    WORKERS,
    each_workers,
    in_shard_map,
    in_vmap,
    loss_of,
    mean_gradient,
    problem,
    whole_loss,
)
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of
from tests.lib.hlo import collectives

pytestmark = pytest.mark.plainly
of_each = pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)


@of_each
@pytest.mark.parametrize("run", [in_shard_map, in_vmap])
def test_the_gradient_is_the_mean_to_a_step(run, quantizer):
    found = run(loss_of(quantizer, exact=None))
    exact = mean_gradient()
    for name, g in exact.items():
        largest = np.abs(each_workers()[name]).max()
        rounded = quantizer is not None and name != "odd"
        # two steps of 8 bits, of a bucket's norm, which has any coordinates in it
        rotated = quantizer is not None and quantizer.rotate
        most = 1.0 if rotated else largest
        atol = 3 * max(most, 0.5) / 127 if rounded else 2e-6
        np.testing.assert_allclose(found[name], g, atol=atol, err_msg=name)


def adam_step(quantizer, **settings):
    optimizer = optax.adam(1e-2)

    def worker(shards, state, x, y, key):
        loss = loss_of(quantizer, key, **settings)
        value, gradient = jax.value_and_grad(loss)(shards, x[0], y[0])
        updates, state = optimizer.update(gradient, state, shards)
        shards = optax.apply_updates(shards, updates)
        return shards, state, jax.lax.pmean(value, AXIS)

    mesh, params = mesh_of(WORKERS), problem()[0]
    shapes = jax.eval_shape(optimizer.init, params)
    sharded = jax.tree.map(lambda s: NamedSharding(mesh, s), SPECS)
    placed = jax.device_put(params, sharded)
    of_state = qgenx.state_specs(shapes, "nothing", placed)
    run = jax.shard_map(
        worker,
        mesh=mesh,
        in_specs=(SPECS, of_state, P(AXIS), P(AXIS), P()),
        out_specs=(SPECS, of_state, P()),
    )
    places = jax.tree.map(lambda s: NamedSharding(mesh, s), of_state)
    state = jax.jit(optimizer.init, out_shardings=places)(placed)
    return jax.jit(run, donate_argnums=(0, 1)), placed, state


def trained(quantizer, steps=30):
    run, shards, state = adam_step(quantizer)
    _, x, y = problem()
    values = []
    for key in jax.random.split(KEY, steps):
        shards, state, value = run(shards, state, x, y, key)
        values.append(float(value))
    return shards, values


def test_training_is_that_of_whole_parameters():
    found, values = trained(None)
    params, x, y = problem()
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)
    for _ in range(30):
        run = jax.vmap(jax.grad(whole_loss), in_axes=(None, 0, 0))
        gradient = jax.tree.map(lambda g: g.mean(0), run(params, x, y))
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, params
    )
    rounded = trained(qgenx.uniform(4))[1]
    assert abs(rounded[-1] - values[-1]) < 0.02 * values[0]


@pytest.mark.parametrize("quantizer", [None, qgenx.uniform(4, bucket_size=64)])
def test_bytes_are_those_of_traffic_and_memory_is_a_kth(quantizer):
    settings = {"exact": None}
    run, shards, state = adam_step(quantizer, **settings)
    params, x, y = problem()
    program = run.lower(shards, state, x, y, KEY).compile()
    found = collectives(program.as_text())
    sizes = {"u8": 1, "f32": 4}
    moved = {}
    for op, dtype, n in found:
        moved[op] = moved.get(op, 0) + n * sizes[dtype]
    of = qgenx.gather_traffic(params, quantizer, WORKERS, specs=SPECS, **settings)
    by = {phase.collective: phase.sent_bytes for phase in of.phases}
    assert moved["all-gather"] * (WORKERS - 1) // WORKERS == by["all_gather"]
    if quantizer is None:
        assert moved["reduce-scatter"] * (WORKERS - 1) == by["reduce_scatter"]
    else:
        assert "reduce-scatter" not in moved
        assert moved["all-to-all"] * (WORKERS - 1) // WORKERS == by["all_to_all"]
    assert moved["all-reduce"] == 4 * (3 + 1)  # "odd", and the loss
    # parameters and two moments, of which "odd" is on all; and a batch
    cut = 3 * 4 * sum(p.size for name, p in params.items() if name != "odd") / WORKERS
    batch = 2 * x[0].nbytes
    given = program.memory_analysis().argument_size_in_bytes
    assert abs(given - cut - batch) < 200, (given, cut, batch)


def test_one_alone_has_its_own_gradient_rounded():
    params, x, y = problem()

    def gradient(quantizer):
        def loss(p):
            whole = qgenx.gather_params(
                p, None, quantizer, specs=SPECS, key=KEY, exact=None
            )
            return whole_loss(whole, x[0], y[0])

        return jax.grad(loss)(params)

    exact = jax.grad(whole_loss)(params, x[0], y[0])
    assert_trees_identical(gradient(None), exact, "exact")
    for name, g in gradient(qgenx.uniform(8)).items():
        np.testing.assert_allclose(g, exact[name], atol=2 / 127, err_msg=name)


def test_over_two_axes_and_in_bfloat16():
    devices = jax.devices()[:4]
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=devices)
    axis, spec = ("a", "b"), P(None, ("a", "b"))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 64)), jnp.bfloat16)

    def worker(shard, key):
        def loss(shard):
            whole = qgenx.gather_params(
                shard, axis, qgenx.uniform(8), specs=spec, key=key
            )
            return (whole.astype(jnp.float32) ** 2).sum()

        return jax.grad(loss)(shard)

    run = jax.shard_map(worker, mesh=mesh, in_specs=(spec, P()), out_specs=spec)
    with jax.set_mesh(mesh):
        found = jax.jit(run)(jax.device_put(x, NamedSharding(mesh, spec)), KEY)
    assert found.dtype == jnp.bfloat16
    expected = 2 * x.astype(jnp.float32)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=largest / 60)


CASES = {
    "levels that adapt": (
        {"quantizer": qgenx.adaptive(4)},
        "quantizer must have levels of its own",
    ),
    "no quantizer": ({"quantizer": 8}, "quantizer must be a quantizer"),
    "no key": ({"key": 1.5}, "key must be one PRNG key"),
    "another rounding": ({"rounding": "none"}, "rounding must be one of"),
    "specs of another axis": (
        {"specs": P(("a", AXIS))},
        "must be cut over 'data' alone",
    ),
    "not cut": ({"specs": P()}, "must be equal on all workers.*jax.value_and_grad"),
}


@pytest.mark.quick
@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES)
def test_bad_arguments(change, message):
    settings = {"quantizer": qgenx.uniform(8), "key": KEY, "specs": P(AXIS), **change}
    quantizer = settings.pop("quantizer")

    def worker(x):
        return qgenx.gather_params(x, AXIS, quantizer, **settings)

    run = jax.shard_map(worker, mesh=mesh_of(2), in_specs=P(AXIS), out_specs=P(AXIS))
    with pytest.raises(ValueError, match=message):
        run(jnp.zeros((64, 64)))


@pytest.mark.quick
def test_shards_that_are_none_and_keys_that_differ():
    def gather(x, key):
        return qgenx.gather_params(x, AXIS, qgenx.uniform(8), specs=P(AXIS), key=key)

    def run(worker, *specs):
        mapped = jax.shard_map(
            worker, mesh=mesh_of(2), in_specs=specs, out_specs=P(AXIS)
        )
        return mapped(jnp.zeros((64, 64)), jax.random.split(KEY, 2))

    with pytest.raises(ValueError, match="must be this worker's shard"):
        run(lambda x, keys: gather(x, keys[0]), P(), P())
    with pytest.raises(ValueError, match="key must be the same on all workers"):
        run(lambda x, keys: gather(x, keys[0]), P(AXIS), P(AXIS))


@pytest.mark.quick
def test_an_explicit_axis_is_refused():
    devices = jax.devices()[:4]
    mesh = jax.make_mesh((2, 2), (AXIS, "model"), devices=devices)

    def worker(x):
        return qgenx.gather_params(x, AXIS, qgenx.uniform(8), specs=P(AXIS), key=KEY)

    run = jax.shard_map(
        worker, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS), axis_names={AXIS}
    )
    x = jax.device_put(jnp.zeros((64, 64)), NamedSharding(mesh, P(AXIS, "model")))
    with pytest.raises(ValueError, match="must not be cut over an axis of type"):
        jax.jit(run)(x)


@pytest.mark.quick
def test_traffic_of_specs_of_another_axis():
    with pytest.raises(ValueError, match="specs must cut a leaf over 'data'"):
        qgenx.gather_traffic(jnp.zeros((64, 64)), None, 4, specs=P("rows"))


@pytest.mark.quick
def test_traffic_of_what_cannot_be_cut():
    with pytest.raises(ValueError, match="must have an axis 0 that 4 workers divide"):
        qgenx.gather_traffic(jnp.zeros((6, 4)), None, 4, specs=P(AXIS))
