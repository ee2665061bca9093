"""Exact over a fast axis, quantized over a slow one.

    reduce-scatter over the fast axis -> quantized mean over the slow axes, of 1/N of
    the vector on each device -> all-gather over the fast axis

What is quantized is the mean over the N workers of one fast axis.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks, _trees
from qgenx_jax._codec.bits import Stream
from qgenx_jax._codec.coder import Raw
from qgenx_jax._exchange.parts import Part, Pieces, cut, shares
from qgenx_jax._exchange.strategies.reduce_scatter import ReduceScatter
from qgenx_jax._exchange.strategy import Found, Strategy, Wanted
from qgenx_jax._exchange.streams import over_slow_axes
from qgenx_jax._exchange.traffic import Phase, phase
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives


class Hierarchical(NamedTuple):
    """The strategy "hierarchical", see `Strategy`.

    Attributes:
        inner: of the mean over the slow axes; exact where there is one host.
        fast: N, workers along the last axis.
    """

    inner: Strategy
    fast: int
    name: str = "hierarchical"

    def mean(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        wanted: Wanted,
        axis_name: AxisName,
    ) -> Found:
        """See `Strategy`; there are no own vectors, nor what is made of them.

        Raises:
            ValueError: where something rides along.
        """
        if wanted.scalars is not None:
            raise refuse_own("scalar=")
        assert isinstance(axis_name, tuple)
        slow, fast = axis_name[:-1], axis_name[-1]
        # (N, chunk) of each part; device k of a host keeps the mean of its rows k
        rows = [
            part.chunks(vector.astype(part.dtype), self.fast)
            for part, vector in zip(parts, vectors, strict=True)
        ]
        owned = _per_dtype(
            rows, lambda x: collectives.reduce_scatter(x, fast) / self.fast
        )
        inner = self.inner
        if isinstance(inner, ReduceScatter):  # it cuts again, and must know the padding
            before = axes.axis_index(fast)
            real = [part.real(before, self.fast) for part in parts]
            inner = inner._replace(real=real)
        shared = [over_slow_axes(stream, slow, fast) for stream in streams]
        found = inner.mean(shares(parts, self.fast), owned, shared, Wanted(), slow)
        each = zip(parts, found.means, strict=True)
        means = [_trees.concatenate(pieces, part.dtype) for part, pieces in each]
        gathered = _per_dtype(means, lambda x: collectives.gather(x, fast))
        together = [[p.together(x)] for p, x in zip(parts, gathered, strict=True)]
        return Found(together, None, None)

    def own(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        axis_name: AxisName,
    ) -> Sequence[Pieces]:
        """See `Strategy`.

        Raises:
            ValueError: always.
        """
        raise refuse_own("quantize")

    def phases(
        self, parts: Sequence[Part], workers: int, scalar_bytes: int
    ) -> tuple[Phase, ...]:
        """See `Strategy`: a float reduce-scatter, the inner phases, an all-gather.

        Raises:
            ValueError: where something rides along.
        """
        if scalar_bytes:
            raise refuse_own("scalar=")
        fast, shared = self.fast, shares(parts, self.fast)

        def n_bytes(part: Part) -> int:
            return Raw(part.dtype).n_bytes(part.size)

        first = phase(
            "reduce_scatter",
            fast,
            shared,
            lambda part: fast * n_bytes(part),
            0,
            lambda n: n // fast * (fast - 1),
        )
        between = self.inner.phases(shared, workers // fast, 0)
        last = phase("all_gather", fast, shared, n_bytes, 0, lambda n: (fast - 1) * n)
        return (first, *between, last)


def _per_dtype(
    arrays: Sequence[Array], collective: Callable[[Array], Array]
) -> list[Array]:
    """A collective over arrays joined along their last axes, once for each dtype."""
    results: list[Array] = list(arrays)
    for dtype in dict.fromkeys(np.dtype(x.dtype) for x in arrays):
        of = [i for i, x in enumerate(arrays) if x.dtype == dtype]
        joined = collective(jnp.concatenate([arrays[i] for i in of], axis=-1))
        pieces = cut(joined, [arrays[i].shape[-1] for i in of])
        for i, x in zip(of, pieces, strict=True):
            results[i] = x
    return results


def refuse_own(what: str) -> ValueError:
    """The error for what needs a worker's own quantized vector."""
    return _checks.refuse(
        "collective",
        f"must not be 'hierarchical' for {what}, which needs each worker's own "
        "quantized vector: quantized is the mean over the fast axis",
        "hierarchical",
        "choose 'reduce_scatter' or 'all_gather'",
    )
