"""One process of several: what test_processes.py runs, and compares with.

As a program, `python process_worker.py COORDINATOR PROCESSES PROCESS FILE`, it is one
worker with one CPU device, that talks to the others over gloo and writes what it got.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx

AXIS = "data"
SIZE = 500
EXCHANGES = (
    ("uniform", 8, "all_gather"),
    ("uniform", 4, "all_gather"),
    ("uniform", 4, "reduce_scatter"),
    ("dithered", 3, "reduce_scatter"),
)
QUANTIZERS = {
    "uniform": qgenx.uniform,
    "dithered": functools.partial(qgenx.dithered, bend=0.8),
}
VARIANTS = ("dual_averaging", "dual_extrapolation", "optimistic")
ITERATIONS = 5


def data_of(worker, *shape):
    """What only this worker knows: vectors from a generator of its own."""
    rng = np.random.default_rng([7, worker])
    return rng.normal(size=(*shape, SIZE)).astype(np.float32)


def over_workers(mesh, shape):
    """A global array of a row per worker; a process makes only the rows it holds."""
    sharding = NamedSharding(mesh, P(AXIS))
    here = [
        worker
        for worker, device in enumerate(mesh.devices.flat)
        if device.process_index == jax.process_index()
    ]
    rows = np.stack([data_of(worker, *shape) for worker in here])
    everywhere = (mesh.size, *shape, SIZE)
    return jax.make_array_from_process_local_data(sharding, rows, everywhere)


def exchanged(mesh, family, bits, collective):
    """One quantized exchange of a vector per worker: (mean, own, numbers) and key."""
    exchange = qgenx.exchange(
        AXIS,
        QUANTIZERS[family](bits, bucket_size=64),
        collective=collective,
        key=jax.random.key(5),
    )

    def worker(vector, key):
        state = exchange.init()._replace(key=key)
        (mean, own, numbers), state = exchange.send(
            vector[0], state, scalar=lambda own: jnp.max(own)
        )
        return {"mean": mean, "numbers": numbers, "key": state.key}, own[None]

    mapped = jax.shard_map(
        worker, mesh=mesh, in_specs=(P(AXIS), P()), out_specs=(P(), P(AXIS))
    )
    replicated, own = jax.jit(mapped)(over_workers(mesh, ()), exchange.init().key)
    return {**replicated, "own": own}


def iterated(mesh, variant):
    """Parameters and state after some quantized iterations on the workers' data."""
    pair = qgenx.chain(
        qgenx.q_genx(
            AXIS,
            qgenx.uniform(4, bucket_size=64),
            variant=variant,
            gamma0=0.1,
            key=jax.random.key(3),  # of this process, on a device of its own
        ),
        qgenx.ergodic_average(),
    )
    operator = jax.grad(lambda x, target: 0.5 * jnp.sum((x["x"] - target) ** 2))
    step = qgenx.iterate(pair, operator, axis_name=AXIS)
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    # placed: one compilation, and not a second one for the parameters that come back
    x = jax.device_put({"x": np.zeros(SIZE, np.float32)}, NamedSharding(mesh, P()))
    state = qgenx.init(pair, x, mesh, AXIS)
    targets = over_workers(mesh, (1 if pair.is_oracle_free else 2,))
    for _ in range(ITERATIONS):
        x, state = run(x, state, targets)
    return {"x": x, "state": state}


def exchanges_of(count):
    """All among two processes; of more, one of each collective."""
    return EXCHANGES if count == 2 else EXCHANGES[1:]


def variants_of(count):
    """All among two processes; of more, one that keeps vectors of each worker."""
    return VARIANTS if count == 2 else VARIANTS[2:]


def results(mesh):
    """Everything, as {name: array}; arrays are global."""
    exchanges, variants = exchanges_of(mesh.size), variants_of(mesh.size)
    everything = {
        "exchange": {how: exchanged(mesh, *how) for how in exchanges},
        "q_genx": {variant: iterated(mesh, variant) for variant in variants},
    }
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(everything):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found[jax.tree_util.keystr(path)] = leaf
    return found


def is_per_worker(name):
    """Whether an array has a row per worker; all others are replicated."""
    return "per_worker" in name or name.endswith("['own']")


def compare_replicas(found):
    """What is equal passes, and what only this process knows is found to differ."""
    assert qgenx.check_replicas({"found": found, "same": np.ones(3)})
    with pytest.raises(ValueError, match=r"\['seed'\] of .* process 0 \| process 1"):
        qgenx.check_replicas({"same": 3, "seed": data_of(jax.process_index())})


def main(coordinator, processes, process, file):
    """One process: joins the others, runs, writes the device's own shards."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.distributed.initialize(
        coordinator,
        int(processes),
        int(process),
        initialization_timeout=60,
        coordinator_bind_address=coordinator,
    )
    assert jax.process_count() == jax.device_count() == int(processes)
    assert jax.local_device_count() == 1
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    shards = {}
    found = results(mesh)
    compare_replicas(found)
    for name, array in found.items():
        assert array.is_fully_replicated != is_per_worker(name), name
        (shard,) = array.addressable_shards
        shards[name] = np.asarray(shard.data)
    np.savez(file, **shards)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
