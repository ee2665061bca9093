"""The recipe for jit and NamedSharding: shard_map around gradient and exchange only.

The loop is an ordinary one, parameters and batch are placed by NamedSharding; only the
mean of gradients over the mesh axis "data" is quantized. The axis "model" is either
left to jit (`axis_names={"data"}`) or belongs to shard_map too, and cuts the model by
hand in one test.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical
from tests.lib.hlo import collectives

plainly = pytest.mark.plainly

WORKERS, MODEL, BATCH = 4, 2, 8
FEATURES, HIDDEN, OUTPUTS = 32, 48, 64
BUCKET = 256  # divides the leaves that are quantized
BY_JIT, BY_HAND = frozenset({AXIS}), frozenset({AXIS, "model"})
of_both = pytest.mark.parametrize(
    "axis_names", [BY_JIT, BY_HAND], ids=["model by jit", "model by hand"]
)


def mesh_2d():
    auto = (AxisType.Auto, AxisType.Auto)
    devices = jax.devices()[: WORKERS * MODEL]
    return jax.make_mesh((WORKERS, MODEL), (AXIS, "model"), auto, devices=devices)


def loss(params, batch):
    inputs, targets = batch
    hidden = jnp.tanh(inputs @ params["first"] + params["bias"][None])
    return jnp.mean((hidden @ params["second"] - targets) ** 2)


def model_and_batch():
    rng = np.random.default_rng(0)
    params = {
        "first": rng.normal(size=(FEATURES, HIDDEN)) / 6,
        "bias": rng.normal(size=HIDDEN),
        "second": rng.normal(size=(HIDDEN, OUTPUTS)) / 7,
    }
    inputs = rng.normal(size=(WORKERS * BATCH, FEATURES))
    targets = rng.normal(size=(WORKERS * BATCH, OUTPUTS))
    return jax.tree.map(np.float32, (params, (inputs, targets)))


def quantized_gradient(mean, mesh, params, state, batch, *, axis_names):
    """The recipe: what shard_map is around. The batch is cut over the workers."""

    def worker(params, state, batch):
        gradient = jax.grad(loss)(qgenx.local_params(params, AXIS), batch)
        return mean.update(gradient, state)

    mapped = jax.shard_map(
        worker,
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS)),
        out_specs=(P(), P()),
        axis_names=axis_names,
    )
    return mapped(params, state, batch)


@functools.cache
def setting(bits, axis_names):
    """An ordinary jitted step, the list of its traces, and everything placed.

    Kept: the tests share one compilation of each setting.
    """
    traces = []
    mesh = mesh_2d()
    quantizer = None if bits is None else qgenx.uniform(bits, bucket_size=BUCKET)
    mean = qgenx.quantized_mean(AXIS, quantizer, collective="all_gather", key=3)
    optimizer = optax.adam(1e-2)

    def step(params, mean_state, state, batch):
        traces.append(1)
        gradient, mean_state = quantized_gradient(
            mean, mesh, params, mean_state, batch, axis_names=axis_names
        )
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), mean_state, state, gradient

    params, batch = model_and_batch()
    replicated = NamedSharding(mesh, P())
    params = jax.device_put(params, replicated)
    batch = jax.device_put(batch, NamedSharding(mesh, P(AXIS)))
    mean_state = jax.device_put(mean.init(params), replicated)
    state = jax.device_put(optimizer.init(params), replicated)
    return jax.jit(step), traces, params, mean_state, state, batch


def everywhere(leaf):
    """The copies of a replicated array, one per device."""
    assert leaf.sharding.is_fully_replicated, leaf.sharding
    copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
    assert len(copies) == WORKERS * MODEL
    return copies


exact_gradient = jax.jit(jax.grad(loss))


@jax.jit
def gradients_of_workers(params, batch):
    """What each worker computes by itself: leaves (workers, ...)."""
    each = jax.tree.map(lambda x: x.reshape(WORKERS, BATCH, *x.shape[1:]), batch)
    return jax.vmap(jax.grad(loss), in_axes=(None, 0))(params, each)


def flat(tree):
    """The quantized leaves as the exchange lays them out, (..., coordinates)."""
    leaves = [np.asarray(tree[name], np.float64) for name in ("first", "second")]
    return np.concatenate([x.reshape(*x.shape[:-2], -1) for x in leaves], axis=-1)


def error_bound(gradients, bits):
    """Per coordinate: the mean over workers of the distance of levels in its bucket."""
    buckets = flat(gradients).reshape(WORKERS, -1, BUCKET)
    distance = np.abs(buckets).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    return np.broadcast_to(distance.mean(0), buckets.shape[1:]).reshape(-1)


@plainly
@of_both
@pytest.mark.parametrize("bits", [8, 4])
def test_the_gradient_is_the_exact_mean_within_the_quantization_step(bits, axis_names):
    step, _, params, mean_state, state, batch = setting(bits, axis_names)
    _, after, _, gradient = step(params, mean_state, state, batch)
    exact = exact_gradient(*model_and_batch())
    bound = error_bound(gradients_of_workers(*model_and_batch()), bits)
    share = np.abs(flat(gradient) - flat(exact)) / bound
    assert share.max() <= 1.001, f"an error of {share.max()} steps"
    assert share.mean() > 0.05, "nothing was quantized"
    np.testing.assert_allclose(
        gradient["bias"], exact["bias"], atol=1e-6, err_msg="a small leaf stays exact"
    )
    old, new = (jax.random.key_data(s.key) for s in (mean_state, after))
    assert not np.array_equal(old, new), "the next exchange would round the same way"


@pytest.mark.quick
@plainly
def test_without_a_quantizer_the_step_is_that_of_plain_jit():
    step, _, params, mean_state, state, batch = setting(None, BY_JIT)
    trained, *_ = step(params, mean_state, state, batch)
    optimizer = optax.adam(1e-2)
    plain, whole_batch = model_and_batch()
    updates, _ = optimizer.update(
        exact_gradient(plain, whole_batch), optimizer.init(plain)
    )
    expected = optax.apply_updates(plain, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        trained,
        expected,
    )


@plainly
@of_both
def test_the_program_moves_one_buffer_of_accounted_size(axis_names):
    bits = 4
    step, _, params, *others = setting(bits, axis_names)
    hlo = step.lower(params, *others).compile().as_text()
    exchange = qgenx.exchange(
        AXIS, qgenx.uniform(bits, bucket_size=BUCKET), exact=qgenx.small_leaves
    )
    traffic = exchange.traffic(params, WORKERS)
    found = collectives(hlo)
    bytes_gathered = [size for op, dtype, size in found if dtype == "u8"]
    assert bytes_gathered == [WORKERS * traffic.payload_bytes], found
    large = [c for c in found if c[1] != "u8" and c[2] >= HIDDEN]
    assert not large, f"collectives of a gradient's size: {large}"


@plainly
@of_both
def test_a_training_run_stays_replicated_over_all_axes_without_a_new_trace(axis_names):
    step, traces, *carried, batch = setting(4, axis_names)
    before = float(loss(*model_and_batch()))
    placed = jax.tree.map(lambda x: x.sharding, carried)
    for _ in range(20):
        *carried, gradient = step(*carried, batch)
    assert len(traces) == 1, "traced again"
    for was, leaf in zip(
        jax.tree.leaves(placed), jax.tree.leaves(carried), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(was, leaf.ndim), "placement changed"
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        first, *others = everywhere(leaf)
        for other in others:
            np.testing.assert_array_equal(other, first, err_msg="replicas differ")
    first, *others = everywhere(gradient["second"])
    assert all(np.array_equal(other, first) for other in others)
    _, batch = model_and_batch()
    after = float(loss(jax.device_get(carried[0]), batch))
    assert after < 0.8 * before, f"the loss went from {before} to {after}"


def test_a_mesh_axis_that_is_only_there_changes_no_bit():
    """The mean on the mesh ("data", "model") is that of the mesh ("data",)."""
    vectors = jnp.asarray(np.random.default_rng(1).normal(size=(WORKERS, 300)), "f4")
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4, bucket_size=64))

    def worker(vector):
        (mean, own, _), _ = exchange.send(vector[0], exchange.init())
        return mean, own[None]

    found = {}
    one_axis = jax.make_mesh(
        (WORKERS,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[:WORKERS]
    )
    for name, mesh, axes in (
        ("1-D", one_axis, {AXIS}),
        ("model by jit", mesh_2d(), {AXIS}),
        ("model by hand", mesh_2d(), {AXIS, "model"}),
    ):
        mapped = jax.shard_map(
            worker,
            mesh=mesh,
            in_specs=P(AXIS),
            out_specs=(P(), P(AXIS)),  # checked: replicated over "model"
            axis_names=axes,
        )
        found[name] = jax.device_get(jax.jit(mapped)(vectors))
    for name, result in found.items():
        assert_trees_identical(result, found["1-D"], f"{name} against 1-D")


@plainly
def test_shards_of_a_model_are_averaged_over_data_only():
    """Parameters cut over "model" by hand: each shard its own mean, rounded apart."""
    mesh = mesh_2d()
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4, bucket_size=64))
    row = np.random.default_rng(2).normal(size=(WORKERS, 1, 300)).astype(np.float32)
    vectors = np.repeat(row, MODEL, axis=1)  # equal shards: equal bits show a mistake

    def worker(vector):
        (mean, own, _), state = exchange.send(vector[0, 0], exchange.init())
        return mean[None], own[None, None], jax.random.key_data(state.key)

    mapped = jax.shard_map(
        worker,
        mesh=mesh,
        in_specs=P(AXIS, "model"),
        # checked: the mean differs over "model" only, the state nowhere
        out_specs=(P("model"), P(AXIS, "model"), P()),
    )
    placed = jax.device_put(vectors, NamedSharding(mesh, P(AXIS, "model")))
    mean, own, _ = jax.jit(mapped)(placed)
    for shard in range(MODEL):
        np.testing.assert_allclose(
            mean[shard],
            np.asarray(own, np.float64)[:, shard].mean(0),
            atol=1e-6,
            err_msg=f"shard {shard} of the model is not the mean of its own workers",
        )
    assert (own[:, 0] != own[:, 1]).mean() > 0.1, "two shards share rounding bits"
    hlo = jax.jit(mapped).lower(placed).compile().as_text()
    payload = exchange.traffic(vectors[0, 0], WORKERS).payload_bytes
    assert collectives(hlo) == [("all-gather", "u8", WORKERS * payload)]


def test_a_gradient_summed_by_jit_is_refused():
    """Without local_params, or with the axis left to jit, nothing would be saved."""
    mesh = mesh_2d()
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4))
    params, batch = model_and_batch()
    state = mean.init(params)

    def worker(params, state, batch):
        return mean.update(jax.grad(loss)(params, batch), state)

    mapped = jax.shard_map(
        worker,
        mesh=mesh,
        in_specs=(P(), P(), P(AXIS)),
        out_specs=(P(), P()),
        axis_names={AXIS},
    )
    with pytest.raises(
        ValueError, match=r"\['bias'\].* must vary over the worker axis"
    ):
        jax.jit(mapped)(params, state, batch)
    with pytest.raises(ValueError, match="axis_name must be the name of an axis"):
        jax.jit(worker)(params, state, batch)
