"""Between a tree and the flat vector that is quantized; exact leaves as bytes."""

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _fusion
from qgenx_jax._types import Array

UNROLLED = 8
"""Sums over more terms are loops, to keep programs short."""


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
    """How the leaves of a tree travel: quantized in groups, or exact.

    Attributes:
        treedef: structure of the tree.
        paths: path of each leaf, in order, as `jax.tree_util.keystr` prints it.
        leaves: shape and dtype of each leaf.
        labels: of each leaf its group, None if it travels as its own bytes.
    """

    treedef: Any
    paths: tuple[str, ...]
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    labels: tuple[str | None, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The labels that occur, in order."""
        return tuple(dict.fromkeys(x for x in self.labels if x is not None))

    @property
    def coordinates(self) -> int:
        """Coordinates of the whole tree."""
        return sum(math.prod(leaf.shape) for leaf in self.leaves)

    @property
    def exact_leaves(self) -> list[jax.ShapeDtypeStruct]:
        """Shape and dtype of the leaves that travel exact, in order."""
        return self._of(None)

    @property
    def fingerprint(self) -> int:
        """A number of 32 bits that tells trees of other paths or shapes apart."""
        shapes = [leaf.shape for leaf in self.leaves]
        return zlib.crc32(repr((self.paths, shapes, self.labels)).encode())

    def vector(self, label: str) -> jax.ShapeDtypeStruct:
        """Shape and dtype of a group's flat vector, float32 or float64 if a leaf is."""
        leaves = self._of(label)
        dtype = _widest(accumulator_dtype(leaf) for leaf in leaves)
        return jax.ShapeDtypeStruct((sum(math.prod(x.shape) for x in leaves),), dtype)

    def split(self, tree: Any) -> tuple[dict[str, Array], list[Array]]:
        """Each group's flat vector, and the exact leaves."""
        pairs = list(zip(jax.tree.leaves(tree), self.labels, strict=True))
        vectors = {}
        for group in self.groups:
            dtype = self.vector(group).dtype
            flat = [jnp.ravel(x).astype(dtype) for x, label in pairs if label == group]
            vectors[group] = concatenate(flat, dtype)
        return vectors, [jnp.asarray(x) for x, label in pairs if label is None]

    def join(
        self,
        vectors: Mapping[str, Array],
        exact: Sequence[Array],
        joints: Mapping[str, int | None],
    ) -> Any:
        """Inverse of `split`; leaves in dtypes that sums can be kept in.

        Args:
            vectors: of the groups.
            exact: the exact leaves.
            joints: of the groups, see `_fusion.cut`.
        """
        values: dict[str | None, Iterator[Array]] = {None: iter(exact)}
        for label, vector in vectors.items():
            shapes = tuple(leaf.shape for leaf in self._of(label))
            values[label] = iter(_fusion.cut(vector, shapes, joints[label]))
        leaves = [
            next(values[label]).astype(accumulator_dtype(leaf))
            for leaf, label in zip(self.leaves, self.labels, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)

    def _of(self, label: str | None) -> list[jax.ShapeDtypeStruct]:
        pairs = zip(self.leaves, self.labels, strict=True)
        return [leaf for leaf, own in pairs if own == label]


def layout(tree: Any, label: Callable[[str, jax.ShapeDtypeStruct], Any]) -> Layout:
    """The layout of a tree of arrays (or of their shapes and dtypes).

    Args:
        tree: any pytree.
        label: the group of a leaf by its path, shape and dtype; None for exact.
    """
    with_path, treedef = jax.tree_util.tree_flatten_with_path(tree)
    leaves = tuple(
        jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for _, x in with_path
    )
    paths = tuple(jax.tree_util.keystr(path) for path, _ in with_path)
    return Layout(treedef, paths, leaves, tuple(map(label, paths, leaves)))


def to_bytes(x: Array) -> Array:
    """The bytes of an array, as a uint8 vector."""
    as_bytes = lax.bitcast_convert_type(x, jnp.uint8)
    return as_bytes.reshape(-1)


def from_bytes(buffer: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Inverse of `to_bytes` for an array of this shape and dtype."""
    bytes_each = (dtype.itemsize,) if dtype.itemsize > 1 else ()
    return lax.bitcast_convert_type(buffer.reshape(*shape, *bytes_each), dtype)


def words(data: Array, dtype: np.dtype) -> Array:
    """Floats from the last axis of bytes, lowest byte first: (..., n / itemsize).

    Added up from bytes, which XLA does once; a bitcast from bytes it would fuse into
    the loops that use the floats, and do again for each use.
    """
    word = jnp.uint32 if dtype == np.float32 else jnp.uint64
    size = np.dtype(dtype).itemsize
    parts = data.reshape(*data.shape[:-1], -1, size).astype(word)
    shifted = parts << (8 * lax.broadcasted_iota(word, parts.shape, parts.ndim - 1))
    return lax.bitcast_convert_type(jnp.sum(shifted, axis=-1, dtype=word), dtype)


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

    def wanted(node: Any) -> bool:
        return isinstance(node, kind)

    return [node for node in jax.tree.leaves(tree, is_leaf=wanted) if wanted(node)]


def sum_of_squares(tree: Any) -> Array:
    """||tree||_2^2, accumulated in float32 or wider; 0 for an empty tree."""
    sums = [jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(widen(tree))]
    widest = _widest(np.dtype(x.dtype) for x in sums)
    return sum((x.astype(widest) for x in sums), jnp.zeros((), widest))


def _widest(dtypes: Iterable[np.dtype]) -> np.dtype:
    """The widest of some dtypes, float32 if there is none."""
    return max(dtypes, key=lambda dtype: dtype.itemsize, default=np.dtype("float32"))


def concatenate(parts: Sequence[Array], dtype: np.dtype | str) -> Array:
    """The parts as one vector, also where there is none."""
    return (
        parts[0] if len(parts) == 1 else jnp.concatenate([*parts, jnp.zeros(0, dtype)])
    )
