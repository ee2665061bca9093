"""Two phases: each worker averages a chunk of the vectors, and sends the mean to all.

    encode K chunks -> all-to-all -> decode and average one's own chunk
    -> encode the mean anew -> all-gather -> decode K chunks

A worker sends 2 (K - 1) / K payloads instead of K - 1. Both roundings are unbiased and
independent, so the result is unbiased, too, with

    Var = (1/K^2) sum_k var(V_k) + E var(M),    M the mean of the decoded vectors.

A part of d coordinates is cut into K chunks of ceil(d / K), each with buckets of its
own, or of whole buckets where that is less than 1 % more: little padding travels,
however large a bucket is. Exact leaves are cut likewise; their chunks travel in their
own dtype and the mean in the dtype of sums, so that nothing is rounded and the mean has
the bits of an all-gather's.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qgenx_jax import _trees
from qgenx_jax._codec import bits
from qgenx_jax._codec.bits import Stream
from qgenx_jax._codec.coder import Coder, fill
from qgenx_jax._exchange import checksum
from qgenx_jax._exchange.parts import Part, Pieces, cut
from qgenx_jax._exchange.strategies.all_gather import AllGather
from qgenx_jax._exchange.strategy import (
    Found,
    Wanted,
    gather,
    guarded,
    moved,
    telling,
)
from qgenx_jax._exchange.traffic import Phase, phase
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives


class ReduceScatter(NamedTuple):
    """The strategy "reduce_scatter", see `Strategy`.

    Attributes:
        real: of each part, how many coordinates are not padding; None for all.
        checksum: whether messages have one, see `checksum`.
    """

    name: str = "reduce_scatter"
    real: Sequence[Array] | None = None
    checksum: bool = False

    def mean(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        wanted: Wanted,
        axis_name: AxisName,
    ) -> Found:
        """See `Strategy`; all decode the same bytes, so all get the same bits.

        Own vectors are those of the first phase; what rides along does so in the
        second.
        """
        if not parts:  # there may still be numbers
            alone = AllGather(checksum=self.checksum)
            return alone.mean([], [], [], wanted, axis_name)
        workers, here = axes.axis_size(axis_name), axes.axis_index(axis_name)
        # phase 1: row j, (bytes of a chunk,) of every part, goes to worker j
        sent = []
        for part, vector, stream in zip(parts, vectors, streams, strict=True):
            sent.append(encode_chunks(part, stream, vector, workers))
        needs_own = wanted.own or wanted.scalars
        own = _decoded(parts, sent, streams) if needs_own else None
        fits: list[Array] | None = [] if self.checksum else None
        rows = jnp.concatenate(sent, axis=1)
        arrived = moved(collectives.all_to_all, rows, axis_name, fits)
        # arrived: row k is worker k's chunk number `here`; their mean, encoded anew
        again, start = [], 0
        for index, (part, stream) in enumerate(zip(parts, streams, strict=True)):
            key = bits.own(_second(stream, workers))
            real = None if self.real is None else self.real[index]
            left = _left(part, here, workers, real)
            size, second = part.chunk(workers), part.second
            first = None
            if part.coder.dithers:
                first = bits.of_all(bits.folded(stream, here))
            sent_by = start, second, key, left, first
            again.append(part.coder.recode(arrived, size, *sent_by))
            start += part.coder.n_bytes(size)
        # phase 2: everyone's mean of its chunk to all
        mine = None if wanted.scalars is None else wanted.scalars(own or [])
        gathered, scalars = gather(again, mine, axis_name, fits)
        rows = cut(gathered, [x.size for x in again])
        means = []
        for part, row, stream in zip(parts, rows, streams, strict=True):
            keys = None
            if part.second.dithers:
                keys = bits.own_keys(bits.of_all(_second(stream, workers)))
            means.append(decode_chunks(part, part.second, row, keys))
        return guarded(Found(means, own, scalars), fits, axis_name)

    def own(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        axis_name: AxisName,
    ) -> Sequence[Pieces]:
        """See `Strategy`."""
        workers, each = (
            axes.axis_size(axis_name),
            zip(parts, streams, vectors, strict=True),
        )
        return _decoded(parts, [encode_chunks(*x, workers) for x in each], streams)

    def phases(
        self, parts: Sequence[Part], workers: int, scalar_bytes: int
    ) -> tuple[Phase, ...]:
        """See `Strategy`."""

        def all_of(part: Part) -> int:
            return workers * part.chunk(workers)

        of_a_message = checksum.N_BYTES * self.checksum
        both = (
            phase(
                "all_to_all",
                workers,
                parts,
                lambda part: workers * part.coder.n_bytes(part.chunk(workers)),
                0,
                lambda n: n // workers * (workers - 1),
                lambda part: (all_of(part), all_of(part)),
                checksum_bytes=workers * of_a_message * bool(parts),
            ),
            phase(
                "all_gather",
                workers,
                parts,
                lambda part: part.second.n_bytes(part.chunk(workers)),
                scalar_bytes,
                lambda n: (workers - 1) * n,
                lambda part: (part.chunk(workers), all_of(part)),
                checksum_bytes=of_a_message,
            ),
        )
        return (*both, telling(workers)) if self.checksum else both


def _decoded(
    parts: Sequence[Part], sent: Sequence[Array], streams: Sequence[Stream]
) -> list[Pieces]:
    """What a worker's own chunks stand for."""
    found = []
    for part, rows, stream in zip(parts, sent, streams, strict=True):
        senders = None
        if part.coder.dithers:
            senders = jax.vmap(bits.of_one)(_of_chunks(stream, rows.shape[0]))
        found.append(decode_chunks(part, part.coder, rows, senders))
    return found


