"""Ways to run an exchange: on all workers at once, each way, and in two phases.

A run of one worker returns what is shared, and two trees with a row per worker.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of


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
