"""What travels: a tree as flat parts, and how each part becomes bytes and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _fusion, _trees
from qgenx_jax._coders import Coder, Quantized, Raw
from qgenx_jax._quantize import Quantizer
from qgenx_jax._types import Array, DualVector


class Part(NamedTuple):
    """A flat vector of the tree: a group of leaves, or the exact leaves of a dtype.

    Attributes:
        group: the leaves' group; None for leaves that travel exact.
        size: its coordinates.
        dtype: in which it is added up, float32 or float64.
        coder: of a worker's own vector.
        second: of a mean, where that is encoded again.
    """

    group: str | None
    size: int
    dtype: np.dtype
    coder: Coder
    second: Coder

    def chunk(self, count: int) -> int:
        """Coordinates of one of `count` equal chunks, the last ones padded.

        One chunk is the vector as it is. Others have whole buckets where that pads
        little: a short one after them takes the codec on CPUs as long as all of them.
        """
        if count == 1:
            return self.size
        even = -(-self.size // count)
        whole = self.coder.whole(even)
        return whole if whole - even <= even // 128 else even

    def rows(self, vector: Array, count: int) -> Array:
        """A vector as (count, chunk), its padding kept out of norms."""
        padding = count * self.chunk(count) - self.size
        if padding:
            vector = jnp.pad(vector, (0, padding))
            if not self.coder.keeps_zeros:
                vector = self.coder.fill(vector, self.size)
        return vector.reshape(count, self.chunk(count))

    def flat(self, rows: Array) -> Array:
        """Inverse of `rows`."""
        return rows.reshape(-1)[: self.size]

    def encode_chunks(self, key: Array, vector: Array, count: int) -> Array:
        """A vector's chunks, each encoded on its own: uint8 (count, bytes)."""
        chunk, length = self.chunk(count), self.coder.bucket
        shape = (count, self.coder.n_bytes(chunk))
        if count == 1 or not length or chunk % length:
            streams = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
            return jax.vmap(self.coder.encode)(streams, self.rows(vector, count))
        # chunks of whole buckets: as one vector, padded after its last full bucket
        whole = self.size // length * length
        tail = jnp.pad(vector[whole:], (0, count * chunk - self.size))
        if self.size > whole and not self.coder.keeps_zeros:
            tail = self.coder.fill(tail, self.size - whole)
        keys = [jax.random.fold_in(key, stream) for stream in range(2)]
        encoded = self.coder.encode(keys[0], vector, whole)
        last = self.coder.encode(keys[1], tail)
        return jnp.concatenate([encoded, last]).reshape(shape)

    def recode_chunk(
        self,
        arrived: Array,
        start: int,
        key: Array,
        index: Array | int,
        real: int | Array | None = None,
    ) -> Array:
        """The mean of a chunk of K vectors, from their bytes, as bytes of `second`.

        Args:
            arrived: uint8 (K, bytes).
            start: byte at which those of this part begin.
            key: of the rounding.
            index: of the chunk.
            real: how many coordinates of the whole vectors are not padding, where not
                all are.
        """
        count = arrived.shape[0]
        size, left = self.chunk(count), None
        is_padded = real is not None or size * count != self.size
        if is_padded and not (self.coder.keeps_zeros and self.second.keeps_zeros):
            left = jnp.asarray((self.size if real is None else real) - index * size)
        return self.coder.recode(arrived, size, start, self.second, key, left)

    def decode_chunks(self, coder: Coder, rows: Array) -> Array:
        """The vector whose chunks a coder encoded, from uint8 (count, bytes)."""
        count = rows.shape[0]
        chunk = self.chunk(count)
        if coder.bucket and chunk % coder.bucket == 0:
            whole = coder.whole(self.size)  # to cut the vector is to copy it
            data = rows.reshape(-1)[: coder.n_bytes(whole)]
            return coder.decode(data, whole)[: self.size]
        return self.flat(jax.vmap(lambda data: coder.decode(data, chunk))(rows))


def parts(
    layout: _trees.Layout,
    quantizers: Mapping[str, Quantizer | None],
    seconds: Mapping[str, Quantizer | None],
    levels: Mapping[str, Array],
) -> tuple[Part, ...]:
    """The parts of a tree: its groups, in order, and its exact leaves by dtype.

    Args:
        layout: how the leaves travel.
        quantizers: of the groups.
        seconds: of the groups' means, where they are not the same; None where they are.
        levels: the state's, of the groups that have some.
    """
    found = []
    for group in layout.groups:
        quantizer = quantizers[group]
        assert quantizer is not None  # leaves of such a group are exact
        size, dtype = layout.vector(group).size, layout.vector(group).dtype
        cut = layout.labels.count(group) > 1
        coder = Quantized(quantizer, dtype, levels.get(group), cut)
        second = seconds.get(group)
        again = coder if second is None else Quantized(second, dtype, None, cut)
        found.append(Part(group, size, dtype, coder, again))
    for dtype, leaves in _by_dtype(layout.exact_leaves).items():
        size = sum(leaf.size for _, leaf in leaves)
        wide = _trees.accumulator_dtype(leaves[0][1])
        found.append(Part(None, size, wide, Raw(dtype), Raw(wide)))
    return tuple(found)


def flatten(layout: _trees.Layout, tree: DualVector) -> list[Array]:
    """The vector of each part."""
    vectors, exact = layout.split(tree)
    grouped = _by_dtype(layout.exact_leaves).items()
    return list(vectors.values()) + [
        _trees.concatenate([exact[i].reshape(-1).astype(dtype) for i, _ in of], dtype)
        for dtype, of in grouped
    ]


def unflatten(
    layout: _trees.Layout, vectors: Sequence[Array], joints: Sequence[int | None]
) -> DualVector:
    """Inverse of `flatten`, in dtypes that sums can be kept in.

    Args:
        layout: how the leaves travel.
        vectors: of the parts.
        joints: of the parts, see `_fusion.cut`.
    """
    groups, count = layout.groups, len(layout.groups)
    exact: dict[int, Array] = {}
    by_dtype = _by_dtype(layout.exact_leaves).values()
    for vector, leaves in zip(vectors[count:], by_dtype, strict=True):
        pieces = _fusion.cut(vector, tuple(leaf.shape for _, leaf in leaves))
        exact.update({i: x for (i, _), x in zip(leaves, pieces, strict=True)})
    return layout.join(
        dict(zip(groups, vectors[:count], strict=True)),
        [exact[i] for i in range(len(exact))],
        dict(zip(groups, joints[:count], strict=True)),
    )


def cut(x: Array, sizes: Sequence[int]) -> Iterator[Array]:
    """Neighbouring runs of these lengths of the last axis, from its beginning."""
    start = 0
    for size in sizes:
        yield x[..., start : start + size]
        start += size


def _by_dtype(leaves: Sequence[jax.ShapeDtypeStruct]) -> dict[Any, list]:
    """(index, leaf) of the leaves of each dtype."""
    found: dict[Any, list] = {}
    for index, leaf in enumerate(leaves):
        found.setdefault(leaf.dtype, []).append((index, leaf))
    return found
