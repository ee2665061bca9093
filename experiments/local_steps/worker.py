"""One of K processes that train a decoder of bytes together; process 0 prints rows.

    python -m experiments.local_steps.worker NODE NODES HOST:PORT METHOD STEPS

A row is a line of JSON: step, the seconds of training until then, without compilation
and without scoring, and the loss of the shared parameters on bytes held out.
"""

import json
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import qgenx_jax as qgenx
from experiments.transformer import text
from experiments.transformer.model import Decoder, next_byte_loss

AXIS, LENGTH, SEQUENCES, SCORE_EVERY = "data", 64, 8, 16
METHODS = {
    "exact": (1, None),
    "4 bits": (1, qgenx.uniform(4)),
    "exact, H = 16": (16, None),
    "4 bits, H = 16": (16, qgenx.uniform(4)),
    "best(2), H = 16": (16, qgenx.best(2)),
}
"""Steps from one exchange to the next, and what it rounds to."""


def mean_of(name: str) -> Any:
    """A method's exchange."""
    quantizer = METHODS[name][1]
    collective = "exact" if quantizer is None else "reduce_scatter"
    return qgenx.quantized_mean(AXIS, quantizer, collective=collective)


def optimizer_of(name: str) -> Any:
    """AdamW after an exchanged mean; or DiLoCo, AdamW inside Nesterov's SGD."""
    every, mean = METHODS[name][0], mean_of(name)
    inner = optax.adamw(1e-3, weight_decay=0.01)
    if every == 1:
        return optax.chain(mean, inner)
    outer = optax.sgd(0.7, momentum=0.9, nesterov=True)
    return qgenx.local_steps(every, inner, mean, outer=outer)


def traffic_of(name: str, params: Any, workers: int) -> tuple[qgenx.Traffic, int]:
    """Bytes of one exchange, and the steps from one to the next."""
    return mean_of(name).traffic(params, workers), METHODS[name][0]


def model_of() -> Decoder:
    """About 140,000 parameters."""
    return Decoder(layers=2, width=64, heads=2, length=LENGTH)


def initial(model: Decoder) -> Any:
    """The parameters that all begin with."""
    tokens = jnp.zeros((1, LENGTH), jnp.int32)
    return model.init(jax.random.key(0), tokens)["params"]


def train(name: str, mesh: jax.sharding.Mesh, steps: int) -> Any:
    """Rows, as they come."""
    model, optimizer = model_of(), optimizer_of(name)
    params = jax.device_put(initial(model), NamedSharding(mesh, PartitionSpec()))
    state = qgenx.init(optimizer, params, mesh, AXIS)
    is_local = METHODS[name][0] > 1

    def step(params: Any, state: Any, tokens: jax.Array) -> Any:
        here = qgenx.x_local(state, params) if is_local else params
        differentiate = qgenx.value_and_grad(
            lambda params, tokens: next_byte_loss(model, params, tokens), AXIS
        )
        _, gradient = differentiate(here, tokens)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    run: Any = qgenx.map_workers(step, AXIS, mesh=mesh)
    data = text.library_sources()
    workers, number = mesh.size, jax.process_index()
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    held = text.batches(data, 0, (64,), LENGTH + 1, seed=99).astype(np.int32)
    score = jax.jit(lambda params: next_byte_loss(model, params, jnp.asarray(held)))

    def batch(i: int) -> jax.Array:
        shape = (workers, SEQUENCES)
        rows = text.batches(data, i, shape, LENGTH + 1, seed=0).astype(np.int32)
        own = rows[number : number + 1]
        return jax.make_array_from_process_local_data(sharding, own, rows.shape)

    compiled = run.lower(params, state, batch(0)).compile()
    seconds = 0.0
    for i in range(steps):
        tokens = batch(i)
        start = time.perf_counter()
        params, state = jax.block_until_ready(compiled(params, state, tokens))
        seconds += time.perf_counter() - start
        if (i + 1) % SCORE_EVERY == 0:
            whole = jax.tree.map(lambda x: jnp.asarray(x.addressable_data(0)), params)
            yield {"step": i + 1, "seconds": seconds, "loss": float(score(whole))}


def main() -> None:
    """Joins the others, trains, and prints."""
    node, nodes, coordinator, name, steps = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    bind = coordinator if node == "0" else None
    jax.distributed.initialize(
        coordinator, int(nodes), int(node), coordinator_bind_address=bind
    )
    mesh = jax.make_mesh(
        (int(nodes),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,)
    )
    for row in train(name, mesh, int(steps)):
        if node == "0":
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
