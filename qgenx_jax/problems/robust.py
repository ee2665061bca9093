"""Logistic regression against an adversary that weighs the examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from optax import projections

from qgenx_jax import _checks
from qgenx_jax._types import Array, Params
from qgenx_jax.problems.data import data_problem, labelled
from qgenx_jax.problems.game_problem import GameProblem
from qgenx_jax.problems.regression import half_way, newton
from qgenx_jax.problems.sets import onto_simplex

_NEWTON_STEPS = 30


def robust_logistic_regression(
    features: Any, labels: Any, *, ridge: float = 0.01, penalty: float = 0.1
) -> GameProblem:
    """min over w, max over p in the simplex of sum_i p_i l_i(w) + regularisers.

        f(w, p) = sum_i p_i log(1 + exp(-y_i x_i . w)) + ridge ||w||^2 / 2
                  - penalty n ||p - 1/n||^2 / 2

    convex in w and concave in p: the worst distribution near the uniform one.

    Args:
        features: X, rows x_i, shape (n, d).
        labels: y_i, -1 or 1, shape (n,).
        ridge: positive.
        penalty: positive; how hard it is to leave the uniform distribution.

    Returns:
        The problem, of players "weights", shape (d,), starting from 0, and "examples",
        shape (n,), uniform; with `spread` each worker has its own rows, see
        `problems.data`. `gap` is the duality gap

            max over p' of f(w, p') - min over w' of f(w', p),

        which is at least the restricted gap over any set. Its maximum is a projection;
        its minimum is bounded from below by strong convexity, f(w') - ||slope||^2 /
        (2 ridge), at a w' that Newton steps find: the value is certified. The lower
        one of `gap_bounds` is below the restricted gap, as in `logistic_regression`.

    Raises:
        ValueError: for other shapes or labels, a ridge or penalty that is not positive.

    Example:
        >>> import qgenx_jax as qgenx
        >>> x, y = [[1.0], [2.0], [-1.0]], [-1, 1, -1]
        >>> problem = qgenx.problems.robust_logistic_regression(x, y)
        >>> bool(problem.gap(problem.solution) < 1e-5)
        True

    References:
        Namkoong and Duchi, Stochastic Gradient Methods for Distributionally Robust
        Optimization with f-divergences, NeurIPS 2016.
    """
    rows, signs = labelled(features, labels)
    _checks.positive("ridge", ridge, "0.01 is the default")
    _checks.positive("penalty", penalty, "0.1 is the default")
    n, d = rows.shape
    signed = rows * signs[:, None]
    flat = newton(_worst_case(signed, ridge, penalty), np.zeros(d))
    worst = _worst(np.logaddexp(0, -(signed @ flat)), penalty)
    solution = {"weights": jnp.asarray(flat), "examples": jnp.asarray(worst)}
    z = jnp.asarray(signed)

    def loss(params: Params, weights: Array) -> Array:
        w, p = params["weights"], params["examples"]
        fit = (weights * p) @ jax.nn.softplus(-(z @ w))
        return fit + ridge * (w @ w) / 2 - penalty * n * jnp.sum((p - 1 / n) ** 2) / 2

    def project(x: Params) -> Params:
        return {**x, "examples": projections.projection_simplex(x["examples"])}

    def merit(x: Params, radius: float | None) -> tuple[Array, Array]:
        w, p = x["weights"], x["examples"]
        ones = jnp.ones(n)
        shifted = 1 / n + jax.nn.softplus(-(z @ w)) / (penalty * n)
        best = {"weights": w, "examples": projections.projection_simplex(shifted)}
        answer = {"weights": _answer(z, ridge, p, w), "examples": p}
        slope = jax.grad(loss)(answer, ones)["weights"]
        least = loss(answer, ones) - slope @ slope / (2 * ridge)
        lower = half_way(problem.operator, x, solution, radius)
        return lower, jnp.maximum(lower, loss(best, ones) - least)

    problem = data_problem(
        {"weights": loss, "examples": lambda x, weights: -loss(x, weights)},
        {"weights": jnp.zeros(d), "examples": jnp.full(n, 1 / n)},
        n,
        solution=solution,
        projection=project,
        merit=merit,
        strong=float(min(ridge, penalty * n)),
    )
    return problem


def _worst(losses: np.ndarray, penalty: float) -> np.ndarray:
    """The maximising p: the projection of 1/n + l / (penalty n) onto the simplex."""
    return onto_simplex(1 / len(losses) + losses / (penalty * len(losses)))


def _worst_case(signed: np.ndarray, ridge: float, penalty: float) -> Any:
    """Value, gradient and curvature of w -> max over p of f(w, p), for `newton`."""
    n, d = signed.shape

    def parts(w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        margins = signed @ w
        losses, wrong = np.logaddexp(0, -margins), np.exp(-np.logaddexp(0, margins))
        p = _worst(losses, penalty)
        off = penalty * n * ((p - 1 / n) ** 2).sum() / 2
        value = p @ losses + ridge * w @ w / 2 - off
        slope = -signed.T @ (p * wrong) + ridge * w
        curvature = (signed.T * (p * wrong * (1 - wrong))) @ signed + ridge * np.eye(d)
        # p moves with the losses of the examples that have weight, its sum does not
        moving = signed[p > 0] * wrong[p > 0, None]
        moving = moving - moving.mean(axis=0)
        return float(value), slope, curvature + moving.T @ moving / (penalty * n)

    return parts


def _answer(z: Array, ridge: float, p: Array, w: Array) -> Array:
    """Near the w' that minimises f(w', p): Newton steps of the best of some lengths."""
    lengths = jnp.asarray([0.0, *(0.5**k for k in range(12))], w.dtype)

    def value(w: Array) -> Array:
        return p @ jax.nn.softplus(-(z @ w)) + ridge * (w @ w) / 2

    def step(_: int, w: Array) -> Array:
        direction = jnp.linalg.solve(jax.hessian(value)(w), jax.grad(value)(w))
        tried = w[None] - lengths[:, None] * direction[None]
        whole = w - direction
        found = tried[jnp.argmin(jax.vmap(value)(tried))]
        # values near the minimum are alike, slopes are not
        better = jnp.linalg.norm(jax.grad(value)(whole)) < jnp.linalg.norm(
            jax.grad(value)(found)
        )
        return jnp.where(better, whole, found)

    return jax.lax.fori_loop(0, _NEWTON_STEPS, step, w)
