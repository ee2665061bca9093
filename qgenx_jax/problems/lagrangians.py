"""Saddle points of Lagrangians: quadratic programs with multipliers as a player."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from qgenx_jax import _checks
from qgenx_jax._types import Array, Params
from qgenx_jax.problems import interior, spectra
from qgenx_jax.problems.affine import AffineProblem
from qgenx_jax.problems.arrays import real_array
from qgenx_jax.problems.game_problem import (
    GameProblem,
    affine_merit,
    game_problem,
    on_trees,
)
from qgenx_jax.problems.sets import Box, Product


def equality_constrained(
    quadratic: Any, linear: Any, rows: Any, ends: Any
) -> GameProblem:
    """min over x of x^T Q x / 2 + c^T x subject to E x = d, by its Lagrangian.

        A(x, y) = (Q x + c + E^T y, d - E x)

    Args:
        quadratic: Q, symmetric and positive semi-definite, shape (n, n).
        linear: c, shape (n,).
        rows: E, shape (m, n), of rank m.
        ends: d, shape (m,).

    Returns:
        The problem, of players "primal", shape (n,), and "multiplier", shape (m,),
        starting from 0. `gap` is exact, over the Euclidean ball of the radius around
        the solution, as `AffineProblem.gap`.

    Raises:
        ValueError: for other shapes, a Q that is not symmetric or not positive
            semi-definite, or where the solution is not unique: E must have full rank
            and Q be positive definite on {x : E x = 0}.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> problem = qgenx.problems.equality_constrained(
        ...     np.eye(2), np.zeros(2), np.ones((1, 2)), np.ones(1)
        ... )
        >>> problem.solution["primal"]  # the point of x_1 + x_2 = 1 nearest to 0
        Array([0.5, 0.5], dtype=float32)
    """
    q = real_array("quadratic", quadratic, (None, None))
    n = len(q)
    c = real_array("linear", linear, (n,))
    e = real_array("rows", rows, (None, n))
    d = real_array("ends", ends, (len(e),))
    if q.shape != (n, n) or not np.allclose(q, q.T):
        found = _checks.Text(f"a matrix of shape {q.shape}")
        way_out = "pass (Q + Q^T) / 2"
        raise _checks.refuse("quadratic", "must be symmetric", found, way_out)
    spectra.refuse_non_monotone(q)
    m = len(d)
    # raveled in the order of the names
    matrix = np.block([[np.zeros((m, m)), -e], [e.T, q]])
    offset = np.concatenate([d, c])
    values = np.linalg.svd(matrix, compute_uv=False)
    if values[-1] <= 1e-12 * values[0]:
        rule = "must have full rank, and quadratic be definite where rows @ x = 0"
        found = _checks.Text("constraints with several solutions or multipliers")
        raise _checks.refuse("rows", rule, found, "leave out redundant rows")
    flat = np.linalg.solve(matrix, -offset)
    arrays = {k: jnp.asarray(v) for k, v in zip("qced", (q, c, e, d), strict=True)}

    def lagrangian(x: Params) -> Array:
        primal, multiplier = x["primal"], x["multiplier"]
        cost = primal @ arrays["q"] @ primal / 2 + arrays["c"] @ primal
        return cost + multiplier @ (arrays["e"] @ primal - arrays["d"])

    parts = (matrix, offset, flat)
    affine = AffineProblem(*(jnp.asarray(part) for part in parts))

    def merit(x: Params, radius: float | None) -> tuple[Array, Array]:
        gap = affine.gap(ravel_pytree(x)[0], 1.0 if radius is None else radius)
        return gap, gap

    return game_problem(
        {"primal": lagrangian, "multiplier": lambda x: -lagrangian(x)},
        {"primal": jnp.zeros(n), "multiplier": jnp.zeros(m)},
        solution={
            "primal": jnp.asarray(flat[m:]),
            "multiplier": jnp.asarray(flat[:m]),
        },
        merit=merit,
        **spectra.constants(matrix),
    )


def resource_allocation(
    values: Any, curvatures: Any, usage: Any, capacity: Any
) -> GameProblem:
    """max over x >= 0 of sum_i (v_i x_i - q_i x_i^2 / 2) subject to R x <= C, priced.

        A(x, y) = (q x - v + R^T y, C - R x),    x >= 0, y >= 0

    Args:
        values: v, what the first unit of each activity is worth, shape (n,).
        curvatures: q > 0, how fast that falls, shape (n,).
        usage: R >= 0, what a unit of an activity uses of a resource, shape (m, n).
        capacity: C > 0, shape (m,).

    Returns:
        The problem, of players "amounts", shape (n,), and "prices", shape (m,),
        starting from 0. `solution` is None where the prices may not be unique. `gap` is
        a certified upper bound as in `constrained`, over the feasible points that are
        in no coordinate farther than the radius from a solution.

    Raises:
        ValueError: for other shapes, negative usages, curvatures or capacities that are
            not positive.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> problem = qgenx.problems.resource_allocation(
        ...     [2.0, 1.0], [1.0, 1.0], [[1.0, 1.0]], [1.0]
        ... )
        >>> [round(float(x), 4) for x in problem.solution["amounts"]]
        [1.0, 0.0]
    """
    v = real_array("values", values, (None,))
    n = len(v)
    q = real_array("curvatures", curvatures, (n,))
    r = real_array("usage", usage, (None, n))
    m = len(r)
    c = real_array("capacity", capacity, (m,))
    for name, array, holds in (
        ("curvatures", q, q > 0),
        ("usage", r, r >= 0),
        ("capacity", c, c > 0),
    ):
        if not holds.all():
            rule = "must be positive" if array is not r else "must not be negative"
            found = _checks.Text(f"{array[~holds][0]} among them")
            raise _checks.refuse(name, rule, found, "change or leave out that entry")
    matrix = np.block([[np.diag(q), r.T], [-r, np.zeros((m, m))]])
    offset = np.concatenate([-v, c])
    feasible = Product(tuple(Box(np.zeros(k), np.full(k, np.inf)) for k in (n, m)))
    flat, unique = interior.solve(matrix, offset, feasible)
    solution = {"amounts": jnp.asarray(flat[:n]), "prices": jnp.asarray(flat[n:])}
    arrays = {k: jnp.asarray(a) for k, a in zip("vqrc", (v, q, r, c), strict=True)}

    def lagrangian(x: Params) -> Array:
        amounts, prices = x["amounts"], x["prices"]
        cost = arrays["q"] @ amounts**2 / 2 - arrays["v"] @ amounts
        return cost + prices @ (arrays["r"] @ amounts - arrays["c"])

    return game_problem(
        {"amounts": lagrangian, "prices": lambda x: -lagrangian(x)},
        {"amounts": jnp.zeros(n), "prices": jnp.zeros(m)},
        solution=solution if unique else None,
        projection=on_trees(feasible),
        merit=affine_merit(matrix, offset, feasible, flat),
        **spectra.constants(matrix),
    )
