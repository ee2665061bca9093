"""One set: where a step from a point of it ends, by a projection or a mirror map.

    prox_x(u) = argmin over z in C of  D(z, x) - <u, z>

With D(z, x) = ||z - x||^2 / 2 that is the projection of x + u onto C. With the relative
entropy for D, on a simplex, it is x exp(u), normalised.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array, Params


class Prox(Protocol):
    """prox_x(u) of one set, and which points of rounded numbers are in it."""

    def __call__(self, x: Params) -> Params:
        """The point of the set for x: itself, but for rounding, if it is in the set."""
        ...

    def fits(self, x: Params) -> None:
        """Refuses points of another kind, by structure and shapes."""
        ...

    def start(self, x: Params) -> Params:
        """The point of the set for a first point, of which values are known."""
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

    def fits(self, x: Params) -> None:
        # a collective in it has no axis yet: steps will tell
        with contextlib.suppress(NameError):
            jax.eval_shape(self, x)

    def start(self, x: Params) -> Params:
        try:
            return self._checked(x)
        except NameError:
            return x

    def _checked(self, x: Params) -> Params:
        """The point of the set for x, of a function that leaves such points alone."""
        once = self(jax.tree.map(_away, x))
        for before, after in zip(
            *map(jax.tree.leaves, (once, self(once))), strict=True
        ):
            # loosely: some projections are iterations that end early
            unit = float(jnp.finfo(before.dtype).eps) ** 0.5
            y, z = np.asarray(before, np.float64), np.asarray(after, np.float64)
            far = float(np.max(np.abs(y - z), initial=0))
            if not far <= unit * max(1.0, np.max(np.abs(y), initial=0)):
                raise _checks.refuse(
                    "projection",
                    "must leave points of its set where they are",
                    _checks.Text(f"a function that moves its own result by {far:.3g}"),
                    "pass a projection, as those of optax.projections",
                )
        return self(x)

    def step(self, x: Params, u: Params) -> Params:
        return self(jax.tree.map(jnp.add, x, u))


def _away(x: Array) -> Array:
    """A point about 1 away from x, up and down in turn."""
    x = jnp.asarray(x)
    sign = jnp.where(jnp.arange(x.size).reshape(x.shape) % 2 == 0, 1, -1)
    return (x + sign * (1 + jnp.abs(x))).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Entropic:
    """What `entropic` returns: the mirror map of the entropy, on simplices."""

    scale: float = 1.0
    axis: int | None = None

    def __call__(self, x: Params) -> Params:
        """x, with coordinates that are not positive at the smallest normal number."""
        return jax.tree.map(lambda x: jnp.maximum(x, jnp.finfo(x.dtype).tiny), x)

    def fits(self, x: Params) -> None:
        leaves = [leaf for leaf in jax.tree.leaves(x) if np.size(leaf)]
        if self.axis is None and len(leaves) > 1:
            raise _checks.refuse(
                "projection",
                "must be an entropic() for each leaf, as a leaf is one simplex",
                _checks.Text(f"one for {len(leaves)} leaves"),
                "pass a tree of them; or entropic(axis=-1) where rows are simplices",
            )
        for leaf in leaves:
            if self.axis is not None and not -np.ndim(leaf) <= self.axis < np.ndim(
                leaf
            ):
                rule = f"must be one of a leaf of shape {np.shape(leaf)}"
                way_out = "-1 is the last one; None where the leaf is one simplex"
                raise _checks.refuse("axis", rule, self.axis, way_out)

    def start(self, x: Params) -> Params:
        for leaf in jax.tree.leaves(x):
            if np.size(leaf) and not float(jnp.min(leaf)) > 0:
                rule = "must be positive where projection is entropic, which moves"
                raise _checks.refuse(
                    "params",
                    f"{rule} no coordinate from zero",
                    float(jnp.min(leaf)),
                    "start inside, as with all coordinates alike",
                )
        return jax.tree.map(lambda x: self._normalised(x), x)

    def step(self, x: Params, u: Params) -> Params:
        """x exp(u), normalised to the scale, and positive."""

        def moved(x: Array, u: Array) -> Array:
            if not x.size:
                return x
            logs = jnp.log(x) + u
            top = jnp.max(logs, axis=self.axis, keepdims=True)
            return self._normalised(jnp.exp(logs - top))

        return self(jax.tree.map(moved, x, u))

    def _normalised(self, x: Array) -> Array:
        total = jnp.sum(x, axis=self.axis, keepdims=True)
        return x / total * jnp.asarray(self.scale, x.dtype)


def entropic(scale: float = 1.0, *, axis: int | None = None) -> Entropic:
    """The mirror map of the entropy, multiplicative steps on simplices.

        prox_x(u) = scale * x exp(u) / sum(x exp(u))

    It is the step of smallest relative entropy, whose rates on a simplex of n
    coordinates have log(n) where those of the projection have n (Nemirovski, 2004).
    Points stay positive. Distances are longer than Euclidean ones: try larger steps.

    Args:
        scale: what the coordinates of a simplex add up to.
        axis: along which each leaf's simplices lie, as -1 for the rows of a matrix;
            None where the one leaf it is given is one simplex.

    Returns:
        What a pair's `projection=` takes, alone or within a tree of projections.

    Raises:
        ValueError: if the scale is not positive, or the axis no whole number; in a
            pair, at init, for several leaves without an axis, or a leaf that has no
            such axis, and where it sees values, that is not in jax.jit, for a start
            with coordinates that are not positive, or have another sum.

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
    _checks.positive("scale", scale, "1.0 is the probability simplex")
    if axis is not None:
        rule, way_out = "must be a whole number or None", "-1 is the last axis"
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise _checks.refuse("axis", rule, axis, way_out)
    return Entropic(float(scale), axis)
