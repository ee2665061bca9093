"""The mean of an ordinary jitted step's gradients, by an exchange over its mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of
from tests.lib.hlo import collectives

plainly = pytest.mark.plainly
WORKERS, MODEL, BATCH = 4, 2, 16
QUANTIZERS = {
    "8 bits": qgenx.uniform(8, bucket_size=256),
    "best": qgenx.best(4),
    "exact": None,
}
of_each = pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)


def loss(params, x, y):
    hidden = jnp.tanh(x @ params["first"] + params["bias"][None])
    return jnp.mean((hidden @ params["second"] - y) ** 2)


@functools.cache
def problem():
    rng = np.random.default_rng(0)
    params = {
        "first": rng.normal(size=(32, 64)) / 6,
        "bias": rng.normal(size=64),
        "second": rng.normal(size=(64, 32)) / 8,
    }
    x, y = rng.normal(size=(2, BATCH, 32))
    return jax.tree.map(np.float32, (params, x, y))


SPECS = {"first": P(None, "model"), "bias": P("model"), "second": P("model")}


def optimizer_of(mean):
    return optax.chain(mean, optax.clip_by_global_norm(0.5), optax.adam(1e-2))


def by_jit(mean, mesh, *, loss=loss):
    """The ordinary step, of whose lines two are ours."""
    optimizer = optimizer_of(mean)

    def step(params, state, x, y):
        value, rows = qgenx.value_and_grad(loss, AXIS, mesh=mesh)(params, x, y)
        updates, state = optimizer.update(rows, state, params)
        return optax.apply_updates(params, updates), state, value

    return optimizer, step


def by_map_workers(mean, mesh):
    optimizer = optimizer_of(mean)

    def step(params, state, x, y):
        value, gradient = qgenx.value_and_grad(loss, AXIS)(params, x, y)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    run = qgenx.map_workers(step, AXIS, mesh=mesh)

    def go(params, state, x, y):
        cut = (a.reshape(WORKERS, -1, *a.shape[1:]) for a in (x, y))
        return run(params, state, *cut)

    return go


@plainly
@of_each
def test_like_map_workers_to_the_bit(quantizer):
    mesh, (params, x, y) = mesh_of(WORKERS), problem()
    optimizer, step = by_jit(qgenx.quantized_mean(AXIS, quantizer, mesh=mesh), mesh)
    mapped = by_map_workers(qgenx.quantized_mean(AXIS, quantizer), mesh)
    state = optimizer.init(params)
    here, there = (params, state, 0.0), (params, state, np.zeros(WORKERS))
    run = jax.jit(step)
    for _ in range(3):
        here = run(here[0], here[1], x, y)
        there = mapped(there[0], there[1], x, y)
    message = "plain jit is to be map_workers, to the bit"
    assert_trees_identical(here[:2], there[:2], message)
    np.testing.assert_allclose(here[2], there[2].mean(), rtol=1e-6)


@plainly
def test_an_exact_mean_is_jits_own():
    mesh, (params, x, y) = mesh_of(WORKERS), problem()
    optimizer, step = by_jit(qgenx.quantized_mean(AXIS, None, mesh=mesh), mesh)
    found = jax.jit(step)(params, optimizer.init(params), x, y)
    plain = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-2))
    value, gradient = jax.value_and_grad(loss)(params, x, y)
    updates, _ = plain.update(gradient, plain.init(params), params)
    # Adam's first step is a sign: where a gradient is next to none, it may be either
    wanted = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found[0], wanted
    )
    np.testing.assert_allclose(found[2], value, rtol=1e-6)


def compiled(mean, mesh, *, specs=None):
    optimizer, step = by_jit(mean, mesh)
    params, x, y = problem()
    specs = jax.tree.map(lambda _: P(), params) if specs is None else specs
    placed = jax.tree.map(
        lambda p, s: jax.device_put(p, NamedSharding(mesh, s)), params, specs
    )
    batch = jax.device_put((x, y), NamedSharding(mesh, P(AXIS)))
    state = optimizer.init(placed)
    program = jax.jit(step).lower(placed, state, *batch).compile()
    return program, program(placed, state, *batch)


def floats(program):
    found = collectives(program.as_text())
    return sum(n for _, dtype, n in found if dtype.startswith(("f", "bf")))


@plainly
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_no_floats_of_the_gradients_size_travel(kind):
    devices = jax.devices()[:WORKERS]
    mesh = jax.make_mesh((WORKERS,), (AXIS,), (kind,), devices=devices)
    mean = qgenx.quantized_mean(
        AXIS, QUANTIZERS["8 bits"], exact=None, collective="all_gather", mesh=mesh
    )
    program, _ = compiled(mean, mesh)
    assert floats(program) == 1  # the loss
    sent = mean.traffic(problem()[0], workers=WORKERS).sent_bytes
    arrived = [n for _, dtype, n in collectives(program.as_text()) if dtype == "u8"]
    assert [n * (WORKERS - 1) // WORKERS for n in arrived] == [sent]


@plainly
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_beside_a_model_axis(kind):
    devices = jax.devices()[: WORKERS * MODEL]
    sizes, names = (WORKERS, MODEL), (AXIS, "model")
    mesh = jax.make_mesh(sizes, names, (kind,) * 2, devices=devices)
    shardings = jax.tree.map(lambda s: NamedSharding(mesh, s), SPECS)
    specs = shardings if kind == AxisType.Auto else None  # types tell it
    settings = {"exact": None, "collective": "all_gather", "mesh": mesh}
    mean = qgenx.quantized_mean(AXIS, QUANTIZERS["8 bits"], specs=specs, **settings)
    if kind == AxisType.Explicit:
        # what is contracted over the model has to say so there
        def with_specs(params, x, y):
            hidden = jnp.tanh(x @ params["first"] + params["bias"][None])
            out = jnp.matmul(hidden, params["second"], out_sharding=P(None, None))
            return jnp.mean((out - y) ** 2)

        run, step = by_jit(mean, mesh, loss=with_specs)
    else:
        run, step = by_jit(mean, mesh)
    params, x, y = problem()
    placed = jax.tree.map(jax.device_put, params, shardings)
    batch = jax.device_put((x, y), NamedSharding(mesh, P(AXIS)))
    state = run.init(placed)
    program = jax.jit(step).lower(placed, state, *batch).compile()
    found, _, _ = program(placed, state, *batch)
    assert found["first"].sharding.spec == P(None, "model")
    # between model shards the products' sums travel (4 x 32), but no gradient
    assert floats(program) < 64 * 32 / 4
    shards = [s.data for s in found["first"].addressable_shards]
    for k in range(1, WORKERS):
        np.testing.assert_array_equal(shards[0], shards[k * MODEL])


def test_unreduced_gradients():
    devices = jax.devices()[:WORKERS]
    mesh = jax.make_mesh((WORKERS,), (AXIS,), (AxisType.Explicit,), devices=devices)
    params, x, y = problem()
    params = {"first": params["first"], "second": params["second"]}

    def loss(params, x, y):
        return jnp.mean((jnp.tanh(x @ params["first"]) @ params["second"] - y) ** 2)

    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(8), exact=None, mesh=mesh)

    def step(params, state, x, y):
        reduced = jax.tree.map(
            lambda p: jax.reshard(p, P(reduced=frozenset({AXIS}))), params
        )
        gradient = jax.grad(loss)(reduced, x, y)
        return mean.update(gradient, state, params)[0]

    with jax.set_mesh(mesh):
        placed = jax.device_put(params, P(None, None))
        batch = jax.device_put((x, y), P(AXIS, None))
        program = jax.jit(step).lower(placed, mean.init(placed), *batch).compile()
        found = program(placed, mean.init(placed), *batch)
    assert floats(program) == 0
    rows = qgenx.value_and_grad(loss, AXIS, mesh=mesh)(params, x, y)[1]
    wanted, _ = jax.jit(mean.update)(rows, mean.init(params), params)
    exact = jax.grad(loss)(params, x, y)
    for name, gradient in exact.items():
        step_size = np.abs(np.asarray(rows[name])).max() / 127
        assert np.abs(found[name] - gradient).max() <= step_size, name
        # a K-th of K times a row: the same vectors, but for the sums' order
        np.testing.assert_allclose(found[name], wanted[name], atol=step_size / 2)


@plainly
def test_weights_are_one_for_each_worker():
    mesh, (params, x, y) = mesh_of(WORKERS), problem()
    mean = qgenx.quantized_mean(AXIS, None, mesh=mesh)
    weights = np.array([1, 0, 3, 4], np.float32)
    _, rows = qgenx.value_and_grad(loss, AXIS, mesh=mesh)(params, x, y)
    update = jax.jit(lambda rows, w: mean.update(rows, mean.init(params), weight=w)[0])
    wanted = jax.tree.map(lambda r: np.tensordot(weights, r, 1) / 8, rows)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        update(rows, weights),
        wanted,
    )
    with pytest.raises(ValueError, match="weight must have an entry for each of 4"):
        update(rows, weights[0])


@plainly
def test_in_a_scan_of_microbatches_and_steps_and_donated():
    mesh, (params, x, y) = mesh_of(WORKERS), problem()
    mean = qgenx.quantized_mean(AXIS, QUANTIZERS["8 bits"], mesh=mesh)
    optimizer = optimizer_of(mean)

    def one(carry, _):
        params, state = carry

        def microbatch(total, batch):
            run = qgenx.value_and_grad(jax.checkpoint(loss), AXIS, mesh=mesh)
            value, rows = run(params, *batch)
            return jax.tree.map(jnp.add, total, rows), value

        zeros = jax.tree.map(lambda p: jnp.zeros((WORKERS, *p.shape)), params)
        batches = (x.reshape(2, -1, 32), y.reshape(2, -1, 32))
        rows, values = jax.lax.scan(microbatch, zeros, batches)
        rows = jax.tree.map(lambda r: r / 2, rows)
        updates, state = optimizer.update(rows, state, params)
        return (optax.apply_updates(params, updates), state), values.mean()

    def several(params, state):
        return jax.lax.scan(one, (params, state), None, length=20)

    run = jax.jit(several, donate_argnums=(0, 1))
    given = jax.device_put(params, NamedSharding(mesh, P()))
    carry, values = run(given, optimizer.init(given))
    assert given["first"].is_deleted()
    assert values[-1] < 0.7 * values[0], values
    assert jax.tree.all(jax.tree.map(lambda p: np.isfinite(p).all(), carry[0]))


@pytest.mark.quick
def test_gradients_that_are_summed_already_are_refused():
    mesh, (params, x, y) = mesh_of(WORKERS), problem()
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(8), mesh=mesh)
    gradient = jax.grad(loss)(params, x, y)
    with pytest.raises(ValueError, match=r"shape \(4, 64\).*value_and_grad"):
        mean.update(gradient, mean.init(params), params)


@pytest.mark.quick
def test_a_mesh_without_the_axis_is_refused():
    with pytest.raises(ValueError, match="axis_name must be an axis of the mesh"):
        qgenx.quantized_mean("rows", qgenx.uniform(8), mesh=mesh_of(2))
