"""From two losses to a solution with a certificate: how far it is off at most.

    python -m experiments.examples.own_losses

A zero-sum game min over u, max over w of f, which is strongly convex and concave with
modulus mu: there ||x - x*|| <= ||A(x)|| / mu for every x.
"""

import jax
import jax.numpy as jnp
import optax

import qgenx_jax as qgenx

MU = 0.1
WORKERS, ITERATIONS = 4, 2000
KEYS = jax.random.split(jax.random.key(0))
M = jax.random.normal(KEYS[0], (10, 10)) / 5
B, C = jax.random.normal(KEYS[1], (2, 10))


def f(params, key=None):
    """The payoff from u to w, as a worker sees it: with a sample of b by its key."""
    u, w = params["u"], params["w"]
    b = B if key is None else B + 0.1 * jax.random.normal(key, B.shape)
    convex, concave = MU / 2 * u @ u + b @ u, MU / 2 * w @ w - C @ w
    return convex + u @ M @ w - concave


def main():
    """Prints the certificate before and after; returns its curve to draw."""
    operator = qgenx.game_operator({"u": f, "w": lambda *args: -f(*args)})
    pair = qgenx.chain(
        qgenx.q_genx("data", qgenx.uniform(bits=4)), qgenx.ergodic_average()
    )
    step = qgenx.map_workers(qgenx.iterate(pair, operator), "data", workers=WORKERS)

    def off(params):
        return optax.global_norm(operator(params)) / MU

    def body(carry, key):
        # for each worker, and each oracle call of an iteration, a key of its own
        carry = step(*carry, jax.random.split(key, (WORKERS, 2)))
        return carry, off(qgenx.ergodic_average_params(carry[1]))

    params = {"u": jnp.zeros(10), "w": jnp.zeros(10)}
    print(f"distance at most {off(params):.3f}")
    start = params, qgenx.init(pair, params, workers=WORKERS)
    keys = jax.random.split(jax.random.key(1), ITERATIONS)
    _, found = jax.jit(lambda start: jax.lax.scan(body, start, keys))(start)
    print(f"distance at most {found[-1]:.3f}")
    return "iteration", "distance at most", {"average": (range(ITERATIONS), found)}


if __name__ == "__main__":
    main()
