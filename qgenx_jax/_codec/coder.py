"""A flat vector to bytes and back: quantized, or exact.

    encode   a vector -> bytes                        a worker's own, before it is sent
    mean     K rows of bytes -> their mean            what arrived
    recode   K rows of bytes -> their mean -> bytes   between two phases

Each is one program of its own where fusion has to stop (`fusion`), whose loops go over
rows of buckets. Nothing as long as the vector is stored in between, but for what
`recode` says.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _trees
from qgenx_jax._codec import fusion, packing, records
from qgenx_jax._codec.bits import Stream
from qgenx_jax._codec.records import Format
from qgenx_jax._codec.rounding import Rounding, is_better_stored, pytree, static
from qgenx_jax._types import Array


class Coder(Protocol):
    """Flat vectors of a dtype to bytes and back; their number depends on the size."""

    @property
    def keeps_zeros(self) -> bool:
        """Whether zeros stay out of norms and come back as zeros: padding may be."""
        ...

    @property
    def bucket_size(self) -> int | None:
        """Coordinates that are encoded together; None for all."""
        ...

    def n_bytes(self, size: int) -> int:
        """Bytes of `size` coordinates."""
        ...

    def padded_size(self, size: int) -> int:
        """`size` rounded up to whole buckets."""
        ...

    def encode(self, stream: Stream, vector: Array, size: int) -> Array:
        """The bytes of the coordinates that a vector begins with: uint8 (n_bytes,).

        Others may follow them: to cut the vector here costs nothing.
        """
        ...

    @property
    def dithers(self) -> bool:
        """Whether `mean` needs the stream that its rows were encoded by."""
        ...

    def mean(
        self, rows: Array, size: int, start: int = 0, stream: Stream | None = None
    ) -> list[Array]:
        """The mean of K vectors of `size` coordinates, from bytes (K, any).

        Those of a row begin at `start`; others may follow. Vectors are added up in the
        order of the rows. A coder that dithers takes the stream of the rows, see
        `bits.of_all`.

        Returns:
            Flat arrays, one after the other: the full buckets, and the short one.
        """
        ...

    def recode(
        self,
        rows: Array,
        size: int,
        start: int,
        second: Any,
        key: Array,
        real: Array | None,
        stream: Stream | None = None,
    ) -> Array:
        """The bytes by a second coder, of the same kind, of what `mean` gives.

        What follows the first `real` coordinates is padding; None if nothing is. The
        second coder's are by the key.
        """
        ...

    def padding(self, vector: Array, real: int | Array) -> Array:
        """What may follow the first `real` coordinates and stays out of norms: ()."""
        ...


def fill(coder: Coder, vector: Array, real: int | Array) -> Array:
    """A vector whose padding, after its first `real` coordinates, counts in no norm."""
    if vector.size == 0:
        return vector
    padding = coder.padding(vector, real)
    return jnp.where(jnp.arange(vector.size) < real, vector, padding)


@pytree
class Quantized:
    """Buckets of codes and of what their coordinates share.

    Attributes:
        rounding: of buckets to codes; holds the levels, where there are some.
        form: of the records.
    """

    rounding: Rounding
    form: Format = static()

    @property
    def keeps_zeros(self) -> bool:
        """See `Coder`."""
        return self.rounding.keeps_zeros and not self.form.turned

    @property
    def dithers(self) -> bool:
        """See `Coder`."""
        return self.rounding.dithers

    @property
    def bucket_size(self) -> int | None:
        """See `Coder`."""
        return self.form.bucket_size

    def n_bytes(self, size: int) -> int:
        """See `Coder`."""
        return self.form.n_bytes(size)

    def padded_size(self, size: int) -> int:
        """See `Coder`."""
        length = self.form.bucket_size or 1
        return -(-size // length) * length

    def padding(self, vector: Array, real: int | Array) -> Array:
        """See `Coder`."""
        if self.form.turned:  # which adds nothing, whatever is measured
            return jnp.zeros((), vector.dtype)
        return self.rounding.padding(vector, real)

    @functools.partial(jax.jit, static_argnames="size")
    def encode(self, stream: Stream, vector: Array, size: int) -> Array:
        """See `Coder`."""
        encode = functools.partial(records.encode, self.form, size)
        return _flat(fusion.apart(encode, self.rounding, stream, vector))

    @functools.partial(jax.jit, static_argnames=("size", "start"))
    def mean(
        self, rows: Array, size: int, start: int = 0, stream: Stream | None = None
    ) -> list[Array]:
        """See `Coder`."""
        mean = functools.partial(records.mean, self.form, size, start)
        found = fusion.apart(mean, self.rounding, rows, self._known(stream))
        return [x.reshape(-1) for x in found]

    def _known(self, stream: Stream | None) -> Stream | None:
        """The stream, where `mean` takes one."""
        assert not self.dithers or stream is not None
        return stream if self.dithers else None

    @functools.partial(jax.jit, static_argnames=("size", "start"))
    def recode(
        self,
        rows: Array,
        size: int,
        start: int,
        second: "Quantized",
        key: Array,
        real: Array | None,
        stream: Stream | None = None,
    ) -> Array:
        """See `Coder`; the bytes of `mean`, `fill` and `encode`, one after the other.

        The mean of up to 4 rows is computed twice, for each bucket's maximum and for
        its codes, and never stored. On CPUs it is where that takes less time: for more
        rows, with levels that are looked up, and with second codes of 3, 5, 6 or 7
        bits, which are packed from stored codes.

        A mean of turned buckets, whose second ones are the same, is neither turned back
        nor filled: what padding has become is left out where all is decoded.
        """
        then = second.form
        is_alike = self.form.buckets(size) == then.buckets(size)
        stays = is_alike and self.form.turned and then.turned

        def mean(by: Rounding, rows: Array, sent: Stream | None) -> list[Array]:
            of = self.form, size, start, by, rows, sent
            return records.mean(*of, as_rounded=stays)

        def cut(means: Sequence[Array]) -> Sequence[Array]:
            # to the second coder's buckets, by a reshape where they are the same
            if stays or (real is None and is_alike and not then.turned):
                pairs = zip(means, then.buckets(size), strict=True)
                return [x.reshape(shape) for x, shape in pairs]
            flat = _trees.concatenate([x.reshape(-1) for x in means], self.form.wide)
            flat = flat if real is None else fill(second, flat, real)
            return records.cut(then, size, flat)

        encode = functools.partial(records.encode, then, size)

        def at_once(by: Rounding, again: Rounding, key: Array, rows: Array) -> list:
            return encode(again, key, cut(mean(by, rows, None)))

        count, by, again = rows.shape[0], self.rounding, second.rounding
        sent = self._known(stream)
        # codes of several parts are stored before they are packed; a mean that is not
        # would be computed for each part
        if is_better_stored(by, count) or not packing.is_one_part(then.bits):
            means = cut(fusion.apart(mean, by, rows, sent))
            return _flat(fusion.apart(encode, again, key, means))
        return _flat(fusion.apart(at_once, by, again, key, rows))


def _flat(found: Sequence[Array]) -> Array:
    """Records as one vector of bytes."""
    return _trees.concatenate([x.reshape(-1) for x in found], "uint8")


class Raw(NamedTuple):
    """The coordinates' own bytes."""

    dtype: np.dtype

    @property
    def keeps_zeros(self) -> bool:
        """See `Coder`."""
        return True

    @property
    def dithers(self) -> bool:
        """See `Coder`."""
        return False

    @property
    def bucket_size(self) -> int | None:
        """See `Coder`."""
        return 1

    def n_bytes(self, size: int) -> int:
        """See `Coder`."""
        return size * self.dtype.itemsize

    def padded_size(self, size: int) -> int:
        """See `Coder`."""
        return size

    def padding(self, vector: Array, real: int | Array) -> Array:
        """See `Coder`."""
        del real
        return jnp.zeros((), vector.dtype)

    def encode(self, stream: Stream, vector: Array, size: int) -> Array:
        """See `Coder`."""
        del stream
        return packing.to_bytes(vector[:size].astype(self.dtype))

    def mean(
        self, rows: Array, size: int, start: int = 0, stream: Stream | None = None
    ) -> list[Array]:
        """See `Coder`; in a dtype that sums can be kept in."""
        del stream
        rows = rows[:, start : start + self.n_bytes(size)]

        def term(k: Any) -> Array:
            return _trees.widen(packing.from_bytes(rows[k], (size,), self.dtype))

        total = _trees.add_up(rows.shape[0], term)
        return [total / rows.shape[0] if rows.shape[0] > 1 else total]

    def recode(
        self,
        rows: Array,
        size: int,
        start: int,
        second: "Raw",
        key: Array,
        real: Array | None,
        stream: Stream | None = None,
    ) -> Array:
        """See `Coder`."""
        del real, stream  # a mean's padding is as good as any
        (mean,) = self.mean(rows, size, start)
        return second.encode(key, mean, size)
