"""Exact over a fast axis, quantized over a slow one.

    reduce-scatter over the fast axis -> quantized mean over the slow axes, of 1/N of
    the vector on each device -> all-gather over the fast axis

What is quantized is the mean over the N workers of one fast axis.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _collectives, _cost, _reduce_scatter, _traffic, _wire, _workers
from qgenx_jax._types import Array, AxisName


def hierarchical_mean(
    parts: Sequence[_wire.Part],
    vectors: Sequence[Array],
    keys: Sequence[Array],
    axis_name: AxisName,
) -> tuple[list[Array], None, None]:
    """The mean over all workers, one vector for each part.

    Over the slow axes it goes by what is faster over the default `Link`. No worker's
    own vector is quantized, so there is none to return, nor a number made of it.

    Args:
        parts: how the vectors travel.
        vectors: this worker's, one for each part.
        keys: of the rounding, this worker's own for each part.
        axis_name: the slow axes and, last, the fast one.
    """
    assert isinstance(axis_name, tuple)
    slow, fast = axis_name[:-1], axis_name[-1]
    together = _workers.axis_size(fast)
    rows = [
        part.rows(vector.astype(part.dtype), together)
        for part, vector in zip(parts, vectors, strict=True)
    ]
    pieces = _per_dtype(
        rows, lambda x: lax.psum_scatter(x, fast, scatter_dimension=0) / together
    )
    shared = _traffic.pieces(parts, together)
    if _cost.faster(shared, _workers.axis_size(slow), _cost.DEFAULT) == "all_gather":
        means, _, _ = _collectives.all_gather_mean(shared, pieces, keys, None, slow)
    else:
        before = lax.axis_index(fast)
        real = [
            jnp.clip(part.size - before * piece.size, 0, piece.size)
            for part, piece in zip(parts, pieces, strict=True)
        ]
        means, _, _ = _reduce_scatter.reduce_scatter_mean(
            shared, pieces, keys, None, slow, real
        )
    whole = _per_dtype(means, lambda x: _workers.gather(x, fast))
    return [part.flat(x) for part, x in zip(parts, whole, strict=True)], None, None


def _per_dtype(
    arrays: Sequence[Array], collective: Callable[[Array], Array]
) -> list[Array]:
    """A collective over arrays joined along their last axes, once for each dtype."""
    results: list[Array] = list(arrays)
    for dtype in dict.fromkeys(np.dtype(x.dtype) for x in arrays):
        of = [i for i, x in enumerate(arrays) if x.dtype == dtype]
        joined = collective(jnp.concatenate([arrays[i] for i in of], axis=-1))
        cut = _wire.cut(joined, [arrays[i].shape[-1] for i in of])
        for i, x in zip(of, cut, strict=True):
            results[i] = x
    return results
