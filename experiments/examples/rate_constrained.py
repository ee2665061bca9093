"""A classifier that may miss few: a constraint on a rate, by a Lagrangian.

min over weights, max over multiplier >= 0 of
loss(weights) + multiplier (mean hinge loss of malignant tumours - ALLOWED)
"""

import jax
import jax.numpy as jnp
import optax
from sklearn import datasets

import qgenx_jax as qgenx

FEATURES, BENIGN = datasets.load_breast_cancer(return_X_y=True)
X = jnp.asarray((FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0), "float32")
IS_BENIGN = BENIGN.astype("float32")
ALLOWED, ITERATIONS = 0.1, 3000


def _score(weights):  # positive for benign; a weak classifier, of three features
    return X[:, :3] @ weights["w"] + weights["b"]


def _excess(weights):
    hinge = jnp.maximum(0, 1 + _score(weights))
    return jnp.mean(hinge, where=IS_BENIGN == 0) - ALLOWED


def lagrangian(params):
    """Weights minimise it, the multiplier maximises it."""
    losses = optax.sigmoid_binary_cross_entropy(_score(params["weights"]), IS_BENIGN)
    return losses.mean() + params["multiplier"] * _excess(params["weights"])


def main():
    """Prints how many are missed, without and with the constraint; returns curves."""
    losses = {"weights": lagrangian, "multiplier": lambda params: -lagrangian(params)}
    positive = optax.projections.projection_non_negative
    zero, lines = jnp.zeros(()), {}
    start = {"weights": {"w": jnp.zeros(3), "b": zero}, "multiplier": zero}
    for name, rate in (("without", 0.0), ("with", 0.05)):
        multiplier = qgenx.extra_sgd(rate, projection=positive)
        pairs = {"weights": qgenx.extra_adam(0.01), "multiplier": multiplier}
        pair = qgenx.partition(pairs, {name: name for name in pairs})
        step = qgenx.iterate(pair, qgenx.game_operator(losses))

        def body(carry, _, step=step):
            carry = step(*carry)
            called = _score(carry[0]["weights"]) > 0
            return carry, (called[IS_BENIGN == 0].mean(), (called == IS_BENIGN).mean())

        begin = start, pair.init(start)
        _, (missed, right) = jax.lax.scan(body, begin, None, ITERATIONS)
        print(f"{name}: missed {missed[-1]:.1%}, right {right[-1]:.1%}")
        lines[name] = range(ITERATIONS), missed
    return "iteration", "share that is missed", lines


if __name__ == "__main__":
    main()
