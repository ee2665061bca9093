"""Whose random bits round what: those that workers share, or each worker's own."""

import dataclasses
from collections.abc import Sequence

import jax

from qgenx_jax._codec.bits import Joint, Stream
from qgenx_jax._exchange.parts import Part
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes


def streams_of(
    key: Array,
    parts: Sequence[Part],
    vectors: Sequence[Array],
    axis_name: AxisName,
    rounding: str,
) -> list[Stream]:
    """This worker's stream for each vector: no two workers round by equal bits.

    Where the receivers draw the bits again they are shared in any case, so that each
    hash is drawn once for all workers.

    Args:
        key: alike on all workers.
        parts: how the vectors travel.
        vectors: of one exchange.
        axis_name: the axis over workers.
        rounding: "correlated", which takes two workers, or "independent".
    """
    workers, found = axes.axis_size(axis_name), []
    is_together = rounding == "correlated"
    for number, (part, vector) in enumerate(zip(parts, vectors, strict=True)):
        own = jax.random.fold_in(key, number)
        draws_again = part.coder.dithers or part.second.dithers
        if workers == 1 or not (is_together or draws_again):
            found.append(axes.stream_key(own, vector, axis_name))
            continue
        order = "strata" if is_together else "own"
        if part.coder.dithers:
            order = "evenly" if is_together else "apart"
        shared = axes.shard_key(own, vector, axis_name)
        found.append(Joint(shared, axes.axis_index(axis_name), workers, order))
    return found


def over_slow_axes(stream: Stream, slow: AxisName, fast: str) -> Stream:
    """Among the workers of equal places along the fast axis, who average a chunk."""
    if not isinstance(stream, Joint):
        return stream
    key = jax.random.fold_in(stream.key, axes.axis_index(fast))
    index, workers = axes.axis_index(slow), axes.axis_size(slow)
    return dataclasses.replace(stream, key=key, worker=index, workers=workers)
