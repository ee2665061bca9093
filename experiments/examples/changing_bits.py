"""Changing bits in a run: 2 bits first, and 8 bits at the end.

    python -m experiments.examples.changing_bits

By `uniform` states are alike for all bits: a step for each, compiled once.
"""

import jax
import jax.numpy as jnp
import optax

import qgenx_jax as qgenx

WORKERS, STEPS, CHANGE = 4, 300, 200
SOLUTION = jax.random.normal(jax.random.key(0), (64, 32))


def mean_of(bits):
    """The exchange, in so many bits."""
    return qgenx.quantized_mean("data", qgenx.uniform(bits=bits), exact=None)


def loss(params, key):
    """Least squares, of rows that a worker draws, with noise."""
    x, noise = jnp.split(jax.random.normal(key, (128, 96)), [64], axis=1)
    y = x @ SOLUTION + 0.1 * noise
    return jnp.sum((x @ params - y) ** 2) / 256


def run_of(bits):
    """The step of all workers."""
    optimizer = optax.chain(mean_of(bits), optax.sgd(0.2))

    def step(params, state, key):
        _, gradient = qgenx.value_and_grad(loss, "data")(params, key)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return qgenx.map_workers(step, "data", workers=WORKERS), optimizer


def main():
    """Prints errors and megabytes sent; returns curves to draw."""
    runs, lines = {bits: run_of(bits) for bits in (2, 8)}, {}
    sent = {bits: mean_of(bits).traffic(SOLUTION, WORKERS).sent_bytes for bits in runs}
    for name, first, then in (("2 bits", 2, 2), ("8 bits", 8, 8), ("2, then 8", 2, 8)):
        params, errors = jnp.zeros((64, 32)), []
        state = qgenx.init(runs[first][1], params, workers=WORKERS)
        for index, key in enumerate(jax.random.split(jax.random.key(1), STEPS)):
            run, _ = runs[first if index < CHANGE else then]
            params, state = run(params, state, jax.random.split(key, WORKERS))
            errors.append(jnp.linalg.norm(params - SOLUTION))
        megabytes = (CHANGE * sent[first] + (STEPS - CHANGE) * sent[then]) / 1e6
        print(f"{name}: error {errors[-1]:.3f}, {megabytes:.2f} MB sent")
        lines[name] = range(STEPS), errors
    return "step", "error", lines


if __name__ == "__main__":
    main()
