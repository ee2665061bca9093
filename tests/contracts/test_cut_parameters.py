"""Parameters cut over a model axis, trained by hand: as whole ones on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.plainly

WORKERS, STEPS, SHAPE = 2, 4, (2, 2)
SPECS = {"bias": P(), "down": P("model"), "up": P(None, "model")}


@functools.cache
def mesh():
    auto, devices = (AxisType.Auto,) * 2, jax.devices()[:4]
    return jax.make_mesh(SHAPE, (AXIS, "model"), auto, devices=devices)


@functools.cache
def model_and_batches():
    rng = np.random.default_rng(0)
    params = {
        "bias": rng.normal(size=16),
        "down": rng.normal(size=(64, 16)) / 8,
        "up": rng.normal(size=(16, 64)) / 4,
    }
    inputs = rng.normal(size=(STEPS, WORKERS, 8, 16))
    return jax.tree.map(np.float32, (params, (inputs, np.sin(3 * inputs))))


def loss(params, batch, axis=None):
    inputs, targets = batch
    outputs = jnp.tanh(inputs @ params["up"]) @ params["down"]
    if axis is not None:
        outputs = lax.psum(outputs, axis)
    return jnp.mean((outputs + params["bias"][None] - targets) ** 2)


def step_of(optimizer, axis=None):
    def step(params, state, batch):
        own = qgenx.local_params(params, AXIS)
        gradient = jax.grad(loss)(own, batch, axis)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return step


def trained_whole(optimizer):
    """By vmap on one device, where nothing is cut."""
    params, batches = model_and_batches()
    run = qgenx.map_workers(step_of(optimizer), AXIS, workers=WORKERS)
    state = qgenx.init(optimizer, params, workers=WORKERS)
    for i in range(STEPS):
        params, state = run(params, state, jax.tree.map(lambda x, i=i: x[i], batches))
    return params, state


def trained_cut(optimizer):
    """By hand on the mesh, where JAX checks that copies are copies."""
    params, batches = model_and_batches()
    params = {
        name: jax.device_put(x, NamedSharding(mesh(), SPECS[name]))
        for name, x in params.items()
    }
    state = qgenx.init(optimizer, params, mesh(), AXIS)
    specs = qgenx.state_specs(state, AXIS, params)
    step = step_of(optimizer, "model")

    def worker(params, state, batch):
        return step(params, state, jax.tree.map(lambda x: x[0], batch))

    both = (SPECS, specs)
    run = jax.jit(
        jax.shard_map(worker, mesh=mesh(), in_specs=(*both, P(AXIS)), out_specs=both)
    )
    for i in range(STEPS):
        batch = jax.tree.map(lambda x, i=i: x[i], batches)
        params, state = jax.block_until_ready(run(params, state, batch))
    return params, state


def q_genx(quantizer, variant, gamma0=0.05):
    return qgenx.alternating(
        qgenx.q_genx(AXIS, quantizer, variant=variant, gamma0=gamma0)
    )


def adam(quantizer):
    return optax.chain(
        qgenx.quantized_mean(AXIS, quantizer, exact=None), optax.adam(1e-2)
    )


def extra_adam(quantizer):
    mean = qgenx.quantized_mean(AXIS, quantizer, exact=None)
    return qgenx.alternating(qgenx.chain(mean, qgenx.extra_adam(1e-2), qgenx.ema(0.5)))


OPTIMIZERS = {
    "adam": adam,
    "accumulate": lambda quantizer: qgenx.accumulate(2, adam(quantizer)),
    "extra_adam": extra_adam,
    "dual_extrapolation": lambda q: q_genx(q, "dual_extrapolation"),
    "optimistic": lambda q: q_genx(q, "optimistic"),
    "players": lambda q: q_genx(q, "optimistic", {"bias": 0.1, "down": 0.02, "up": 1}),
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_cut_parameters_are_trained_as_whole_ones(name):
    """The state, too: moments, sums, step sizes and what each worker keeps."""
    optimizer = OPTIMIZERS[name](None)
    cut, whole = trained_cut(optimizer), trained_whole(optimizer)
    start, _ = model_and_batches()
    assert all(np.abs(cut[0][k] - start[k]).max() > 1e-3 for k in start), "not moved"
    paths = jax.tree_util.tree_leaves_with_path(cut)
    for (path, a), b in zip(paths, jax.tree.leaves(whole), strict=True):
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=where)


@pytest.mark.parametrize("name", ["adam", "optimistic"])
def test_rounded_vectors_leave_copies_equal_to_the_last_bit(name):
    params, state = trained_cut(OPTIMIZERS[name](qgenx.uniform(4, bucket_size=64)))
    exact, _ = trained_cut(OPTIMIZERS[name](None))
    for x in (params["bias"], *jax.tree.leaves(state)):
        if not x.sharding.is_fully_replicated:
            continue
        first, *others = [np.asarray(shard.data) for shard in x.addressable_shards]
        assert len(others) == 3
        assert all(np.array_equal(other, first) for other in others)
    off = max(float(jnp.abs(params[k] - exact[k]).max()) for k in params)
    assert 0 < off < 0.1, "4 bits change a trajectory, and only so much"


def test_a_state_lies_as_its_parameters():
    params, _ = model_and_batches()
    shapes = {
        name: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=NamedSharding(mesh(), SPECS[name])
        )
        for name, x in params.items()
    }
    placed = jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), params, shapes)
    others_made = {"params": placed, "state": q_genx(None, "optimistic").init(placed)}
    laid_out = qgenx.lay_out(others_made, mesh(), AXIS)
    assert laid_out["params"]["up"].sharding.spec == P(None, "model")
    inner = laid_out["state"].inner
    assert inner.anchor["up"].sharding.spec == P(None, "model")
    assert inner.per_worker["up"].sharding.spec == P(AXIS, None, "model")
    for name, make in OPTIMIZERS.items():
        optimizer = make(qgenx.uniform(8))
        state = qgenx.init(optimizer, placed, mesh(), AXIS)
        target = qgenx.init(optimizer, shapes, mesh(), AXIS)  # what to restore into
        assert jax.tree.structure(target) == jax.tree.structure(state)
        for x, like in zip(
            jax.tree.leaves(state), jax.tree.leaves(target), strict=True
        ):
            assert (x.shape, x.dtype) == (like.shape, like.dtype), name
            assert x.sharding.is_equivalent_to(like.sharding, x.ndim), name
        found = {
            jax.tree_util.keystr(path): x.sharding.spec
            for path, x in jax.tree_util.tree_leaves_with_path(state)
            if jax.tree_util.keystr(path).endswith("['up']")
        }
        assert found, name
        for path, spec in found.items():
            first = (AXIS,) if "per_worker" in path else ()
            assert spec == P(*first, None, "model"), f"{name}{path}"
