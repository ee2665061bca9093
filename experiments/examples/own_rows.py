"""Each process reads its own rows, and one array of all rows goes into the step.

    python -m experiments.examples.own_rows

Starts two of itself; on two machines start `... own_rows NUMBER HOST:PORT` on each.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from experiments.common import processes


def work(number, coordinator):
    """One process: its rows are its own, its parameters those of all."""
    jax.distributed.initialize(coordinator, 2, int(number))  # before anything else
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    mean = qgenx.quantized_mean("data", qgenx.uniform(bits=4), exact=None)
    optimizer = optax.chain(mean, optax.adam(0.03))

    def step(params, state, x, y):
        loss = qgenx.value_and_grad(lambda p: jnp.mean((x @ p - y) ** 2), "data")
        value, gradient = loss(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    run, cut = (
        qgenx.map_workers(step, "data", mesh=mesh),
        NamedSharding(mesh, P("data")),
    )
    params = jax.device_put(np.zeros((32, 1), "f4"), NamedSharding(mesh, P()))
    state = qgenx.init(optimizer, params, mesh, "data")
    own_loss = 0.0
    data = np.random.default_rng(int(number))  # a file of this process's, say
    for _ in range(200):
        x = data.normal(size=(jax.local_device_count(), 64, 32)).astype("f4")
        y = x.sum(axis=2, keepdims=True) + data.normal(size=(64, 1)).astype("f4")
        rows = [jax.make_array_from_process_local_data(cut, own) for own in (x, y)]
        params, state, losses = run(params, state, *rows)
        own_loss = np.mean([shard.data for shard in losses.addressable_shards])
    qgenx.check_replicas((params, state))  # equal on all processes, to the last bit
    print(f"process {number}: loss {own_loss:.4f}, norm {jnp.linalg.norm(params):.6f}")


def main():
    """Starts the processes, and prints what each of them did."""
    if len(sys.argv) == 3:
        return work(*sys.argv[1:])
    return processes.run_numbered("experiments.examples.own_rows", 2)


if __name__ == "__main__":
    main()
