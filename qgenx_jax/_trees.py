"""Between a tree and the flat vector that is quantized; exact leaves as bytes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._types import Array, LeafPredicate


def small_leaves(path: str, leaf: jax.ShapeDtypeStruct) -> bool:
    """Leaves not worth quantizing: fewer than 2 dimensions, or under 1024 elements.

    Biases and norms are a fraction of a percent of a network, and sending them exactly
    removes a large part of the quantization error. The default of `quantized_mean`.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> qgenx.small_leaves("['bias']", jax.ShapeDtypeStruct((4096,), "float32"))
        True
    """
    del path
    return len(leaf.shape) < 2 or math.prod(leaf.shape) < 1024


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the leaves of a tree travel: which are quantized, which go exact.

    Attributes:
        treedef: structure of the tree.
        leaves: shape and dtype of each leaf, in order.
        exact: for each leaf, whether it travels as its own bytes.
    """

    treedef: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    exact: tuple[bool, ...]

    @property
    def quantized_size(self) -> int:
        """Coordinates of the flat vector that is quantized."""
        sizes = map(_size, self.leaves)
        return sum(n for n, e in zip(sizes, self.exact, strict=True) if not e)

    @property
    def exact_bytes(self) -> int:
        """Bytes of the leaves that travel exact, in their own dtypes."""
        pairs = zip(self.leaves, self.exact, strict=True)
        return sum(_size(leaf) * leaf.dtype.itemsize for leaf, e in pairs if e)

    def split(self, tree: Any) -> tuple[Array, list[Array]]:
        """The flat float32 vector (quantized_size,), and the exact leaves."""
        leaves = jax.tree.leaves(tree)
        pairs = list(zip(leaves, self.exact, strict=True))
        flat = [jnp.ravel(x).astype(jnp.float32) for x, e in pairs if not e]
        vector = flat[0] if len(flat) == 1 else _concatenate(flat, np.dtype("float32"))
        return vector, [jnp.asarray(x) for x, e in pairs if e]

    def join(self, vector: Array, exact_leaves: Sequence[Array]) -> Any:
        """Inverse of `split`: every leaf in its own shape and dtype."""
        exact, start, leaves = iter(exact_leaves), 0, []
        for leaf, is_exact in zip(self.leaves, self.exact, strict=True):
            if is_exact:
                value = next(exact)
            else:
                value = vector[start : start + _size(leaf)]
                start += _size(leaf)
            leaves.append(value.reshape(leaf.shape).astype(leaf.dtype))
        return jax.tree.unflatten(self.treedef, leaves)


def layout(tree: Any, exact: LeafPredicate | None) -> Layout:
    """The layout of a tree of arrays (or of their shapes and dtypes).

    Args:
        tree: any pytree.
        exact: which leaves go exact, by path and shape; None for none.
    """
    with_path, treedef = jax.tree_util.tree_flatten_with_path(tree)
    leaves = tuple(
        jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for _, x in with_path
    )
    paths = [jax.tree_util.keystr(path) for path, _ in with_path]
    chosen = tuple(
        exact is not None and bool(exact(path, leaf))
        for path, leaf in zip(paths, leaves, strict=True)
    )
    return Layout(treedef, leaves, chosen)


def to_bytes(x: Array) -> Array:
    """The bytes of an array, as a uint8 vector."""
    as_bytes = lax.bitcast_convert_type(x, jnp.uint8)
    return as_bytes.reshape(-1)


def from_bytes(buffer: Array, like: jax.ShapeDtypeStruct) -> Array:
    """Inverse of `to_bytes` for an array of this shape and dtype."""
    itemsize = like.dtype.itemsize
    shape = (*like.shape, itemsize) if itemsize > 1 else like.shape
    return lax.bitcast_convert_type(buffer.reshape(shape), like.dtype)


def copy(tree: Any) -> Any:
    """A tree of new buffers: a state must not alias parameters that may be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def accumulator_dtype(x: Any) -> np.dtype:
    """float32, or the array's own dtype where that is wider."""
    return jnp.promote_types(jnp.result_type(x), jnp.float32)


def accumulator(tree: Any) -> Any:
    """A copy of a tree in dtypes that sums can be kept in."""
    return jax.tree.map(
        lambda x: jnp.array(x, dtype=accumulator_dtype(x), copy=True), tree
    )


def sum_of_squares(tree: Any) -> Array:
    """||tree||_2^2, accumulated in float32 or wider; 0 for an empty tree."""
    total = jnp.zeros((), jnp.float32)
    for leaf in jax.tree.leaves(tree):
        wide = jnp.asarray(leaf, accumulator_dtype(leaf))
        total = total + jnp.sum(wide * wide)
    return total


def _size(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.shape)


def _concatenate(parts: Sequence[Array], dtype: np.dtype) -> Array:
    return jnp.concatenate([*parts, jnp.zeros(0, dtype)])
