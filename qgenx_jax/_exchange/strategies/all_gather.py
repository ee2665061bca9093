"""One phase: everyone sends its bytes to all, and all decode and average them.

    encode -> all-gather of one uint8 buffer -> decode K payloads and average

A worker sends K - 1 payloads, and each vector is quantized once, as in algorithm 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

from qgenx_jax._exchange.parts import Part, Pieces
from qgenx_jax._exchange.strategy import Found, Wanted, gather
from qgenx_jax._exchange.traffic import Phase, phase
from qgenx_jax._types import Array, AxisName


class AllGather(NamedTuple):
    """The strategy "all_gather", see `Strategy`."""

    name: str = "all_gather"

    def mean(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        keys: Sequence[Array],
        wanted: Wanted,
        axis_name: AxisName,
    ) -> Found:
        """See `Strategy`."""
        sent = []
        for part, vector, key in zip(parts, vectors, keys, strict=True):
            sent.append(part.coder.encode(key, vector, part.size))
        own = _decoded(parts, sent) if wanted.own or wanted.scalars else None
        mine = None if wanted.scalars is None else wanted.scalars(own or [])
        arrived, scalars = gather(sent, mine, axis_name)  # (K, bytes)
        means, start = [], 0
        for part in parts:
            means.append(part.coder.mean(arrived, part.size, start))
            start += part.coder.n_bytes(part.size)
        return Found(means, own, scalars)

    def own(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        keys: Sequence[Array],
        axis_name: AxisName,
    ) -> Sequence[Pieces]:
        """See `Strategy`."""
        del axis_name
        each = zip(parts, vectors, keys, strict=True)
        return _decoded(parts, [p.coder.encode(key, x, p.size) for p, x, key in each])

    def phases(
        self, parts: Sequence[Part], workers: int, scalar_bytes: int
    ) -> tuple[Phase, ...]:
        """See `Strategy`."""
        return (
            phase(
                "all_gather",
                workers,
                parts,
                lambda part: part.coder.n_bytes(part.size),
                scalar_bytes,
                lambda n: (workers - 1) * n,
                lambda part: (part.size, workers * part.size),
            ),
        )


def _decoded(parts: Sequence[Part], sent: Sequence[Array]) -> list[Pieces]:
    """What a worker's own bytes stand for: the mean of one."""
    each = zip(parts, sent, strict=True)
    return [part.coder.mean(data[None], part.size) for part, data in each]
