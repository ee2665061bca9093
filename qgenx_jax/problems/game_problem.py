"""A problem made of its parts: an operator, a start and what is known about it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName, DualVector, Params
from qgenx_jax.problems.certified import gap_bounds
from qgenx_jax.problems.games import game_operator
from qgenx_jax.problems.noise import Oracle, noisy, players_of
from qgenx_jax.problems.sets import Product


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class GameProblem:
    """A `Problem` of which each part is given; the factories of this room return it.

    Attributes:
        vector: A, a function of a point.
        start: X_1, feasible.
        solution: x*, or None.
        projection: onto C, a function of a whole point; None where C is all.
        lipschitz: L, or None.
        strong: mu; None where A is not monotone.
        cocoercive: beta, or None.
        merit: `merit(x, radius) -> (lower, upper)`, numbers below and above the gap;
            None where there is none.
        apart: `apart(x, worker, workers) -> A_k(x) - A(x)`, of mean 0; None for
            constant vectors, see `problems.noise`.
    """

    vector: Callable[[Params], DualVector]
    start: Params
    solution: Params | None = None
    projection: Callable[[Params], Params] | None = None
    lipschitz: float | None = None
    strong: float | None = None
    cocoercive: float | None = None
    merit: Callable[[Params, float | None], tuple[Array, Array]] | None = None
    apart: Callable[..., DualVector] | None = None

    def operator(self, x: Params) -> DualVector:
        """A(x), a pytree as `start`.

        Raises:
            ValueError: if x has another structure or other shapes.
        """
        self._check(x)
        return self.vector(x)

    def oracle(
        self,
        noise: str = "none",
        size: float = 1.0,
        *,
        workers: int = 1,
        spread: float = 0.0,
        axis_name: AxisName = None,
    ) -> Oracle:
        """A stochastic dual vector with the mean A(x), see `Problem.oracle`.

        Noise is relative to the worker's own operator A_k(x) = A(x) + spread D_k(x).
        Where a problem is made of data, D_k is such that A_k at spread 1 is made of
        worker k's own share: rows k n / K to (k + 1) n / K.
        """
        players = players_of(self.start)
        differ = {"workers": workers, "spread": spread, "apart": self.apart}
        vector = self.operator
        return noisy(vector, players, noise, size, axis_name=axis_name, **differ)

    def gap(self, x: Params, radius: float | None = None) -> Array:
        """The upper one of `gap_bounds`: a certified merit of x, 0 at solutions."""
        return self.gap_bounds(x, radius)[1]

    def gap_bounds(self, x: Params, radius: float | None = None) -> tuple[Array, Array]:
        """Numbers below and above the gap; alike where there is a closed form.

        Args:
            x: a feasible point.
            radius: R > 0, where C is not bounded; the factory says of which ball.
                1.0 by default.

        Returns:
            (lower, upper), scalars.

        Raises:
            ValueError: if A is not monotone, the radius is not positive, or x has
                another structure than `start`.
        """
        if self.strong is None or self.merit is None:
            rule = "must be of a monotone operator, where 0 means a solution"
            found = _checks.Text("one that is not known to be monotone")
            raise _checks.refuse("gap", rule, found, "look at the norm of operator(x)")
        if radius is not None:
            _checks.positive("radius", radius, "1.0 is usual")
        self._check(x)
        return self.merit(x, radius)

    def _check(self, x: Params) -> None:
        way_out = "use jax.vmap over points"
        _checks.same_structure("x", x, "start", self.start, way_out)


def game_problem(
    losses: Mapping[str, Callable[..., Any]], start: Params, **known: Any
) -> GameProblem:
    """The problem of a differentiable game, from the losses of its players.

    Args:
        losses: as in `game_operator`, functions of the joint parameters.
        start: X_1, a mapping from the players to their parameters; no array belongs to
            two players.
        **known: further fields of `GameProblem`.

    Returns:
        The problem. Without `strong` and `merit` it has no gap.

    Raises:
        ValueError: if players share an array, or are others than those of the losses,
            or the start is not feasible.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> f = lambda p: p["x"] * p["y"]
        >>> start = {"x": jnp.array(1.0), "y": jnp.array(2.0)}
        >>> losses = {"x": f, "y": lambda p: -f(p)}
        >>> problem = qgenx.problems.game_problem(losses, start)
        >>> float(problem.operator(start)["x"])
        2.0
    """
    operator = game_operator(losses)
    _refuse_shared(start)
    jax.eval_shape(operator, start)  # raises for other players, or another loss
    if isinstance(known.get("projection"), Mapping):
        known["projection"] = _of_players(known["projection"])
    if known.get("projection") is not None:
        refuse_infeasible(start, known["projection"])
    return GameProblem(vector=operator, start=start, **known)


def _of_players(
    projections: Mapping[str, Callable[[Params], Params] | None],
) -> Callable[[Params], Params]:
    """One function of a whole point, of one for each player, or None."""

    def project(x: Params) -> Params:
        ends = {name: f(x[name]) for name, f in projections.items() if f is not None}
        return type(x)({**x, **ends})

    return project


def _refuse_shared(start: Mapping[str, Any]) -> None:
    owners: dict[int, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(start):
        player = str(path[0].key)
        other = owners.setdefault(id(leaf), player)
        if other != player and not isinstance(leaf, (int, float)):
            rule = "must hold no array of two players: each moves its own parameters"
            found = _checks.Text(f"one array for {other!r} and {player!r}")
            way_out = "copy it where the values only start alike (jnp.copy)"
            raise _checks.refuse("start", rule, found, way_out)


def refuse_infeasible(start: Params, project: Callable[[Params], Params]) -> None:
    """Checks that a start is its own projection, up to rounding.

    Raises:
        ValueError: if it is not, with the distance.
    """
    given, _ = ravel_pytree(start)
    nearest, _ = ravel_pytree(project(start))
    distance = float(jnp.max(jnp.abs(given - nearest), initial=0.0))
    rounding = 100 * float(jnp.finfo(given.dtype).eps)
    if not distance <= rounding * (1 + float(jnp.max(jnp.abs(given), initial=0.0))):
        rule = "must be a feasible point"
        found = _checks.Text(f"one whose projection is {distance:.3g} away")
        raise _checks.refuse("start", rule, found, "pass its projection")


def on_trees(feasible: Product) -> Callable[[Params], Params]:
    """The projection of trees, of a set of raveled ones.

    Args:
        feasible: C, on flat vectors.

    Returns:
        `project(x)`, a tree as x.
    """

    def project(x: Params) -> Params:
        flat, unravel = ravel_pytree(x)
        return unravel(feasible.project(flat))

    return project


def affine_merit(
    matrix: np.ndarray, offset: np.ndarray, feasible: Product, center: np.ndarray
) -> Callable[[Params, float | None], tuple[Array, Array]]:
    """The certified gap of an affine monotone operator over C, or C near a solution.

    Args:
        matrix: B on raveled points, float64.
        offset: b.
        feasible: C. Where a part of it is not bounded or a radius is given, the gap is
            over its points that are in no coordinate farther than it from the center.
        center: a solution, float64 (d,).

    Returns:
        `merit(x, radius) -> (lower, upper)`.
    """

    def merit(x: Params, radius: float | None) -> tuple[Array, Array]:
        bounded = feasible.near(center, radius)
        return gap_bounds(matrix, offset, bounded, ravel_pytree(x)[0])

    return merit
