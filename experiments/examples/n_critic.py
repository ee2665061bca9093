"""Five updates of a critic to one of the generator, each player with its own pair.

    python -m experiments.examples.n_critic

A WGAN of normal laws, whose critic is a quadratic. Only who moves sends a vector.
"""

import jax
import jax.numpy as jnp

import qgenx_jax as qgenx

WORKERS, ITERATIONS, TURNS = 3, 300, (*5 * ["critic"], "generator")
CENTRE, SCALE = jnp.array([2.0, -1.0]), 0.5
MEAN = qgenx.quantized_mean("data", qgenx.best(bits=4), exact=None)
PAIRS = {
    "generator": qgenx.chain(MEAN, qgenx.extra_adam(0.03, b1=0.5, b2=0.9)),
    "critic": qgenx.chain(MEAN, qgenx.extra_adam(0.1, b1=0.5, b2=0.9)),
}


def loss(player, params, key):
    """Of one worker's batch; the critic also keeps small."""
    noise, (shift, log_scale) = jax.random.normal(key, (2, 256, 2)), params["generator"]
    real, made = CENTRE + SCALE * noise[0], shift + jnp.exp(log_scale) * noise[1]
    moments = jnp.stack([(real - made).mean(axis=0), (real**2 - made**2).mean(axis=0)])
    found, small = jnp.vdot(params["critic"], moments), jnp.sum(params["critic"] ** 2)
    return found if player == "generator" else small / 2 - found


def step(params, state, keys):
    """An iteration on one worker; in each turn the other player stands still."""
    for player, of_turn in zip(TURNS, keys, strict=True):

        def own(x, key, player=player, params=params):
            return jax.grad(lambda x: loss(player, {**params, player: x}, key))(x)

        iterate = qgenx.iterate(PAIRS[player], own, axis_name="data")
        x, own_state = iterate(params[player], state[player], of_turn)
        params, state = {**params, player: x}, {**state, player: own_state}
    return params, state


def main():
    """Prints how far the generator's law is off, and returns the curve."""
    params = {player: jnp.zeros((2, 2)) for player in PAIRS}
    state = {p: qgenx.init(PAIRS[p], params[p], workers=WORKERS) for p in PAIRS}
    run, off = qgenx.map_workers(step, "data", workers=WORKERS), []
    for key in jax.random.split(jax.random.key(0), ITERATIONS):
        # for each worker, turn and oracle call a key of its own
        params, state = run(params, state, jax.random.split(key, (WORKERS, 6, 2)))
        shift, log_scale = params["generator"]
        off.append(jnp.hypot(shift - CENTRE, jnp.exp(log_scale) - SCALE).max())
    print(f"off by {off[0]:.3f}, at the end {off[-1]:.3f}")
    return "update of the generator", "distance", {"law": (range(ITERATIONS), off)}


if __name__ == "__main__":
    main()
