"""Affine VIs over boxes and simplices, with solutions partly on the boundary."""

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array
from qgenx_jax.problems import interior, spectra
from qgenx_jax.problems.affine import AffineProblem
from qgenx_jax.problems.game_problem import (
    GameProblem,
    affine_merit,
    on_trees,
    refuse_infeasible,
)
from qgenx_jax.problems.sets import Box, Part, Product, Simplex


def constrained(
    problem: AffineProblem,
    *,
    box: tuple[float | np.ndarray, float | np.ndarray] | None = None,
    simplex: bool = False,
    start: Array | None = None,
) -> GameProblem:
    """An affine VI over a box or the probability simplex in place of the whole space.

        <B x* + b, x - x*> >= 0   for all x in C

    At its solution A is not 0, and relative noise does not vanish.

    Args:
        problem: B and b, with B + B^T positive semi-definite; its own solution plays no
            part.
        box: (low, high), numbers or arrays of shape (d,), low <= high; infinite ends
            are allowed.
        simplex: True, without a box, for {x >= 0, sum(x) = 1}.
        start: X_1, feasible; by default the projection of 0.

    Returns:
        The problem. `solution` is from an interior-point method in float64, None where
        it is not certain that there is one only. `gap` is over all of a bounded C; over
        the points that are in no coordinate farther than the radius from a solution,
        where one is given or C is not bounded. It is a certified upper bound, within
        1e-9 of the gap, relative, in float64, and 1e-5 in float32.

    Raises:
        ValueError: for neither or both of the sets, ends of another shape or in the
            wrong order, a start that is not feasible, or an operator that is not
            monotone.

    Example:
        >>> import qgenx_jax as qgenx
        >>> free = qgenx.problems.quadratic_game(4)
        >>> problem = qgenx.problems.constrained(free, box=(-0.2, 0.2))
        >>> [round(float(x), 2) for x in problem.solution]
        [-0.11, 0.2, 0.2, 0.2]
    """
    _checks.instance_of(
        "problem", problem, AffineProblem, "pass for instance bilinear()"
    )
    matrix = np.asarray(problem.matrix, float)
    offset = np.asarray(problem.offset, float)
    spectra.refuse_non_monotone(np.asarray(problem.matrix))
    feasible = Product((_part(box, simplex, len(offset)),))
    solution, unique = interior.solve(matrix, offset, feasible)
    project = on_trees(feasible)
    if start is None:
        start = project(problem.start)
    way_out = "pass a vector as the problem's"
    _checks.same_structure("start", start, "problem", problem.start, way_out)
    refuse_infeasible(start, project)
    return GameProblem(
        vector=problem.operator,
        start=start,
        solution=jnp.asarray(solution) if unique else None,
        projection=project,
        lipschitz=problem.lipschitz,
        strong=problem.strong,
        cocoercive=problem.cocoercive,
        merit=affine_merit(matrix, offset, feasible, solution),
    )


def _part(
    box: tuple[float | np.ndarray, float | np.ndarray] | None,
    simplex: bool,
    dimension: int,
) -> Part:
    _checks.one_of("simplex", int(simplex), (0, 1))
    if (box is None) != bool(simplex):
        rule = "must be given where simplex is not True, and only there"
        raise _checks.refuse("box", rule, box, "pass one of the two")
    if box is None:
        return Simplex(dimension)
    rule = f"must be (low, high), numbers or of shape ({dimension},), with low <= high"
    way_out = "pass for instance (-0.1, 0.1)"
    if not isinstance(box, tuple) or len(box) != 2:
        raise _checks.refuse("box", rule, box, way_out)
    if any(np.shape(end) not in ((), (dimension,)) for end in box):
        found = _checks.Text(f"shapes {[np.shape(end) for end in box]}")
        raise _checks.refuse("box", rule, found, way_out)
    low, high = (np.broadcast_to(np.asarray(end, float), dimension) for end in box)
    if (
        not (low <= high).all()
        or not (low < np.inf).all()
        or not (high > -np.inf).all()
    ):
        raise _checks.refuse("box", rule, box, way_out)
    return Box(low, high)
