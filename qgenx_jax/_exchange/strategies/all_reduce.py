"""Exact: one all-reduce in the precision that sums are kept in."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from qgenx_jax._codec.bits import Stream
from qgenx_jax._codec.coder import Raw
from qgenx_jax._exchange.parts import Part, Pieces
from qgenx_jax._exchange.strategy import Found, Wanted
from qgenx_jax._exchange.traffic import Phase, phase
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives


class AllReduce(NamedTuple):
    """The strategy "exact", see `Strategy`; for leaves that travel exact."""

    name: str = "exact"

    def mean(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        wanted: Wanted,
        axis_name: AxisName,
    ) -> Found:
        """See `Strategy`; what rides along does so in a row (K, ...), 0 elsewhere."""
        workers = axes.axis_size(axis_name)
        own = self.own(parts, vectors, streams, axis_name)
        row = None
        mine = None if wanted.scalars is None else wanted.scalars(own)
        if mine is not None:
            here = jnp.arange(workers) == axes.axis_index(axis_name)
            row = jnp.where(here.reshape(-1, *(1 for _ in mine.shape)), mine, 0)
        flat = [vector for (vector,) in own]
        totals, scalars = collectives.all_reduce((flat, row), axis_name)
        return Found([[x / workers] for x in totals], own, scalars)

    def own(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        axis_name: AxisName,
    ) -> Sequence[Pieces]:
        """See `Strategy`; the vectors, in dtypes that sums can be kept in."""
        del streams, axis_name
        return [[x.astype(p.dtype)] for p, x in zip(parts, vectors, strict=True)]

    def phases(
        self, parts: Sequence[Part], workers: int, scalar_bytes: int
    ) -> tuple[Phase, ...]:
        """See `Strategy`; a ring's, with a slot for the numbers of each worker."""
        return (
            phase(
                "all_reduce",
                workers,
                parts,
                lambda part: Raw(part.dtype).n_bytes(part.size),
                workers * scalar_bytes,
                lambda n: -(-2 * (workers - 1) * n // workers),
            ),
        )
