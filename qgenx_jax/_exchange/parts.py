"""What travels: the flat vectors of a tree, and how each becomes bytes and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np

from qgenx_jax._codec.coder import Coder, Raw, fill
from qgenx_jax._codec.quantizer import Quantizer, coder_of
from qgenx_jax._exchange.layout import Layout
from qgenx_jax._types import Array

Pieces: TypeAlias = Sequence[Array]
"""A part's vector as flat arrays, one after the other, not put together yet."""


class Part(NamedTuple):
    """A flat vector of the tree: a group of leaves, or the exact leaves of a dtype.

    Attributes:
        group: the leaves' label; None for leaves that travel exact.
        size: its coordinates.
        dtype: in which it is added up, float32 or float64.
        coder: of a worker's own vector.
        second: of a mean, where that is encoded again.
        over: axes it varies over, besides the workers'.
    """

    group: str | None
    size: int
    dtype: np.dtype
    coder: Coder
    second: Coder
    over: frozenset = frozenset()

    def chunk(self, count: int) -> int:
        """Coordinates of one of `count` equal chunks, the last ones padded.

        One chunk is the vector as it is. Others have whole buckets where that pads
        little: a short one after them takes the codec on CPUs as long as all of them.
        """
        if count == 1:
            return self.size
        even = -(-self.size // count)
        padded = self.coder.padded_size(even)
        return padded if padded - even <= even // 128 else even

    def real(self, index: Array, count: int) -> Array:
        """How many coordinates of chunk `index` are not padding: int32."""
        size = self.chunk(count)
        each = np.clip(self.size - size * np.arange(count), 0, size)
        return jnp.asarray(each, jnp.int32)[index]

    def chunks(self, vector: Array, count: int) -> Array:
        """A vector as (count, chunk), its padding kept out of norms."""
        missing = count * self.chunk(count) - self.size
        if missing:
            vector = jnp.pad(vector, (0, missing))
            if not self.coder.keeps_zeros:
                vector = fill(self.coder, vector, self.size)
        return vector.reshape(count, self.chunk(count))

    def together(self, chunks: Array) -> Array:
        """Inverse of `chunks`."""
        return chunks.reshape(-1)[: self.size]


def parts(
    layout: Layout,
    quantizers: Mapping[str, Quantizer | None],
    seconds: Mapping[str, Quantizer | None],
    levels: Mapping[str, Array],
) -> tuple[Part, ...]:
    """The parts of a tree, one for each flat vector of its layout.

    Args:
        layout: how the leaves travel.
        quantizers: of the groups.
        seconds: of the groups' means, where they are not the same; None where they are.
        levels: the state's, of the groups that have some.
    """
    found = []
    for flat in layout.vectors:
        if flat.label is None:
            coder, second = Raw(flat.dtype), Raw(flat.wide)
        else:
            quantizer = quantizers[flat.label]
            assert quantizer is not None  # leaves of such a group are exact
            coder = coder_of(quantizer, flat.dtype, levels.get(flat.label))
            again = seconds.get(flat.label)
            second = coder if again is None else coder_of(again, flat.dtype)
        found.append(Part(flat.label, flat.size, flat.wide, coder, second, flat.over))
    return tuple(found)


def shares(parts: Sequence[Part], count: int) -> tuple[Part, ...]:
    """Parts of what each of `count` workers has after a reduce-scatter in full."""
    return tuple(
        part._replace(
            size=part.chunk(count),
            coder=part.second if part.group is None else part.coder,
        )
        for part in parts
    )


def cut(x: Array, sizes: Sequence[int]) -> Iterator[Array]:
    """Neighbouring runs of these lengths of the last axis, from its beginning."""
    start = 0
    for size in sizes:
        yield x[..., start : start + size]
        start += size
