"""The derivative of an exchange: that of the exact mean, straight through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

plainly = pytest.mark.plainly

BITS = qgenx.uniform(4, bucket_size=16)
WORKERS = 2
RNG = np.random.default_rng(0)
VECTORS = {
    "a": jnp.asarray(RNG.normal(size=(WORKERS, 8, 5)), jnp.float32),
    "half": jnp.asarray(RNG.normal(size=(WORKERS, 7)), jnp.bfloat16),
}
WEIGHTS = {
    "a": jnp.asarray(RNG.normal(size=(8, 5)), jnp.float32),
    "half": jnp.asarray(RNG.normal(size=7), jnp.float32),
}
WAYS = ["all_gather", "reduce_scatter"]


def exact(tree):
    return lax.pmean(jax.tree.map(lambda x: x.astype("float32"), tree), AXIS)


def quantized(collective, axis_name=AXIS):
    exchange = qgenx.exchange(axis_name, BITS, collective=collective)
    return lambda tree: exchange.mean(tree, exchange.init())[0]


def derivatives(mean):
    """The gradient of sum(w * mean), and the mean's move along twice the vector."""

    def inner(tree):
        found = mean(tree)
        return sum(jnp.sum(WEIGHTS[k] * found[k]) for k in found)

    def run(tree):
        tangent = jax.tree.map(lambda x: 2 * x, tree)
        return jax.grad(inner)(tree), jax.jvp(mean, (tree,), (tangent,))[1]

    return run


def on_mesh(run, check_vma=True):
    def body(trees):
        gradient, moved = run(jax.tree.map(lambda x: x[0], trees))
        return jax.tree.map(lambda x: x[None], gradient), moved

    mapped = jax.shard_map(
        body,
        mesh=mesh_of(WORKERS),
        in_specs=P(AXIS),
        out_specs=(P(AXIS), P()),
        check_vma=check_vma,
    )
    return jax.jit(mapped)(VECTORS)


def by_vmap(run):
    mapped = jax.vmap(run, axis_name=AXIS, out_axes=(0, None))
    return jax.jit(mapped)(VECTORS)


def by_pmap(run):
    devices = jax.devices()[:WORKERS]
    mapped = jax.pmap(run, axis_name=AXIS, out_axes=(0, None), devices=devices)
    return mapped(VECTORS)


def unchecked(run):
    return on_mesh(run, check_vma=False)


@plainly
@pytest.mark.parametrize("collective", WAYS)
@pytest.mark.parametrize("mapped", [on_mesh, unchecked, by_vmap, by_pmap])
def test_it_is_that_of_pmean(mapped, collective):
    expected = mapped(derivatives(exact))
    found = mapped(derivatives(quantized(collective)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert all(np.any(np.asarray(x, "float32")) for x in jax.tree.leaves(found))
    tangents = jax.tree.map(lambda x: (2 * x).astype("float32").mean(axis=0), VECTORS)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, 1e-6, 1e-6), found[1], tangents
    )


@plainly
def test_from_outside_the_workers_too():
    """The gradient of a mean that all get is w / K for each worker."""

    def loss(x):
        mean = jax.vmap(quantized("all_gather"), axis_name=AXIS, out_axes=None)
        return jnp.sum(WEIGHTS["a"] * mean({"a": x})["a"])

    found = jax.jit(jax.grad(loss))(VECTORS["a"])
    expected = np.broadcast_to(np.asarray(WEIGHTS["a"]) / WORKERS, found.shape)
    np.testing.assert_allclose(found, expected, 1e-6)


@plainly
def test_one_worker_and_its_own_vector():
    """Own vectors move as the vector does, and so does the mean of one."""
    exchange = qgenx.exchange(None, BITS)
    state = exchange.init()
    x = jnp.asarray(RNG.normal(size=40), jnp.float32)
    w = jnp.arange(40, dtype=jnp.float32)
    for of in (
        lambda x: exchange.mean(x, state)[0],
        lambda x: exchange.send(x, state)[0][1],
        lambda x: exchange.quantize(x, state),
    ):
        value, pulled = jax.vjp(of, x)
        np.testing.assert_array_equal(value, exchange.quantize(x, state))
        np.testing.assert_array_equal(pulled(w)[0], w)


@plainly
def test_through_an_update():
    """By vmap the sum of all workers' losses is differentiated: K times 1 / K."""
    optimizer = qgenx.quantized_mean(AXIS, BITS, exact=None)

    def run(x):
        loss = lambda x: jnp.sum(optimizer.update(x, optimizer.init(x))[0])  # noqa: E731
        return jax.grad(loss)(x)

    found = jax.vmap(run, axis_name=AXIS)(VECTORS["a"])
    np.testing.assert_array_equal(found, np.ones_like(found))


def test_it_costs_nothing_where_nothing_is_differentiated():
    mesh = mesh_of(WORKERS)
    mapped = jax.shard_map(
        lambda x: quantized("all_gather")(x[0]),
        mesh=mesh,
        in_specs=P(AXIS),
        out_specs=P(),
    )
    text = jax.jit(mapped).lower(VECTORS["a"]).compile().as_text()
    assert "all-reduce" not in text


def test_numpy_arrays_that_vmap_maps_over_inside_jit():
    """They are no arrays of JAX until something is computed of them."""
    flats = np.random.default_rng(0).standard_normal((3, 64)).astype("f4")
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4))

    def run(flat):
        (mean, own, _), _ = exchange.send(flat, exchange.init())
        return mean, own

    mapped = jax.vmap(run, axis_name=AXIS)
    found = jax.jit(lambda: mapped(flats))()
    expected = jax.jit(mapped)(flats)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
