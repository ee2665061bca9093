"""A classifier that may miss few: a constraint on a rate, by a Lagrangian.

    min over weights, max over multiplier >= 0 of
    loss(weights) + multiplier (mean hinge loss of malignant tumours - ALLOWED)

The weights are moved by Adam, the multiplier by projected SGD, both extrapolated.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn import datasets

import qgenx_jax as qgenx

FEATURES, BENIGN = datasets.load_breast_cancer(return_X_y=True)
X = jnp.asarray((FEATURES - FEATURES.mean(axis=0)) / FEATURES.std(axis=0), "float32")
IS_BENIGN = jnp.asarray(BENIGN, "float32")
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


def main() -> None:
    """Prints how many are missed, without and with the constraint."""
    losses = {"weights": lagrangian, "multiplier": lambda params: -lagrangian(params)}
    positive = optax.projections.projection_non_negative
    weights = {"w": jnp.zeros(3), "b": jnp.zeros(())}
    for name, rate in (("without", 0.0), ("with", 0.05)):
        pairs = {
            "weights": qgenx.extra_adam(0.01),
            "multiplier": qgenx.extra_sgd(rate, projection=positive),
        }
        pair = qgenx.partition(pairs, {player: player for player in pairs})
        step = jax.jit(qgenx.iterate(pair, qgenx.game_operator(losses)))
        params = {"weights": weights, "multiplier": jnp.zeros(())}
        state = pair.init(params)
        for _ in range(ITERATIONS):
            params, state = step(params, state)
        called = _score(params["weights"]) > 0
        missed = jnp.mean(called, where=IS_BENIGN == 0)
        right = jnp.mean(called == IS_BENIGN)
        print(f"{name}: missed {missed:.1%}, right {right:.1%}")


if __name__ == "__main__":
    main()
