"""A network that an adversary cannot fool so easily: noise is a player in a box.

min over weights, max over |noise| <= SIZE of loss(weights, pictures + noise)
"""

import functools

import jax
import jax.numpy as jnp
import optax
from sklearn import datasets

import qgenx_jax as qgenx

X, Y = map(jnp.asarray, datasets.load_digits(return_X_y=True))
TRAIN, TEST = (X[:1400] / 16, Y[:1400]), (X[1400:] / 16, Y[1400:])
SIZE, ITERATIONS, STEPS = 0.1, 300, (0, 1, 2, 5, 10, 20)
INTO = jax.random.normal(jax.random.key(0), (64, 64)) / 8
WEIGHTS = {"in": INTO, "out": jnp.zeros((64, 10))}
BOX = functools.partial(optax.projections.projection_box, lower=-SIZE, upper=SIZE)


def _logits(weights, x):
    return jnp.tanh(x @ weights["in"]) @ weights["out"]


def _loss(params, x, y):
    found = _logits(params["weights"], x + params["noise"])
    return optax.softmax_cross_entropy_with_integer_labels(found, y).mean()


def _right(weights, x, y, steps):  # the share, after steps of projected sign ascent
    noise = jnp.zeros_like(x)
    for _ in range(steps):
        slope = jax.grad(_loss)({"weights": weights, "noise": noise}, x, y)["noise"]
        noise = BOX(noise + SIZE / 5 * jnp.sign(slope))
    return jnp.mean(_logits(weights, x + noise).argmax(axis=1) == y)


def main():
    """Prints how many test digits are right, clean and attacked; returns curves."""
    losses = {"weights": _loss, "noise": lambda *args: -_loss(*args)}
    operator, lines = qgenx.game_operator(losses), {}
    for name, rate in (("plain", 0.0), ("robust", 200.0)):
        noise = qgenx.extra_sgd(rate, projection=BOX)
        pairs = {"weights": qgenx.extra_adam(0.01), "noise": noise}
        pair = qgenx.partition(pairs, {player: player for player in pairs})
        step = jax.jit(qgenx.iterate(pair, lambda params: operator(params, *TRAIN)))
        params = {"weights": WEIGHTS, "noise": jnp.zeros_like(TRAIN[0])}
        state = pair.init(params)
        for _ in range(ITERATIONS):
            params, state = step(params, state)
        right = [_right(params["weights"], *TEST, n) for n in STEPS]
        print(f"{name}: right {right[0]:.1%}, under attack {right[-1]:.1%}")
        lines[name] = STEPS, right
    return "steps of the attack", "share that is right", lines


if __name__ == "__main__":
    main()
