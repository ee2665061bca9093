"""Whose random bits round what: those that workers share, or each worker's own."""

from collections.abc import Sequence

import jax

from qgenx_jax._codec.bits import Joint, Stream
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes


def streams_of(
    key: Array, vectors: Sequence[Array], axis_name: AxisName, rounding: str
) -> list[Stream]:
    """This worker's stream for each vector: no two workers round by equal bits.

    Args:
        key: alike on all workers.
        vectors: of one exchange.
        axis_name: the axis over workers.
        rounding: "correlated", which takes two workers, or "independent".
    """
    workers, found = axes.axis_size(axis_name), []
    for number, vector in enumerate(vectors):
        own = jax.random.fold_in(key, number)
        if rounding == "independent" or workers == 1:
            found.append(axes.stream_key(own, vector, axis_name))
            continue
        shared = axes.shard_key(own, vector, axis_name)
        found.append(Joint(shared, axes.axis_index(axis_name), workers))
    return found


def over_slow_axes(stream: Stream, slow: AxisName, fast: str) -> Stream:
    """Among the workers of equal places along the fast axis, who average a chunk."""
    if not isinstance(stream, Joint):
        return stream
    key = jax.random.fold_in(stream.key, axes.axis_index(fast))
    workers = axes.axis_size(slow)
    return Joint(key, axes.axis_index(slow), workers)
