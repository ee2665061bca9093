"""The collectives: what goes into a worker's buffer, and the mean of what arrives."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax import _checks, _fusion, _trees, _wire, _workers
from qgenx_jax._types import Array, AxisName, DualVector

NumberOf: TypeAlias = Callable[[list[Array]], Array]
"""From a worker's own decoded vectors, the number that rides along."""


def number(value: Any) -> Array:
    """A scalar in float32, or in its own dtype where that is wider.

    Raises:
        ValueError: if it is not one real number.
    """
    rule, way_out = "must return one real number", "sum up what it returns"
    _checks.real_number("scalar", value, rule, lambda _: True, way_out)
    return _trees.widen(jnp.asarray(value))


def all_reduce_mean(
    tree: DualVector, number: Array | None, axis_name: AxisName
) -> tuple[DualVector, Array | None]:
    """The exact mean by an all-reduce; the numbers ride as a vector of length K.

    Returns:
        The mean over workers, in float32 at least; the workers' numbers (K,), or None.
    """
    workers = _workers.axis_size(axis_name)
    leaves, treedef = jax.tree.flatten(_trees.widen(tree))
    row = None
    if number is not None:
        here = jnp.arange(workers) == lax.axis_index(axis_name)
        row = jnp.where(here, number, 0)
    # one vector for each dtype: an all-reduce for each leaf waits for each one's turn
    vectors = {
        dtype: _trees.concatenate(
            [x.reshape(-1) for x in leaves if x.dtype == dtype], dtype
        )
        for dtype in dict.fromkeys(x.dtype for x in leaves)
    }
    totals, numbers = lax.psum((list(vectors.values()), row), axis_name)
    means = {
        dtype: total / workers for dtype, total in zip(vectors, totals, strict=True)
    }
    pieces = {
        dtype: iter(
            _fusion.cut(mean, tuple(x.shape for x in leaves if x.dtype == dtype))
        )
        for dtype, mean in means.items()
    }
    found = [next(pieces[x.dtype]) for x in leaves]
    return jax.tree.unflatten(treedef, found), numbers


def all_gather_mean(
    parts: Sequence[_wire.Part],
    vectors: Sequence[Array],
    keys: Sequence[Array],
    number_of: NumberOf | None,
    axis_name: AxisName,
) -> tuple[list[Array], list[Array], Array | None]:
    """The mean of what all workers decode from one all-gather of one uint8 buffer.

    Args:
        parts: how the vectors travel.
        vectors: this worker's, one for each part.
        keys: of the rounding, this worker's own for each part.
        number_of: see `NumberOf`; None if none rides along.
        axis_name: the axis over workers.

    Returns:
        The means over workers and this worker's own decoded vectors, a list with one
        for each part; the workers' numbers (K,), or None.
    """
    sent, own = encode_whole(parts, vectors, keys)
    number = None if number_of is None else number_of(own)
    gathered, numbers = gather_with_number(sent, number, axis_name)
    return average(parts, gathered), own, numbers


def encode_whole(
    parts: Sequence[_wire.Part], vectors: Sequence[Array], keys: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """What a worker sends, for each part, and its own decoded vectors."""
    sent, own = [], []
    for part, vector, key in zip(parts, vectors, keys, strict=True):
        sent.append(part.coder.encode(key, vector))
        own.append(part.coder.decode(sent[-1], part.size))
    return sent, own


def gather_with_number(
    sent: Sequence[Array], number: Array | None, axis_name: AxisName
) -> tuple[Array, Array | None]:
    """All workers' bytes (K, bytes) in one all-gather, and their numbers (K,)."""
    tail = [] if number is None else [_trees.to_bytes(number)]
    buffer = _trees.concatenate([*sent, *tail], "uint8")
    gathered = _workers.gather(buffer, axis_name)
    if number is None:
        return gathered, None
    end = gathered.shape[1] - number.dtype.itemsize
    numbers = gathered[:, end:]
    return gathered[:, :end], _trees.from_bytes(
        numbers, (gathered.shape[0],), number.dtype
    )


def average(parts: Sequence[_wire.Part], arrived: Array) -> list[Array]:
    """The mean over workers of each part's vectors, from bytes.

    The K contributions are added up in the order of the workers, so that all workers,
    however they are mapped, get the same bits.

    Args:
        parts: how the vectors travel.
        arrived: uint8 of shape (K, bytes): a row from each worker, part after part.
    """
    means, start = [], 0
    for part in parts:
        means.append(part.coder.mean_of(arrived, part.size, start))
        start += part.coder.n_bytes(part.size)
    return means
