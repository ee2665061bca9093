"""Ways to run an exchange: on all workers at once, each way, and in two phases.

A run of one worker returns what is shared, and two trees with a row per worker.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of
from tests.lib.hlo import collectives


def in_shard_map(run, flats):
    specs = (P(), P(AXIS), P(AXIS))
    mapped = jax.shard_map(
        lambda flat: run(flat[0]),
        mesh=mesh_of(len(flats)),
        in_specs=P(AXIS),
        out_specs=specs,
    )
    return jax.jit(mapped)(flats)


def in_vmap(run, flats):
    mapped = jax.vmap(run, axis_name=AXIS, out_axes=(None, 0, 0))
    shared, *per_worker = jax.jit(mapped)(flats)
    return shared, *jax.tree.map(lambda x: x[:, 0], per_worker)


def in_pmap(run, flats):
    mapped = jax.pmap(run, axis_name=AXIS, devices=jax.devices()[: len(flats)])
    shared, *per_worker = mapped(flats)
    for worker in range(1, len(flats)):
        assert_trees_identical(
            jax.tree.map(lambda x, w=worker: np.asarray(x)[w], shared),
            jax.tree.map(lambda x: np.asarray(x)[0], shared),
            f"replica {worker} differs from replica 0",
        )
    first = jax.tree.map(lambda x: x[0], shared)
    return first, *jax.tree.map(lambda x: x[:, 0], per_worker)


def two_phases(quantizer, **settings):
    return qgenx.exchange(AXIS, quantizer, collective="reduce_scatter", **settings)


def send_all(exchange, trees, scalar=None):
    """Mean and numbers, equal on all workers, and each one's own, by vmap."""

    def run(tree):
        (mean, own, numbers), _ = exchange.send(tree, exchange.init(), scalar=scalar)
        return (mean, numbers), own

    return jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=(None, 0)))(trees)


def buckets_of(size, workers, bucket_size):
    """(start, end) of every bucket: chunks of ceil(d / K), each cut by itself.

    Or of whole buckets, where that adds less than 1/128.
    """
    chunk = -(-size // workers)
    short = chunk % (bucket_size or 1)
    if short and (bucket_size - short) * 128 <= chunk:
        chunk += bucket_size - short
    for start in range(0, size, chunk or 1):
        end = min(start + chunk, size)
        length = bucket_size or chunk
        for low in range(start, end, length):
            yield low, min(low + length, end)


def tree_of(flat):
    """Leaves that stay exact under `small_leaves`, and one that does not."""
    return {
        "bias": flat[:7],
        "half": flat[7:27].astype(jnp.bfloat16),
        "kernel": flat[27 : 27 + 2048].reshape(32, 64),
        "scalar": flat[-1],
    }


def mixed_tree(flat):
    """Of 207 numbers: float32, bfloat16, and a leaf that `is_small` keeps exact."""
    return {
        "a": flat[:130].reshape(13, 10),
        "half": flat[130:180].astype(jnp.bfloat16),
        "exact": flat[180:],
    }


def is_small(path, leaf):
    return leaf.size < 50


def in_each_mapping(exchange, flats, *, pmap=True):
    """The mean of `mixed_tree`, and own vectors, the same bits in every mapping."""

    def run(flat):
        (mean, own, _), state = exchange.send(mixed_tree(flat), exchange.init())
        shared = mean, jax.random.key_data(state.key), state.levels
        return shared, jax.tree.map(lambda x: x[None], own), None

    by_vmap = in_vmap(run, flats)
    assert_trees_identical(in_shard_map(run, flats), by_vmap, "shard_map against vmap")
    if pmap:
        assert_trees_identical(in_pmap(run, flats), by_vmap, "pmap against vmap")
    (mean, _, _), own, _ = by_vmap
    return mean, own


def assert_same_bits_optimized(exchange, flats):
    """As users run it: by vmap, on a mesh, outside jit and in a scan of exchanges."""

    def run(flat):
        def one(state, _):
            mean, state = exchange.mean(flat, state)
            return state, mean

        state, means = jax.lax.scan(one, exchange.init(), None, length=3)
        return (means, jax.random.key_data(state.key)), None, None

    by_vmap = in_vmap(run, flats)
    assert_trees_identical(in_shard_map(run, flats), by_vmap, "shard_map against vmap")
    (means, _), _, _ = by_vmap
    state = exchange.init()
    each = jax.vmap(exchange.mean, in_axes=(0, None), out_axes=None, axis_name=AXIS)
    np.testing.assert_array_equal(each(flats, state)[0], means[0])
    step = jax.jit(each)
    for scanned in means:
        mean, state = step(flats, state)
        np.testing.assert_array_equal(mean, scanned)


def assert_moves_its_traffic(exchange):
    """Bytes in the compiled program are those of `Traffic`, and no float is moved.

    Returns:
        The mean of zeros of 3 workers, and the traffic.
    """
    flats = jnp.zeros((3, 207))

    def run(flats):
        return exchange.mean(mixed_tree(flats[0]), exchange.init())[0]

    mapped = jax.shard_map(run, mesh=mesh_of(3), in_specs=P(AXIS), out_specs=P())
    compiled = jax.jit(mapped).lower(flats).compile()
    found = collectives(compiled.as_text())
    moved = sum(size for _, dtype, size in found if dtype == "u8")
    traffic = exchange.traffic(jax.eval_shape(mixed_tree, flats[0]), 3)
    gathered = [3 * p.payload_bytes for p in traffic.phases if "gather" in p.collective]
    others = [p.payload_bytes for p in traffic.phases if "gather" not in p.collective]
    assert moved == sum(gathered) + sum(others)
    assert all(dtype == "u8" for _, dtype, _ in found)
    return compiled(flats), traffic


def assert_alike_over_hosts(exchange, flats, most):
    """Means of (2, 2, d) vectors, of hosts and chips: equal, and not far off."""

    def worker(flat):
        return exchange.mean(flat, exchange.init())[0]

    mapped = jax.vmap(jax.vmap(worker, axis_name="chip"), axis_name="host")
    mean = jax.jit(mapped)(flats)
    assert (mean == mean[:1, :1]).all()
    exact = flats.mean(axis=(0, 1))
    assert 0 < jnp.linalg.norm(mean[0, 0] - exact) < most * jnp.linalg.norm(exact)
