"""Step sizes that differ between players: a metric for each, relative to the largest.

Numbers d, one for each player, are a scale g = max(d) and a diagonal matrix W = diag(w)
with w = d / g, in (0, 1]. A step is gamma W V, and V is as long as W^(1/2) V is:

    X - gamma W V        ||W^(1/2) V||^2 = sum_j w_j V_j^2
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from qgenx_jax import _checks
from qgenx_jax._types import DualVector, Params

_WAY_OUT = (
    'pass one number for all, or for instance {"generator": 1e-4, "discriminator": '
    "1e-3}, a prefix of the parameters"
)


class Metric(NamedTuple):
    """What `metric_of` makes of a user's gamma0.

    Attributes:
        largest: g, or the one number for all; None where none was given.
        relative: w, a tree of floats in (0, 1]; None for 1 everywhere.
    """

    largest: Any
    relative: Any = None

    def check(self, params: Params) -> None:
        """Checks that every leaf of the parameters has a number.

        Raises:
            ValueError: if the numbers are no prefix of the parameters.
        """
        self.of_leaves(params)

    def times(self, vector: DualVector) -> DualVector:
        """W V, in the vector's dtypes; the vector itself where w is 1."""
        return self._scaled(vector, 1.0)

    def root_times(self, vector: DualVector) -> DualVector:
        """W^(1/2) V, whose squared Euclidean norm is that of V in the metric."""
        return self._scaled(vector, 0.5)

    def _scaled(self, vector: DualVector, power: float) -> DualVector:
        def scaled(w: float, x: Any) -> Any:
            # equal numbers are one number for all, to the bit
            return x if w == 1 else jnp.asarray(w**power, x.dtype) * x

        if self.relative is None:
            return vector
        return jax.tree.map(scaled, self.of_leaves(vector), vector)

    def of_leaves(self, tree: Any) -> Any:
        """w for each leaf of such a tree; None for 1 everywhere.

        Raises:
            ValueError: if the numbers are no prefix of the tree.
        """
        if self.relative is None:
            return None
        try:
            return jax.tree.broadcast(self.relative, tree)
        except (ValueError, TypeError) as error:
            rule = f"must be a prefix of the parameters, {jax.tree.structure(tree)}"
            found = _checks.Text(jax.tree.structure(self.relative))
            raise _checks.refuse("gamma0", rule, found, _WAY_OUT) from error


def metric_of(gamma0: Any) -> Metric:
    """A number, which is handed on as it is, or a tree of them, as scale and metric.

    Raises:
        ValueError: for a tree without numbers, and the first one in a tree that is
            traced, or not positive and finite, with its path.
    """
    if gamma0 is None or jax.tree_util.all_leaves([gamma0]):
        return Metric(gamma0)
    numbers = jax.tree_util.tree_leaves_with_path(gamma0)
    if not numbers:
        raise _checks.refuse("gamma0", "must hold a number", gamma0, _WAY_OUT)
    for path, number in numbers:
        name = _checks.leaf_name(path, "gamma0")
        if isinstance(number, Tracer):  # the largest one has to be told
            rule, way_out = "must be known when it is traced", "pass Python numbers"
            raise _checks.refuse(name, rule, number, way_out)
        _checks.positive(name, number, _WAY_OUT)
    largest = max((number for _, number in numbers), key=float)
    return Metric(largest, jax.tree.map(lambda x: float(x) / float(largest), gamma0))
