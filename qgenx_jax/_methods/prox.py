"""One set: where a step from a point of it ends, by a projection or a mirror map.

    prox_x(u) = argmin over z in C of  D(z, x) - <u, z>

With D(z, x) = ||z - x||^2 / 2 that is the projection of x + u onto C. With the relative
entropy for D, on a simplex, it is x exp(u), normalised.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from qgenx_jax import _checks
from qgenx_jax._types import Array, Params


class Prox(Protocol):
    """prox_x(u) of one set, and which points of rounded numbers are in it."""

    def __call__(self, x: Params) -> Params:
        """The point of the set for x: itself, but for rounding, if it is in the set."""
        ...

    def start(self, x: Params) -> Params:
        """The same for a first point; NaN where the method could not leave it."""
        ...

    def step(self, x: Params, u: Params) -> Params:
        """prox_x(u)."""
        ...


@dataclasses.dataclass(frozen=True)
class Projection:
    """D(z, x) = ||z - x||^2 / 2: a user's projection."""

    function: Callable[[Params], Params]

    def __call__(self, x: Params) -> Params:
        found = self.function(x)
        way_out = "a projection returns a point like the one it is given"
        _checks.same_structure("projection(x)", found, "x", x, way_out)
        return jax.tree.map(lambda p, y: jnp.asarray(p, jnp.result_type(y)), found, x)

    def start(self, x: Params) -> Params:
        return self(x)

    def step(self, x: Params, u: Params) -> Params:
        return self(jax.tree.map(jnp.add, x, u))


@dataclasses.dataclass(frozen=True)
class Entropic:
    """What `entropic` returns: the mirror map of the entropy, on simplices."""

    axis: int | None = None

    def __call__(self, x: Params) -> Params:
        """x, with coordinates that are not positive at the smallest normal number."""
        return jax.tree.map(lambda x: jnp.maximum(x, jnp.finfo(x.dtype).tiny), x)

    def start(self, x: Params) -> Params:
        """x, and NaN for coordinates that would be zero for ever."""
        return jax.tree.map(lambda x: jnp.where(x > 0, x, jnp.nan), x)

    def step(self, x: Params, u: Params) -> Params:
        """x exp(u), normalised to the sum of x, and positive."""
        logs = jax.tree.map(lambda x, u: jnp.log(x) + u, x, u)
        top, total = self._over(jnp.max, logs), self._over(jnp.sum, x)
        raised = jax.tree.map(lambda a, top: jnp.exp(a - top), logs, top)
        mass = self._over(jnp.sum, raised)
        return self(jax.tree.map(lambda r, m, t: r / m * t, raised, mass, total))

    def _over(self, reduce: Callable[..., Array], tree: Params) -> Params:
        """For each leaf what its simplex gives: a number, or along the axis."""
        if self.axis is not None:
            along = {"axis": self.axis, "keepdims": True}
            return jax.tree.map(
                lambda x: jnp.broadcast_to(reduce(x, **along), x.shape), tree
            )
        whole = reduce(jnp.stack([reduce(x) for x in jax.tree.leaves(tree)]))
        return jax.tree.map(lambda x: jnp.full(x.shape, whole.astype(x.dtype)), tree)


def entropic(axis: int | None = None) -> Entropic:
    """The mirror map of the entropy, multiplicative steps on simplices.

        prox_x(u) = x exp(u) / sum(x exp(u)) * sum(x)

    It is the step of smallest relative entropy, whose rates on a simplex of n
    coordinates have log(n) where those of the projection have n (Nemirovski, 2004).
    Points stay positive, and keep the sum that the start has.

    Args:
        axis: along which each leaf's simplices lie, as -1 for the rows of a matrix;
            None where all leaves it is given are one simplex.

    Returns:
        What a pair's `projection=` takes, alone or within a tree of projections.

    Raises:
        ValueError: if the axis is no whole number; in a pair, at init, where a
            coordinate of the start is not positive.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> pair = qgenx.extra_sgd(1.0, projection=qgenx.entropic())
        >>> x = jnp.array([0.5, 0.5])
        >>> vector = jnp.array([jnp.log(3.0), 0.0])
        >>> delta, _ = pair.extrapolation.update(vector, pair.init(x), x)
        >>> (x + delta).round(6)
        Array([0.25, 0.75], dtype=float32)

    References:
        Nemirovski, Prox-method with rate of convergence O(1/t) for variational
        inequalities with Lipschitz continuous monotone operators, SIAM Journal on
        Optimization, 2004; Beck, Teboulle, Mirror descent and nonlinear projected
        subgradient methods, Operations Research Letters, 2003.
    """
    if axis is not None:
        rule, way_out = "must be a whole number or None", "-1 is the last axis"
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise _checks.refuse("axis", rule, axis, way_out)
    return Entropic(axis)
