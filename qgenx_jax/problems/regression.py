"""Convex minimisation as a VI: least squares and logistic regression."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from qgenx_jax import _checks
from qgenx_jax._types import Array, Params
from qgenx_jax.problems import spectra
from qgenx_jax.problems.affine import AffineProblem
from qgenx_jax.problems.arrays import real_array
from qgenx_jax.problems.data import data_problem, labelled
from qgenx_jax.problems.game_problem import GameProblem


def least_squares(features: Any, targets: Any, *, ridge: float = 0.0) -> GameProblem:
    """min over w of ||X w - y||^2 / (2 n) + ridge ||w||^2 / 2.

    Args:
        features: X, shape (n, d).
        targets: y, shape (n,).
        ridge: at least 0.

    Returns:
        The problem, of one player "weights", shape (d,), starting from 0; with `spread`
        each worker has its own rows, see `problems.data`. `solution` is None where
        there are several. `gap` is exact, over the Euclidean ball of the radius around
        the (shortest) solution.

    Raises:
        ValueError: for other shapes, or a negative ridge.

    Example:
        >>> import qgenx_jax as qgenx
        >>> x = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
        >>> problem = qgenx.problems.least_squares(x, [1.0, 2.0, 3.0])
        >>> [round(float(w), 4) for w in problem.solution["weights"]]
        [1.0, 2.0]
    """
    rows = real_array("features", features, (None, None))
    n, d = rows.shape
    y = real_array("targets", targets, (n,))
    _checks.at_least_zero("ridge", ridge, "0.0 is the default")
    # as one least-squares problem, whose condition is the root of the matrix's
    stacked = np.concatenate([rows / np.sqrt(n), np.sqrt(ridge) * np.eye(d)])
    right = np.concatenate([y / np.sqrt(n), np.zeros(d)])
    flat, _, rank, _ = np.linalg.lstsq(stacked, right)
    matrix = stacked.T @ stacked
    parts = (matrix, -rows.T @ y / n, flat)
    affine = AffineProblem(*(jnp.asarray(part) for part in parts))
    x, aims = jnp.asarray(rows), jnp.asarray(y)

    def loss(params: Params, weights: Array) -> Array:
        w = params["weights"]
        return jnp.mean(weights * (x @ w - aims) ** 2) / 2 + ridge * (w @ w) / 2

    def merit(point: Params, radius: float | None) -> tuple[Array, Array]:
        gap = affine.gap(point["weights"], 1.0 if radius is None else radius)
        return gap, gap

    return data_problem(
        {"weights": loss},
        {"weights": jnp.zeros(d)},
        n,
        solution={"weights": affine.solution} if rank == d else None,
        merit=merit,
        **spectra.constants(matrix),
    )


def logistic_regression(
    features: Any, labels: Any, *, ridge: float = 0.01
) -> GameProblem:
    """min over w of mean_i log(1 + exp(-y_i x_i . w)) + ridge ||w||^2 / 2.

    Args:
        features: X, rows x_i, shape (n, d).
        labels: y_i, -1 or 1, shape (n,).
        ridge: positive.

    Returns:
        The problem, of one player "weights", shape (d,), starting from 0; with `spread`
        each worker has its own rows, see `problems.data`. `gap` is f(x) - min f, which
        is at least sup { <grad f(y), x - y> } over any set, whatever the radius; the
        lower one of `gap_bounds` is <A(y), x - y> for y half way to the solution, or
        on the ball of the radius.

    Raises:
        ValueError: for other shapes or labels, or a ridge that is not positive.

    Example:
        >>> import qgenx_jax as qgenx
        >>> problem = qgenx.problems.logistic_regression([[1.0], [2.0]], [-1, 1])
        >>> bool(problem.gap(problem.start) > problem.gap(problem.solution))
        True
    """
    rows, signs = labelled(features, labels)
    _checks.positive("ridge", ridge, "0.01 is the default")
    n, d = rows.shape
    signed = rows * signs[:, None]

    def parts(w: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        margins = signed @ w
        wrong = np.exp(-np.logaddexp(0, margins))  # the probability of the other label
        value = np.logaddexp(0, -margins).mean() + ridge * w @ w / 2
        curvature = (signed.T * (wrong * (1 - wrong))) @ signed / n
        slope = -signed.T @ wrong / n + ridge * w
        return float(value), slope, curvature + ridge * np.eye(d)

    flat = newton(parts, np.zeros(d))
    value, slope, _ = parts(flat)
    least = value - slope @ slope / (2 * ridge)  # f is strongly convex: not below this
    z, solution = jnp.asarray(signed), {"weights": jnp.asarray(flat)}

    def loss(params: Params, weights: Array) -> Array:
        w = params["weights"]
        return jnp.mean(weights * jax.nn.softplus(-(z @ w))) + ridge * (w @ w) / 2

    def merit(x: Params, radius: float | None) -> tuple[Array, Array]:
        upper = loss(x, jnp.ones(n)) - least
        lower = half_way(problem.operator, x, solution, radius)
        return lower, jnp.maximum(lower, upper)

    largest = float(np.linalg.norm(rows, 2) ** 2 / (4 * n) + ridge)
    problem = data_problem(
        {"weights": loss},
        {"weights": jnp.zeros(d)},
        n,
        solution=solution,
        merit=merit,
        lipschitz=largest,
        strong=float(ridge),
        cocoercive=1 / largest,
    )
    return problem


def newton(
    parts: Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]],
    x: np.ndarray,
) -> np.ndarray:
    """The minimum of a strongly convex function, by Newton steps that are halved.

    Args:
        parts: `parts(x) -> (value, gradient, curvature)`, float64; the curvature may be
            one of several where the gradient has a kink.
        x: where to start, shape (d,).

    Returns:
        The point of the smallest gradient found.
    """
    best, smallest = x, np.inf
    for _ in range(100):
        value, slope, curvature = parts(x)
        norm = float(np.linalg.norm(slope))
        if norm < smallest:
            best, smallest = x, norm
        elif norm < 1e-10:
            break  # rounding has the last word
        step, length = np.linalg.solve(curvature, slope), 1.0
        while parts(x - length * step)[0] > value - 1e-4 * length * (slope @ step):
            length /= 2
            if length < 1e-6:
                length = 1.0  # the values are alike: near the minimum steps are whole
                break
        x = x - length * step
    return best


def half_way(
    operator: Callable[[Params], Params],
    x: Params,
    solution: Params,
    radius: float | None,
) -> Array:
    """<A(y), x - y> for y between the solution and x, at most `radius` from it.

    Args:
        operator: A.
        x: a point.
        solution: x*.
        radius: R, None for no limit.

    Returns:
        Scalar, a number below the gap over the ball, at least 0 if A is monotone.
    """
    flat, unravel = ravel_pytree(x)
    away = flat - ravel_pytree(solution)[0]
    length = jnp.linalg.norm(away)
    tiny = jnp.finfo(flat.dtype).tiny
    limit = 1.0 if radius is None else radius / jnp.maximum(length, tiny)
    part = 1 - jnp.minimum(0.5, limit)
    a, _ = ravel_pytree(operator(unravel(flat - part * away)))
    return jnp.maximum(part * (a @ away), 0)
