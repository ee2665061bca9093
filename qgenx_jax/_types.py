"""Aliases used everywhere: what a signature means by a tree, a key or an axis."""

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
AxisName: TypeAlias = Hashable
"""Name of the mapped axis over workers, as in `jax.lax.psum(x, axis_name)`."""
Params: TypeAlias = Any
"""The point X: any pytree of floating-point arrays."""
DualVector: TypeAlias = Any
"""A (stochastic) dual vector V, of the structure and shapes of the parameters."""
State: TypeAlias = Any
HalfStep: TypeAlias = int | jax.Array
"""EXTRAPOLATION (0) or UPDATE (1): a Python int when static, an int32 when traced."""
LeafPredicate: TypeAlias = Callable[[str, jax.ShapeDtypeStruct], bool]
"""Chooses leaves by path (as `jax.tree_util.keystr` prints it), shape and dtype."""
