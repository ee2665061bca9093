"""Between a tree and the flat vectors that travel: one for each group of leaves.

Leaves with a label are quantized together, as one vector for each label. The others
travel exact, as one vector for each dtype. Leaves that vary over other axes of a mesh
than the workers' (shards of a model) share no vector with those that do not.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks, _trees
from qgenx_jax._codec import fusion
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, specs


def held(x: Any, axis_name: AxisName) -> tuple[jax.ShapeDtypeStruct, frozenset]:
    """What a device has of a leaf, and the axes it varies over, besides the workers'.

    In shard_map these are what JAX tracks. Of an array, or of a shape, that a
    `NamedSharding` places, a device has what that leaves of it, by axes other than the
    workers'.
    """
    workers = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    over = axes.varying(x).difference(workers)
    shape, cut = specs.shard_of(x, axis_name)
    return jax.ShapeDtypeStruct(shape, jnp.result_type(x)), over | cut


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


def no_leaves(path: str, leaf: jax.ShapeDtypeStruct) -> bool:
    """Keeps no leaf exact: the default of `exchange` and `q_genx`.

    A point of a variational inequality is a vector, often a short one, and the
    guarantees of Q-GenX are for all of it quantized.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> qgenx.no_leaves("['bias']", jax.ShapeDtypeStruct((4096,), "float32"))
        False
    """
    del path, leaf
    return False


class Flat(NamedTuple):
    """One of the flat vectors that a tree is cut into.

    Attributes:
        label: of its leaves; None for leaves that travel exact.
        leaves: their indices in the tree.
        size: coordinates.
        dtype: of the vector: of exact leaves their own, else float32 or float64.
        wide: dtype that sums of it are kept in, float32 or float64.
        over: axes it varies over, besides the workers'.
    """

    label: str | None
    leaves: tuple[int, ...]
    size: int
    dtype: np.dtype
    wide: np.dtype
    over: frozenset


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the leaves of a tree travel: quantized in groups, or exact.

    Attributes:
        treedef: structure of the tree.
        paths: path of each leaf, in order, as `jax.tree_util.keystr` prints it.
        leaves: shape and dtype of each leaf.
        labels: of each leaf its group, None if it travels exact.
        over: of each leaf the axes it varies over, besides the workers'.
    """

    treedef: Any
    paths: tuple[str, ...]
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    labels: tuple[str | None, ...]
    over: tuple[frozenset, ...]

    @property
    def coordinates(self) -> int:
        """Coordinates of the whole tree."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def fingerprint(self) -> int:
        """A number of 32 bits that tells trees of other paths or shapes apart."""
        shapes = [leaf.shape for leaf in self.leaves]
        return zlib.crc32(repr((self.paths, shapes, self.labels)).encode())

    @functools.cached_property
    def vectors(self) -> tuple[Flat, ...]:
        """The groups in the order of their first leaves, then exact leaves by dtype."""
        members: dict[tuple[str | None, Any, frozenset], list[int]] = {}
        each = zip(self.leaves, self.labels, self.over, strict=True)
        for index, (leaf, label, over) in enumerate(each):
            # leaves that are quantized are cast to one dtype, exact ones keep theirs
            kind = (label, leaf.dtype if label is None else None, over)
            members.setdefault(kind, []).append(index)
        quantized = [kind for kind in members if kind[0] is not None]
        exact = [kind for kind in members if kind[0] is None]
        found = []
        for kind in quantized + exact:
            of = members[kind]
            size = sum(self.leaves[i].size for i in of)
            wide = _trees.widest(_trees.accumulator_dtype(self.leaves[i]) for i in of)
            dtype = wide if kind[1] is None else np.dtype(kind[1])
            found.append(Flat(kind[0], tuple(of), size, dtype, wide, kind[2]))
        return tuple(found)

    def flatten(self, tree: Any) -> list[Array]:
        """The flat vectors (size,) of a tree.

        Raises:
            ValueError: if a leaf is known to be cut over an axis left to jit.
        """
        leaves = jax.tree.leaves(tree)
        for path, leaf in zip(self.paths, leaves, strict=True):
            if any(specs.names_of(jax.typeof(leaf).sharding.spec)):
                raise _checks.refuse(
                    f"leaf {path} of the tree to exchange",
                    "must not be cut over an axis of type Explicit",
                    _checks.Text(jax.typeof(leaf)),
                    "give its PartitionSpec to qgenx_jax.exchange(..., specs=), which "
                    "quantizes each shard where it lies",
                )
        return [
            _trees.concatenate(
                [jnp.ravel(leaves[i]).astype(flat.dtype) for i in flat.leaves],
                flat.dtype,
            )
            for flat in self.vectors
        ]

    def unflatten(self, vectors: Sequence[Sequence[Array]]) -> Any:
        """Inverse of `flatten`; leaves in dtypes that sums can be kept in.

        Args:
            vectors: for each of `vectors`, in the same order, flat arrays that make it
                up, one after the other.
        """
        leaves: list[Any] = [None] * len(self.leaves)
        for flat, pieces in zip(self.vectors, vectors, strict=True):
            shapes = tuple(self.leaves[index].shape for index in flat.leaves)
            found = fusion.cut(tuple(pieces), shapes, flat.wide)
            for index, x in zip(flat.leaves, found, strict=True):
                leaves[index] = x.astype(_trees.accumulator_dtype(self.leaves[index]))
        return jax.tree.unflatten(self.treedef, leaves)
