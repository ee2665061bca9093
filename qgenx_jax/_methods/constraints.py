"""Feasible sets: where a method's steps end, for all parameters or for each player.

Where there is no constraint a step u from a point x ends in x + u; on a set in
prox_x(u), see `prox`. Users apply differences of points, so what counts is that a point
plus a rounded difference is in the set.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.known_leaves import seen
from qgenx_jax._methods.prox import Entropic, Projection, Prox, entropic
from qgenx_jax._types import Array, Params

ProjectionLike: TypeAlias = Callable[[Params], Params] | Any
"""A function onto a set, `entropic`, or a prefix of the parameters of such and None."""

_WAY_OUT = (
    "pass one function for all, or for instance {'weights': None, 'multiplier': "
    "optax.projections.projection_non_negative}, a prefix of the parameters"
)
_AT_START = 16
"""Units in the last place of a leaf's largest, by which a start may miss its set."""


class Constraint(NamedTuple):
    """A feasible set, put together of one for each part of the parameters.

    Attributes:
        parts: for each, its prox, or None where it is all of space.
        structure: of the user's tree, a prefix of the parameters'.
    """

    parts: tuple[Prox | None, ...]
    structure: Any

    def check_start(self, params: Params) -> None:
        """Checks that the tree fits parameters, and that these are feasible.

        Of traced ones, and of arrays that are cut over devices or lie on those of other
        processes, only the former.

        Raises:
            ValueError: naming the leaf that is not, and how far it is from that.
        """
        parts = self._split(params)
        _checks.floating_leaves("params", params)
        for prox, part in zip(self.parts, parts, strict=True):
            if prox is not None and jax.tree.leaves(part):
                prox.fits(part)
        if not _trees.is_known(params):
            _checks.leave("params")
            return
        points = [
            part if prox is None or not jax.tree.leaves(part) else prox.start(part)
            for prox, part in zip(self.parts, _trees.widen(parts), strict=True)
        ]
        closest = self._join(points, params)
        for (path, x), y in zip(
            jax.tree_util.tree_leaves_with_path(params),
            jax.tree.leaves(closest),
            strict=True,
        ):
            unit = float(jnp.finfo(jnp.result_type(x)).eps)
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            far = float(np.max(np.abs(x - y), initial=0))
            largest = max(np.max(np.abs(z), initial=0) for z in (x, y))
            if not far <= _AT_START * unit * largest:
                raise _checks.refuse(
                    _checks.leaf_name(path, "params"),
                    "must be feasible, where the method starts",
                    _checks.Text(f"one that its projection moves by {far:.3g}"),
                    "start at projection(params)",
                )

    def same_within_parts(self, relative: Any) -> None:
        """Checks that step sizes differ between the sets only, not within one.

        Raises:
            ValueError: if they do, as the nearest point then depends on them.
        """
        for prox, part in zip(self.parts, self._split(relative), strict=True):
            if prox is not None and len(set(jax.tree.leaves(part))) > 1:
                raise _checks.refuse(
                    "projection",
                    "must be a tree with a function for each player that has a gamma0 "
                    "of its own",
                    _checks.Text("one function for several"),
                    "a projection for all knows nothing of their metric: give each "
                    "player its own",
                )

    def point(self, origin: Params, u: Params) -> Params:
        """prox_origin(u), in wide dtypes."""
        ends = []
        split = (self._split(_trees.widen(tree)) for tree in (origin, u))
        for prox, x, u in zip(self.parts, *split, strict=True):
            if prox is None or not jax.tree.leaves(x):
                ends.append(jax.tree.map(jnp.add, x, u))
            else:
                ends.append(prox.step(x, u))
        return self._join(ends, origin)

    def move(self, point: Params, here: Params) -> Params:
        """point - here, such that here + that, as rounded, is in a box as the point is.

        The sum has the dtypes of `here`, whose grid may miss the point: by one unit in
        the last place of the difference it is moved back to the inside. What couples
        coordinates, as a sum or a norm, holds but for rounding.
        """
        moves = []
        split = map(self._split, (point, here))
        for prox, end, at in zip(self.parts, *split, strict=True):
            delta = _between(end, at)
            if prox is not None and jax.tree.leaves(at):
                landed = jax.tree.map(_landed, at, delta)
                delta = jax.tree.map(_toward, delta, landed, prox(landed))
            moves.append(delta)
        return self._join(moves, here)

    def _split(self, params: Params) -> list[Params]:
        """What each prox is given, without what optax.masked hides from this pair."""
        try:
            return [seen(part) for part in self.structure.flatten_up_to(params)]
        except (ValueError, TypeError) as error:
            rule = f"must be a prefix of the parameters, {jax.tree.structure(params)}"
            found = _checks.Text(self.structure)
            raise _checks.refuse("projection", rule, found, _WAY_OUT) from error

    def _join(self, parts: list[Params], like: Params) -> Params:
        leaves = [leaf for part in parts for leaf in jax.tree.leaves(part)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)


def constraint_of(projection: ProjectionLike) -> Constraint | None:
    """What a user's `projection=` is; None where there is none at all.

    Raises:
        ValueError: for a tree with a leaf that is no function.
    """
    parts, structure = jax.tree.flatten(
        projection, is_leaf=lambda x: x is None or callable(x)
    )
    for part in parts:
        if part is entropic:
            rule, found = "must be what entropic returns", _checks.Text("entropic")
            raise _checks.refuse("projection", rule, found, "write entropic()")
        if part is not None:
            _checks.function("projection", part, "from a point to a feasible", _WAY_OUT)
    if all(part is None for part in parts):
        return None
    proxes = [
        p if p is None or isinstance(p, Entropic) else Projection(p) for p in parts
    ]
    return Constraint(tuple(proxes), structure)


def displacement(
    constraint: Constraint | None, origin: Params, u: Params, here: Params
) -> Params:
    """The move from `here` to where a step u from `origin` ends.

    Without constraint origin + u - here, and u itself where `origin` is `here`.
    """
    if constraint is not None:
        return constraint.move(constraint.point(origin, u), here)
    if origin is here:
        return u
    x, u, here = map(_trees.widen, (origin, u, here))
    return jax.tree.map(lambda a, b, c: (a + b) - c, x, u, here)


def _between(point: Params, here: Params) -> Params:
    """point - here, in here's dtypes."""
    wide = jax.tree.map(jnp.subtract, _trees.widen(point), _trees.widen(here))
    return _trees.cast_like(wide, here)


def _landed(here: Array, delta: Array) -> Array:
    """What optax.apply_updates makes of them, rounded, whatever XLA would keep."""
    info = jnp.finfo(delta.dtype)
    return jax.lax.reduce_precision(here + delta, info.nexp, info.nmant)


def _toward(delta: Array, landed: Array, inside: Array) -> Array:
    """delta, one unit in the last place towards the inside where it ends outside."""
    ends = jnp.where(inside > landed, jnp.inf, -jnp.inf).astype(delta.dtype)
    return jnp.where(inside == landed, delta, jnp.nextafter(delta, ends))
