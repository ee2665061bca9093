"""flax's nnx.Optimizer with a compressed mean, on three workers.

    python -m experiments.examples.nnx_optimizer

Both are split, into a graph that stays, and a state for `map_workers`.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn import datasets

import qgenx_jax as qgenx

jax.config.update("jax_num_cpu_devices", 3)  # simulated; leave it out on real ones
X, Y = map(jnp.asarray, datasets.load_digits(return_X_y=True))
STEPS, WAYS = 100, {"exact": None, "4 bits": qgenx.uniform(bits=4)}


def loss_of(state, graph, x, y):
    """Of one worker's batch, by the state of the module."""
    logits = nnx.log_softmax(nnx.merge(graph, state)(x / 16))
    return -jnp.mean(logits[jnp.arange(len(y)), y])


def train(quantizer):
    """The mean of the workers' losses, step by step."""
    mean = qgenx.quantized_mean("data", quantizer)
    mesh, rngs = jax.make_mesh((3,), ("data",)), nnx.Rngs(0)
    layers = nnx.Linear(64, 128, rngs=rngs), nnx.relu, nnx.Linear(128, 10, rngs=rngs)
    model = nnx.Sequential(*layers)
    optimizer = nnx.Optimizer(model, optax.chain(mean, optax.adam(3e-3)), wrt=nnx.Param)
    (graph, params), (other_graph, state) = nnx.split(model), nnx.split(optimizer)
    state = qgenx.lay_out(state, mesh, "data")

    def step(params, state, x, y):  # what one worker does
        model, optimizer = nnx.merge(graph, params), nnx.merge(other_graph, state)
        value, gradient = qgenx.value_and_grad(loss_of, "data")(params, graph, x, y)
        optimizer.update(model, gradient)
        return nnx.state(model), nnx.state(optimizer), value

    losses, run = [], qgenx.map_workers(step, "data", mesh=mesh)
    for key in jax.random.split(jax.random.key(1), STEPS):
        rows = jax.random.choice(key, len(X), (3, 64))  # one batch for each worker
        params, state, values = run(params, state, X[rows], Y[rows])
        losses.append(values.mean())
    return losses


def main():
    """Prints the loss at the end, exact and in 4 bits; returns curves to draw."""
    found = {name: train(WAYS[name]) for name in WAYS}
    for name, losses in found.items():
        print(f"{name}: loss {losses[0]:.3f}, at the end {losses[-1]:.3f}")
    return "step", "loss", {name: (range(STEPS), found[name]) for name in found}


if __name__ == "__main__":
    main()
