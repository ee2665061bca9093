"""Feasible sets of one player, on flat vectors, and their product over the players."""

from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from optax import projections

from qgenx_jax import _checks
from qgenx_jax._types import Array


class Box(NamedTuple):
    """{y : low <= y <= high}, by coordinate; infinite ends are allowed.

    Attributes:
        low: shape (d,).
        high: shape (d,), not below `low`.
    """

    low: np.ndarray
    high: np.ndarray

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.low)

    def project(self, x: Array) -> Array:
        """The nearest point, exactly within the bounds."""
        low, high = (jnp.asarray(end, x.dtype) for end in self)
        return projections.projection_box(x, low, high)

    def farthest(self, direction: Array) -> Array:
        """A point y of the largest <direction, y>; the box is bounded."""
        low, high = (jnp.asarray(end, direction.dtype) for end in self)
        return jnp.where(direction > 0, high, low)

    def near(self, center: np.ndarray, radius: float | None) -> "Box":
        """The part where no coordinate is farther than `radius` from the center's."""
        if (
            radius is None
            and np.isfinite(self.low).all()
            and np.isfinite(self.high).all()
        ):
            return self
        reach = 1.0 if radius is None else radius
        low, high = self.low, self.high
        return Box(np.maximum(low, center - reach), np.minimum(high, center + reach))

    def inequalities(self) -> tuple[np.ndarray, np.ndarray]:
        """(G, h) with the box {y : G y >= h}."""
        below, above = np.isfinite(self.low), np.isfinite(self.high)
        rows = np.eye(self.dimension)
        ends = np.concatenate([self.low[below], -self.high[above]])
        return np.concatenate([rows[below], -rows[above]]), ends

    def equalities(self) -> tuple[np.ndarray, np.ndarray]:
        """(E, f) with E y = f: none."""
        return np.zeros((0, self.dimension)), np.zeros(0)


class Simplex(NamedTuple):
    """{y : y >= 0, sum(y) = 1} of R^d.

    Attributes:
        dimension: d.
    """

    dimension: int

    def project(self, x: Array) -> Array:
        """The nearest point."""
        return projections.projection_simplex(x)

    def farthest(self, direction: Array) -> Array:
        """The corner y of the largest <direction, y>."""
        here = jnp.arange(self.dimension) == jnp.argmax(direction)
        return here.astype(direction.dtype)

    def near(self, center: np.ndarray, radius: float | None) -> "Simplex":
        """The whole simplex; no part of it is cut out.

        Raises:
            ValueError: if a radius is given.
        """
        del center
        if radius is not None:
            rule = "must be left out on simplices, where the gap is over all of them"
            raise _checks.refuse("radius", rule, radius, "call gap(x)")
        return self

    def inequalities(self) -> tuple[np.ndarray, np.ndarray]:
        """(G, h) of y >= 0."""
        return np.eye(self.dimension), np.zeros(self.dimension)

    def equalities(self) -> tuple[np.ndarray, np.ndarray]:
        """(E, f) of sum(y) = 1."""
        return np.ones((1, self.dimension)), np.ones(1)


Part: TypeAlias = Box | Simplex


class Product(NamedTuple):
    """A set for each run of coordinates of a flat point.

    Attributes:
        parts: in the order of the coordinates.
    """

    parts: tuple[Part, ...]

    def split(self, x: Array) -> list[Array]:
        """The coordinates of each part."""
        ends = np.cumsum([part.dimension for part in self.parts])[:-1]
        return [x[run] for run in map(slice, [0, *ends], [*ends, None])]

    def project(self, x: Array) -> Array:
        """The nearest point, part by part."""
        pairs = zip(self.parts, self.split(x), strict=True)
        return jnp.concatenate([part.project(own) for part, own in pairs])

    def farthest(self, direction: Array) -> Array:
        """A point y of the largest <direction, y>."""
        pairs = zip(self.parts, self.split(direction), strict=True)
        return jnp.concatenate([part.farthest(own) for part, own in pairs])

    def near(self, center: np.ndarray, radius: float | None) -> "Product":
        """The bounded part around a center, see the parts."""
        own: list[np.ndarray] = self.split(center)  # type: ignore[assignment]
        pairs = zip(self.parts, own, strict=True)
        return Product(tuple(part.near(c, radius) for part, c in pairs))

    def inequalities(self) -> tuple[np.ndarray, np.ndarray]:
        """(G, h) of all parts."""
        return _stacked([part.inequalities() for part in self.parts])

    def equalities(self) -> tuple[np.ndarray, np.ndarray]:
        """(E, f) of all parts."""
        return _stacked([part.equalities() for part in self.parts])


def _stacked(
    systems: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """The block-diagonal system of all."""
    rows = np.zeros(
        (sum(len(f) for _, f in systems), sum(a.shape[1] for a, _ in systems))
    )
    row = column = 0
    for matrix, _ in systems:
        height, width = matrix.shape
        rows[row : row + height, column : column + width] = matrix
        row, column = row + height, column + width
    return rows, np.concatenate([f for _, f in systems])


def onto_simplex(x: np.ndarray) -> np.ndarray:
    """The nearest point of the probability simplex, in float64.

    Args:
        x: shape (d,).

    Returns:
        max(x - shift, 0) with the sum 1.
    """
    descending = np.sort(x)[::-1]
    shifts = (np.cumsum(descending) - 1) / np.arange(1, len(x) + 1)
    shift = shifts[np.nonzero(descending > shifts)[0][-1]]
    return np.maximum(x - shift, 0)
