"""Evaluation in the loop: the point itself, and the moving average of its path.

    python -m experiments.examples.evaluation

After a call of `alternating` parameters may be X_{t+1/2}: `x_t` reads X_t all the same.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn import datasets

import qgenx_jax as qgenx

X, Y = map(jnp.asarray, datasets.load_digits(return_X_y=True))
TRAIN, TEST = (X[:1400] / 16, Y[:1400]), (X[1400:] / 16, Y[1400:])
WORKERS, POINTS = 3, range(25, 601, 25)  # calls after which it is evaluated
MEAN = qgenx.quantized_mean("data", qgenx.best(bits=2))
PAIR = qgenx.chain(MEAN, qgenx.extra_adam(1e-2), qgenx.ema(0.98))
OPTIMIZER = qgenx.alternating(PAIR)  # two calls to an iteration


def scores(params, x):
    """Of a network with one hidden layer, for each digit."""
    return jax.nn.log_softmax(jnp.tanh(x @ params["in"]) @ params["out"])


def step(params, state, x, y):
    """A call on one worker."""
    loss = lambda p: -scores(p, x)[jnp.arange(len(y)), y].mean()  # noqa: E731
    _, gradient = qgenx.value_and_grad(loss, "data")(params)
    updates, state = OPTIMIZER.update(gradient, state, params)
    return optax.apply_updates(params, updates), state


@jax.jit
def right(params):
    """The share of test digits: no axis, no exchange."""
    return jnp.mean(scores(params, TEST[0]).argmax(axis=1) == TEST[1])


def main():
    """Prints both shares at the end, and returns the curves."""
    into = jax.random.normal(jax.random.key(0), (64, 64)) / 8
    params = {"in": into, "out": jnp.zeros((64, 10))}
    state = qgenx.init(OPTIMIZER, params, workers=WORKERS)
    run, found = qgenx.map_workers(step, "data", workers=WORKERS), ([], [])
    for call in range(1, POINTS[-1] + 1):
        rows = jax.random.choice(jax.random.key(call), len(TRAIN[0]), (WORKERS, 32))
        params, state = run(params, state, TRAIN[0][rows], TRAIN[1][rows])
        if call in POINTS:
            found[0].append(right(qgenx.x_t(state, params)))
            found[1].append(right(qgenx.ema_params(state)))
    print(f"X_t: right {found[0][-1]:.1%}\nmoving average: right {found[1][-1]:.1%}")
    lines = {"X_t": (POINTS, found[0]), "moving average": (POINTS, found[1])}
    return "call", "share that is right", lines


if __name__ == "__main__":
    main()