def _of_chunks(stream: Stream, count: int) -> Stream:
    """The streams of chunks that are encoded on their own, along a new first axis."""
    return jax.vmap(lambda i: bits.folded(stream, i))(jnp.arange(count))


def _second(stream: Stream, workers: int) -> Stream:
    """That of the second phase, by which each encodes the mean of its chunk.

    The first one has used the streams 0 to K - 1, or 0 and 1. Of a chunk's mean there
    is one encoder, with nobody to share bits with: it takes a key of its own.
    """
    return bits.folded(stream, max(workers, 2))


def encode_chunks(part: Part, stream: Stream, vector: Array, count: int) -> Array:
    """A vector's chunks, each encoded on its own: uint8 (count, bytes)."""
    chunk, length = part.chunk(count), part.coder.bucket_size
    if count == 1 or not length or chunk % length or part.coder.dithers:
        # chunks with a short bucket at their end, or whose bits are drawn again by
        # those who decode them: one after the other
        streams = _of_chunks(stream, count)
        encode = functools.partial(part.coder.encode, size=chunk)
        return jax.vmap(encode)(streams, part.chunks(vector, count))
    # chunks of whole buckets are one vector: its full buckets as they lie there, and
    # what is left of it, padded to the end of the last chunk
    full = part.size // length * length
    tail = jnp.pad(vector[full:], (0, count * chunk - part.size))
    if part.size > full and not part.coder.keeps_zeros:
        tail = fill(part.coder, tail, part.size - full)
    # two streams: both begin at word 0
    streams = [bits.folded(stream, number) for number in range(2)]
    encoded = part.coder.encode(streams[0], vector, full)
    last = part.coder.encode(streams[1], tail, tail.size)
    shape = (count, part.coder.n_bytes(chunk))
    return jnp.concatenate([encoded, last]).reshape(shape)


def _left(part: Part, index: Array, count: int, real: Array | None) -> Array | None:
    """How many coordinates of chunk `index` are not padding; None where none matters.

    `real` is their number in the whole part, where not all are.
    """
    size = part.chunk(count)
    is_padded = real is not None or size * count != part.size
    if not is_padded or (part.coder.keeps_zeros and part.second.keeps_zeros):
        return None
    return part.real(index, count) if real is None else real - index * size


def decode_chunks(part: Part, coder: Coder, rows: Array, senders: Any = None) -> Pieces:
    """The vector whose chunks a coder encoded, from uint8 (count, bytes).

    Senders are the chunks' streams, along a first axis, for a coder that dithers.
    """
    count = rows.shape[0]
    chunk = part.chunk(count)
    if senders is not None:

        def undither(data: Array, sender: Stream) -> Array:
            pieces = coder.mean(data[None], chunk, 0, sender)
            return _trees.concatenate(pieces, part.dtype)

        return [part.together(jax.vmap(undither)(rows, senders))]
    if coder.bucket_size and chunk % coder.bucket_size == 0:
        # as one vector of whole buckets, so there is one piece; buckets that are all
        # padding are left out, since to cut the vector is to copy it
        whole = coder.padded_size(part.size)
        data = rows.reshape(-1)[: coder.n_bytes(whole)]
        pieces = coder.mean(data[None], whole)
        return [x[: part.size] for x in pieces]

    def decode(data: Array) -> Array:
        return _trees.concatenate(coder.mean(data[None], chunk), part.dtype)

    return [part.together(jax.vmap(decode)(rows))]
