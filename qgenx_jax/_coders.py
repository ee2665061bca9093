"""A flat vector to bytes and back: quantized, or exact."""

import functools
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from qgenx_jax import _passes, _trees
from qgenx_jax._quantize import Quantizer
from qgenx_jax._types import Array


class Coder(Protocol):
    """A flat vector to bytes and back; how many bytes depends on its size alone."""

    @property
    def keeps_zeros(self) -> bool:
        """Whether zeros stay out of norms and come back as zeros: padding may be."""
        ...

    def n_bytes(self, size: int) -> int:
        """Bytes of `size` coordinates."""
        ...

    def whole(self, size: int) -> int:
        """`size` rounded up to whole buckets."""
        ...

    @property
    def bucket(self) -> int | None:
        """Coordinates that are encoded together; None for all."""
        ...

    def encode(self, key: Array, vector: Array, size: int | None = None) -> Array:
        """Of the first `size` coordinates, or of all: uint8 of shape (n_bytes,)."""
        ...

    def decode(self, data: Array, size: int) -> Array:
        """The vector that bytes stand for, in a dtype that sums can be kept in."""
        ...

    def mean_of(self, payloads: Array, size: int, start: int) -> Array:
        """The mean of K vectors, from rows (K, bytes), from byte `start` of each on.

        Added up in the order of the rows.
        """
        ...

    def recode(
        self,
        payloads: Array,
        size: int,
        start: int,
        second: Any,
        key: Array,
        real: Array | None,
    ) -> Array:
        """That mean as the bytes of a coder of the same kind.

        With `fill` applied, where `real` is not None.
        """
        ...

    def fill(self, vector: Array, real: int | Array) -> Array:
        """The vector with what follows its first `real` coordinates kept out of norms.

        Padding is 0, or, where a bucket's minimum counts too, the last coordinate.
        """
        ...


class Quantized(NamedTuple):
    """Buckets of codes and norms.

    Attributes:
        quantizer: of all coordinates.
        dtype: of the vector.
        levels: the state's; None for the quantizer's own.
        cut: whether the vector is made of several leaves.
    """

    quantizer: Quantizer
    dtype: np.dtype
    levels: Array | None
    cut: bool

    @property
    def keeps_zeros(self) -> bool:
        """See `Coder`."""
        is_sign = self.quantizer.family == "uniform" and self.quantizer.bits == 1
        return not is_sign and self.quantizer.family != "min_max"

    def n_bytes(self, size: int) -> int:
        """See `Coder`."""
        return self.quantizer.n_bytes(size, self.dtype)

    def whole(self, size: int) -> int:
        """See `Coder`."""
        length = self.quantizer.bucket_size or 1
        return -(-size // length) * length

    @property
    def bucket(self) -> int | None:
        """See `Coder`."""
        return self.quantizer.bucket_size

    def encode(self, key: Array, vector: Array, size: int | None = None) -> Array:
        """See `Coder`."""
        size = vector.size if size is None else size
        table = self.quantizer.table_of(self.levels)
        return self.quantizer.records_of(key, vector, size, table)

    def decode(self, data: Array, size: int) -> Array:
        """See `Coder`."""
        return self.mean_of(data[None], size, 0)

    def mean_of(self, payloads: Array, size: int, start: int) -> Array:
        """See `Coder`."""
        table = self.quantizer.table_of(self.levels)
        return self.quantizer.mean_of(
            payloads, size, self.dtype, table, start, self.cut
        )

    def recode(
        self,
        payloads: Array,
        size: int,
        start: int,
        second: "Quantized",
        key: Array,
        real: Array | None,
    ) -> Array:
        """See `Coder`."""
        static = self._replace(levels=None), second._replace(levels=None), size, start
        return _recode(*static, payloads, self.levels, second.levels, key, real)

    def quantization(self, size: int) -> _passes.Quantization:
        """How a vector of `size` coordinates is quantized."""
        table = self.quantizer.table_of(self.levels)
        return self.quantizer.quantization(size, self.dtype, table)

    def fill(self, vector: Array, real: int | Array) -> Array:
        """See `Coder`."""
        return _passes.fill(self.quantization(vector.size).codec, vector, real)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _recode(
    first: Quantized,
    second: Quantized,
    size: int,
    start: int,
    payloads: Array,
    levels: Array | None,
    second_levels: Array | None,
    key: Array,
    real: Array | None,
) -> Array:
    by = first._replace(levels=levels).quantization(size)
    then = second._replace(levels=second_levels).quantization(size)
    return _passes.recode(by, then, payloads, start, key, real)


class Raw(NamedTuple):
    """The coordinates' own bytes."""

    dtype: np.dtype

    @property
    def keeps_zeros(self) -> bool:
        """See `Coder`."""
        return True

    def n_bytes(self, size: int) -> int:
        """See `Coder`."""
        return size * self.dtype.itemsize

    def whole(self, size: int) -> int:
        """See `Coder`."""
        return size

    @property
    def bucket(self) -> int | None:
        """See `Coder`."""
        return 1

    def encode(self, key: Array, vector: Array, size: int | None = None) -> Array:
        """See `Coder`."""
        del key
        return _trees.to_bytes(vector[:size].astype(self.dtype))

    def decode(self, data: Array, size: int) -> Array:
        """See `Coder`."""
        return _trees.widen(_trees.from_bytes(data, (size,), self.dtype))

    def mean_of(self, payloads: Array, size: int, start: int) -> Array:
        """See `Coder`."""
        count, end = payloads.shape[0], start + self.n_bytes(size)
        rows = payloads[:, start:end]
        total = _trees.add_up(count, lambda k: self.decode(rows[k], size))
        return total / count

    def recode(
        self,
        payloads: Array,
        size: int,
        start: int,
        second: "Raw",
        key: Array,
        real: Array | None,
    ) -> Array:
        """See `Coder`."""
        del real  # a mean's padding is as good as any
        return second.encode(key, self.mean_of(payloads, size, start))

    def fill(self, vector: Array, real: int | Array) -> Array:
        """See `Coder`."""
        del real
        return vector
