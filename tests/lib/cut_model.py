"""A small model whose parameters are cut over four workers, and its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

WORKERS = 4
KEY = jax.random.key(7)
QUANTIZERS = {
    "exact": None,
    "8 bits": qgenx.uniform(8, bucket_size=64),
    "a bucket over the end": qgenx.uniform(8, bucket_size=100),
    "dithered": qgenx.dithered(8, bend=1.0, bucket_size=64),
    "rotated": qgenx.rotated(qgenx.uniform(8, bucket_size=64)),
    "min_max": qgenx.min_max(8, bucket_size=64),
}


@functools.cache
def problem():
    rng = np.random.default_rng(0)
    params = {
        "first": rng.normal(size=(24, 64)) / 5,
        "bias": rng.normal(size=(64,)),
        "odd": rng.normal(size=(3,)),
        "second": rng.normal(size=(64, 24)) / 8,
    }
    batch = rng.normal(size=(2, WORKERS, 8, 24))
    return jax.tree.map(np.float32, (params, *batch))


SPECS = {"first": P(None, AXIS), "bias": P(AXIS), "odd": P(), "second": P(AXIS)}


def whole_loss(params, x, y):
    hidden = jnp.tanh(x @ params["first"] + params["bias"][None])
    return (
        jnp.mean((hidden @ params["second"] - y) ** 2) + params["odd"].sum() * x.mean()
    )


def loss_of(quantizer, key=KEY, **settings):
    settings = {"specs": SPECS, **settings}

    def loss(shards, x, y):
        params = qgenx.gather_params(shards, AXIS, quantizer, key=key, **settings)
        return whole_loss(params, x, y)

    return loss


def in_shard_map(loss, mesh=None):
    """Gradients of all, as one array whose shards are the workers'."""
    mesh = mesh_of(WORKERS) if mesh is None else mesh
    params, x, y = problem()

    def worker(shards, x, y):
        return jax.grad(loss)(shards, x[0], y[0])

    run = jax.shard_map(
        worker, mesh=mesh, in_specs=(SPECS, P(AXIS), P(AXIS)), out_specs=SPECS
    )
    return jax.jit(run)(params, x, y)


def in_vmap(loss):
    """The same by vmap, where JAX tracks nothing."""
    params, x, y = problem()
    axes = {"first": 1, "bias": 0, "odd": None, "second": 0}

    def cut(x, axis):
        if axis is None:
            return jnp.stack([x] * WORKERS)
        return jnp.stack(jnp.split(jnp.asarray(x), WORKERS, axis))

    shards = {name: cut(params[name], axis) for name, axis in axes.items()}
    found = jax.jit(jax.vmap(jax.grad(loss), axis_name=AXIS))(shards, x, y)
    return {
        name: found[name][0] if axis is None else jnp.concatenate([*found[name]], axis)
        for name, axis in axes.items()
    }


@functools.cache
def each_workers():
    params, x, y = problem()
    return jax.vmap(jax.grad(whole_loss), in_axes=(None, 0, 0))(params, x, y)


def mean_gradient():
    return jax.tree.map(lambda g: g.mean(axis=0), each_workers())
