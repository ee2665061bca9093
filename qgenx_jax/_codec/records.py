"""A flat vector to records and back: whole passes over buckets.

    encode: cut -> measure -> round, piece by piece, by bits drawn there -> pack -> join
    mean:   open -> unpack -> values -> add up over workers -> share

Where buckets are turned, they are when they are cut, and turned back once added up.
A record is a bucket's bytes: its packed codes, then what its coordinates share. Each
step is a function, called in one place, so that a profile can time it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _checks, _trees
from qgenx_jax._codec import bits, fusion, packing, rotation, scales
from qgenx_jax._codec.bits import Bits, Stream
from qgenx_jax._codec.rounding import Dithering, Rounding
from qgenx_jax._types import Array


class Format(NamedTuple):
    """How vectors are laid out in records.

    Attributes:
        bits: per coordinate.
        n_meta: numbers that a bucket's coordinates share.
        wide: dtype of these numbers and of all arithmetic.
        bucket_size: coordinates of a bucket; None for one bucket.
        narrow: whether those numbers travel as bfloat16, the upper halves of float32.
        turned: whether what is rounded are buckets that were turned, see `rotation`.
    """

    bits: int
    n_meta: int
    wide: np.dtype
    bucket_size: int | None
    narrow: bool = False
    turned: bool = False

    @property
    def sent(self) -> np.dtype:
        """The dtype in which numbers that coordinates share travel."""
        return np.dtype(jnp.bfloat16) if self.narrow else self.wide

    def buckets(self, size: int) -> tuple[tuple[int, int], ...]:
        """How `size` coordinates are cut: (rows, length) of the full and the short."""
        if size == 0:
            return ()
        length = min(self.bucket_size or size, size)
        full, rest = divmod(size, length)
        return ((full, length),) + (((1, rest),) if rest else ())

    def record_bytes(self, length: int) -> int:
        """Bytes of the record of a bucket of this length."""
        packed = packing.packed_size(length, self.bits)
        return packed + self.n_meta * self.sent.itemsize

    def n_bytes(self, size: int) -> int:
        """Bytes of the records of `size` coordinates."""
        buckets = self.buckets(size)
        return sum(rows * self.record_bytes(length) for rows, length in buckets)

    def piece(self, length: int) -> int:
        """Coordinates of one of the pieces that a bucket is packed from."""
        return -(-length // packing.pieces_of(self.bits))

    def words(self, length: int) -> int:
        """Words of random bits of a bucket: each rounds two coordinates."""
        return packing.pieces_of(self.bits) // 2 * self.piece(length)


def cut(form: Format, size: int, vector: Array | Sequence[Array]) -> Sequence[Array]:
    """The full and the short buckets that a vector begins with: (rows, length).

    Turned, where they are rounded so. What is cut already stays as it is.
    """
    if not isinstance(vector, jax.Array):
        return vector
    found, start = [], 0
    for rows, length in form.buckets(size):
        end = start + rows * length
        bucket = vector[start:end].reshape(rows, length).astype(form.wide)
        found.append(rotation.forward(bucket) if form.turned else bucket)
        start = end
    return found


def encode(
    form: Format,
    size: int,
    rounding: Rounding,
    stream: Stream,
    vector: Array | Sequence[Array],
) -> list[Array]:
    """Records of the full and the short buckets: uint8 arrays (rows, bytes).

    Args:
        form: of the records.
        size: coordinates to encode.
        rounding: of the coordinates.
        stream: of the random bits.
        vector: begins with the coordinates; or their buckets, as `cut` has them.
    """
    records, words, before = [], 0, 0
    for bucket in cut(form, size, vector):
        rows, length = bucket.shape
        # the short bucket's words follow those of the full ones
        drawn = bits.bits_for(stream, rows, form.words(length), words, before)
        words += rows * form.words(length)
        before += rows
        grid, meta = rounding.measure(bucket)
        if packing.is_one_part(form.bits):
            pieces = round_pieces(form, rounding, grid, drawn, bucket)
        else:
            pieces = round_once(form, rounding, grid, drawn, bucket)
        # exact: of a scale of 16 bits 8 are significant
        meta = meta.astype(form.sent)
        records.append(join(pack(form, pieces, length), meta))
    if words > 2**32:
        raise _checks.refuse(
            "x",
            "must need at most 2^32 words of random bits, or they would repeat",
            f"{words} words",
            "take larger buckets, or encode it in pieces with keys of their own",
        )
    return records


def round_pieces(
    form: Format, rounding: Rounding, grid: Any, drawn: Bits, bucket: Array
) -> list[Array]:
    """Codes of buckets (rows, length), in the pieces that `pack` takes.

    Returns:
        uint8 arrays (rows, form.piece(length)); the last ones end in zeros.
    """
    size, length = bucket.shape[1], form.piece(bucket.shape[1])
    pieces = []
    for start in range(0, packing.pieces_of(form.bits) * length, length):
        # a short bucket may end before its last pieces begin: those are all padding
        end = max(start, min(start + length, size))
        r16, values = drawn.piece(start, end - start), bucket[:, start:end]
        if drawn.order is not None and rounding.rounds_magnitudes:
            # more is up, for all workers: what rounds a magnitude up, or a value
            r16 = jnp.where(values < 0, r16 ^ (2**16 - 1), r16)
        codes = rounding.round(values, grid, r16)
        missing = start + length - end
        pieces.append(jnp.pad(codes, ((0, 0), (0, missing))) if missing else codes)
    return pieces


def round_once(
    form: Format, rounding: Rounding, grid: Any, drawn: Bits, bucket: Array
) -> list[Array]:
    """`round_pieces`, stored: where parts of a code go to several bytes, each in a loop
    of its own, XLA would round in each.
    """
    codes = fusion.apart(
        lambda x: jnp.concatenate(round_pieces(form, rounding, grid, drawn, x), axis=1),
        bucket,
    )
    length = form.piece(bucket.shape[1])
    return [codes[:, i : i + length] for i in range(0, codes.shape[1], length)]


def pack(form: Format, pieces: Sequence[Array], length: int) -> Array:
    """Packed codes of buckets of this length: uint8 (rows, bytes)."""
    packed = packing.pack(pieces, form.bits)
    return packed[:, : packing.packed_size(length, form.bits)]


def join(packed: Array, meta: Array) -> Array:
    """Records (rows, bytes) from packed codes and meta (rows, m)."""
    as_bytes = lax.bitcast_convert_type(meta, jnp.uint8).reshape(meta.shape[0], -1)
    return jnp.concatenate([packed, as_bytes], axis=1)


def mean(
    form: Format,
    size: int,
    start: int,
    rounding: Rounding,
    payloads: Array,
    stream: Stream | None = None,
    *,
    as_rounded: bool = False,
) -> list[Array]:
    """The mean of what K payloads stand for.

    Added up in their order, so that all who do this get the same bits: products of
    codes and steps are exact, or `scales.product`s, however a compiler fuses them with
    the additions.

    Args:
        form: of the records.
        size: coordinates of each.
        start: byte of each at which its records begin.
        rounding: of the coordinates.
        payloads: uint8 of shape (K, bytes).
        stream: of the bits that rounded them, with the number of each payload's worker,
            for roundings that dither.
        as_rounded: whether the mean of turned buckets is not turned back.

    Returns:
        Values of the full and of the short buckets: (rows, ...), whose further axes
        make up a bucket in order.
    """
    count, means = payloads.shape[0], []
    undithered = None if stream is None else _undithered(form, rounding, stream, size)
    for records in open_records(form, payloads, size, start):

        def term(k: Any, records: Records = records) -> tuple[Array, Array]:
            meta = records.meta(k)
            if undithered is not None:
                return undithered(records, k, meta), meta[-1]
            return rounding.values(records.codes(k), meta), meta[-1]

        total, sum_of_scales = _trees.add_up(count, term)
        if form.turned and not as_rounded:
            # before it is multiplied: a product that is added up could be fused
            flat = total.reshape(total.shape[0], -1)[:, : records.length]
            total = rotation.inverse(flat)[:, None]
        if count > 1:
            total *= scales.share(count, sum_of_scales)
        if records.length != total[0].size:  # packed runs end in padding
            total = total.reshape(total.shape[0], -1)[:, : records.length]
        means.append(total)
    return means


def _undithered(
    form: Format, rounding: Rounding, stream: Stream, size: int
) -> Callable[["Records", Any, list[Array]], Array]:
    """The values of payload k's records, by bits drawn for all workers at once."""
    dithering, words, place = cast(Dithering, rounding), bits.words_of(stream), {}
    offset, first, hashes = 0, 0, None
    for rows, length in form.buckets(size):
        if isinstance(stream, bits.Joint) and stream.order == "evenly":
            hashes = bits.hashes_of(stream, words[2:], rows, first)
        place[length] = rows, form.words(length), offset, first, words, hashes
        offset, first = offset + rows * form.words(length), first + rows

    def values(records: "Records", k: Any, meta: list[Array]) -> Array:
        drawn = bits.bits_for(bits.row(stream, k), *place[records.length])
        codes = records.codes(k)
        return dithering.undithered(codes, meta, drawn.runs(*codes.shape[1:]))

    return values


class Records(NamedTuple):
    """Records of buckets of one length, as they arrived from K workers.

    Attributes:
        data: uint8 of shape (K, rows, bytes).
        length: coordinates of a bucket.
        form: of the records.
    """

    data: Array
    length: int
    form: Format

    @property
    def _packed(self) -> int:
        return packing.packed_size(self.length, self.form.bits)

    def codes(self, k: Any) -> Array:
        """Those of worker k, int32 (rows, runs, m): see `packing.unpack`."""
        return packing.unpack(self.data[k][:, : self._packed], self.form.bits)

    def meta(self, k: Any) -> list[Array]:
        """Those of worker k, arrays that broadcast against its codes."""
        words = packing.words(self.data[k][:, self._packed :], self.form.sent)
        words = words.astype(self.form.wide)
        return [words[:, i, None, None] for i in range(self.form.n_meta)]


def open_records(
    form: Format, payloads: Array, size: int, start: int
) -> Iterator[Records]:
    """The full and the short buckets of payloads (K, bytes), from byte `start` on."""
    for rows, length in form.buckets(size):
        end = start + rows * form.record_bytes(length)
        data = payloads[:, start:end].reshape(payloads.shape[0], rows, -1)
        yield Records(data, length, form)
        start = end
