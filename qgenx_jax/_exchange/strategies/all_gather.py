"""One phase: everyone sends its bytes to all, and all decode and average them.

    encode -> all-gather of one uint8 buffer -> decode K payloads and average

A worker sends K - 1 payloads, and each vector is quantized once, as in algorithm 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

from qgenx_jax._codec import bits
from qgenx_jax._codec.bits import Stream
from qgenx_jax._exchange import checksum
from qgenx_jax._exchange.parts import Part, Pieces
from qgenx_jax._exchange.strategy import Found, Wanted, gather, guarded, telling
from qgenx_jax._exchange.traffic import Phase, phase
from qgenx_jax._types import Array, AxisName


class AllGather(NamedTuple):
    """The strategy "all_gather", see `Strategy`.

    Attributes:
        checksum: whether messages have one, see `checksum`.
    """

    name: str = "all_gather"
    checksum: bool = False

    def mean(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        wanted: Wanted,
        axis_name: AxisName,
    ) -> Found:
        """See `Strategy`."""
        sent = []
        for part, vector, stream in zip(parts, vectors, streams, strict=True):
            sent.append(part.coder.encode(stream, vector, part.size))
        needs_own = wanted.own or wanted.scalars
        own = _decoded(parts, sent, streams) if needs_own else None
        mine = None if wanted.scalars is None else wanted.scalars(own or [])
        fits: list[Array] | None = [] if self.checksum else None
        arrived, scalars = gather(sent, mine, axis_name, fits)  # (K, bytes)
        means, start = [], 0
        for part, stream in zip(parts, streams, strict=True):
            senders = bits.of_all(stream) if part.coder.dithers else None
            means.append(part.coder.mean(arrived, part.size, start, senders))
            start += part.coder.n_bytes(part.size)
        return guarded(Found(means, own, scalars), fits, axis_name)

    def own(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        axis_name: AxisName,
    ) -> Sequence[Pieces]:
        """See `Strategy`."""
        del axis_name
        each = zip(parts, vectors, streams, strict=True)
        sent = [part.coder.encode(stream, x, part.size) for part, x, stream in each]
        return _decoded(parts, sent, streams)

    def phases(
        self, parts: Sequence[Part], workers: int, scalar_bytes: int
    ) -> tuple[Phase, ...]:
        """See `Strategy`."""
        first = phase(
            "all_gather",
            workers,
            parts,
            lambda part: part.coder.n_bytes(part.size),
            scalar_bytes,
            lambda n: (workers - 1) * n,
            lambda part: (part.size, workers * part.size),
            checksum_bytes=checksum.N_BYTES * self.checksum,
        )
        return (first, telling(workers)) if self.checksum else (first,)


def _decoded(
    parts: Sequence[Part], sent: Sequence[Array], streams: Sequence[Stream]
) -> list[Pieces]:
    """What a worker's own bytes stand for: the mean of one."""
    found = []
    for part, data, stream in zip(parts, sent, streams, strict=True):
        sender = bits.of_one(stream) if part.coder.dithers else None
        found.append(part.coder.mean(data[None], part.size, 0, sender))
    return found
