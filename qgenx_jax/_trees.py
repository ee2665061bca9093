"""Trees of arrays: the dtypes of sums, sums in a fixed order, what lies in a tree."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from qgenx_jax._types import Array

UNROLLED = 8
"""Sums over more terms are loops, to keep programs short."""


def add_up(count: int, term: Callable[[Any], Any]) -> Any:
    """term(0) + term(1) + ... + term(count - 1), trees, added in this order."""

    def add(index: Any, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, term(index))

    total = term(0)
    if count > UNROLLED:
        return lax.fori_loop(1, count, add, total)
    for index in range(1, count):
        total = add(index, total)
    return total


def copy(tree: Any) -> Any:
    """A tree of new buffers: a state must not alias parameters that may be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def is_known(tree: Any) -> bool:
    """Whether all values of a tree are at hand, and no leaf is cut over devices."""

    def known(x: Any) -> bool:
        if isinstance(x, Tracer | jax.ShapeDtypeStruct):
            return False
        whole = not isinstance(x, jax.Array) or x.is_fully_replicated
        return whole and getattr(x, "is_fully_addressable", True)

    return all(map(known, jax.tree.leaves(tree)))


def accumulator_dtype(x: Any) -> np.dtype:
    """The dtype that sums of such values are kept in: float32, or float64 for it."""
    dtype = np.dtype(jnp.result_type(x))
    return np.dtype("float32") if dtype.itemsize < 4 else dtype


def widen(tree: Any) -> Any:
    """A tree in dtypes that sums can be kept in."""
    return jax.tree.map(lambda x: jnp.asarray(x, accumulator_dtype(x)), tree)


def cast_like(tree: Any, like: Any) -> Any:
    """A tree in the dtypes of another one."""
    return jax.tree.map(lambda x, y: x.astype(jnp.result_type(y)), tree, like)


def find(tree: Any, kind: type | tuple[type, ...]) -> list[Any]:
    """The nodes of these types in a tree, outermost ones only."""
    return find_if(tree, lambda node: isinstance(node, kind))


def find_if(tree: Any, wanted: Callable[[Any], bool]) -> list[Any]:
    """The nodes of which something holds in a tree, outermost ones only."""
    return [node for node in jax.tree.leaves(tree, is_leaf=wanted) if wanted(node)]


def sum_of_squares(tree: Any) -> Array:
    """||tree||_2^2, accumulated in float32 or wider; 0 for an empty tree."""
    sums = [jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(widen(tree))]
    dtype = widest(np.dtype(x.dtype) for x in sums)
    return sum((x.astype(dtype) for x in sums), jnp.zeros((), dtype))


def widest(dtypes: Iterable[np.dtype]) -> np.dtype:
    """The widest of some dtypes, float32 if there is none."""
    return max(dtypes, key=lambda dtype: dtype.itemsize, default=np.dtype("float32"))


def concatenate(parts: Sequence[Array], dtype: np.dtype | str) -> Array:
    """The parts as one vector, also where there is none."""
    return (
        parts[0] if len(parts) == 1 else jnp.concatenate([*parts, jnp.zeros(0, dtype)])
    )
