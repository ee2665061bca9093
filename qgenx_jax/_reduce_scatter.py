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

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax import _collectives, _wire, _workers
from qgenx_jax._types import Array, AxisName


def reduce_scatter_mean(
    parts: Sequence[_wire.Part],
    vectors: Sequence[Array],
    keys: Sequence[Array],
    number_of: _collectives.NumberOf | None,
    axis_name: AxisName,
    real: Sequence[int | Array] | None = None,
) -> tuple[list[Array], list[Array], Array | None]:
    """The mean of what all workers decode, encoded again; see the module's docstring.

    All workers decode the same bytes, so all get the same bits.

    Args:
        parts: how the vectors travel.
        vectors: this worker's, one for each part.
        keys: of the rounding, this worker's own for each part.
        number_of: see `NumberOf`; rides in the second phase. None for none.
        axis_name: the axis over workers.
        real: of each part, how many coordinates are not padding; all by default.

    Returns:
        As `all_gather_mean`; the own vectors are those of the first phase.
    """
    if not parts:  # there may still be numbers
        return _collectives.all_gather_mean([], [], [], number_of, axis_name)
    workers = _workers.axis_size(axis_name)
    sent, own = encode_chunks(parts, vectors, keys, workers)
    arrived = _workers.all_to_all(jnp.concatenate(sent, axis=1), axis_name)
    here = lax.axis_index(axis_name)
    again, start = [], 0
    for index, (part, key) in enumerate(zip(parts, keys, strict=True)):
        # the first phase's streams are 0 to K - 1, or 0 and 1
        stream = jax.random.fold_in(key, max(workers, 2))
        end = None if real is None else real[index]
        again.append(part.recode_chunk(arrived, start, stream, here, end))
        start += part.coder.n_bytes(part.chunk(workers))
    number = None if number_of is None else number_of(own)
    gathered, numbers = _collectives.gather_with_number(again, number, axis_name)
    rows = _wire.cut(gathered, [x.size for x in again])
    results = [
        part.decode_chunks(part.second, data)
        for part, data in zip(parts, rows, strict=True)
    ]
    return results, own, numbers


def encode_chunks(
    parts: Sequence[_wire.Part],
    vectors: Sequence[Array],
    keys: Sequence[Array],
    workers: int,
) -> tuple[list[Array], list[Array]]:
    """What a worker sends in the first phase, (K, bytes) for each part, and its own.

    Returns:
        Bytes, row j for worker j, and this worker's own decoded vectors.
    """
    sent, own = [], []
    for part, vector, key in zip(parts, vectors, keys, strict=True):
        sent.append(part.encode_chunks(key, vector, workers))
        own.append(part.decode_chunks(part.coder, sent[-1]))
    return sent, own
