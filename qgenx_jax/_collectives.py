"""The collectives: what goes into a worker's buffer, and the mean of what arrives."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax import _trees, _workers
from qgenx_jax._quantize import Payload, Quantizer
from qgenx_jax._types import Array, AxisName, DualVector


class Contribution(NamedTuple):
    """What one worker sends: the contents of its buffer, in this order.

    Attributes:
        payload: codes and norms of the quantized leaves; None without a quantizer.
        exact_leaves: leaves that travel as their own bytes.
        number: one number that rides along, or None.
    """

    payload: Payload | None
    exact_leaves: list[Array]
    number: Array | None


def number(value: Any) -> Array:
    """A scalar in float32, or in its own dtype where that is wider."""
    value = jnp.asarray(value)
    return value.astype(_trees.accumulator_dtype(value)).reshape(())


def all_reduce_mean(
    tree: DualVector, number: Array | None, axis_name: AxisName
) -> tuple[DualVector, Array | None]:
    """The exact mean by an all-reduce; the numbers ride as a vector of length K.

    Returns:
        The mean over workers, in the leaves' own dtypes, added up in float32 at least;
        the workers' numbers (K,), or None.
    """
    workers = _workers.axis_size(axis_name)
    wide = jax.tree.map(lambda x: jnp.asarray(x, _trees.accumulator_dtype(x)), tree)
    row = None
    if number is not None:
        here = jnp.arange(workers) == lax.axis_index(axis_name)
        row = jnp.where(here, number, 0)
    total, numbers = lax.psum((wide, row), axis_name)
    mean = jax.tree.map(
        lambda x, like: (x / workers).astype(jnp.result_type(like)), total, tree
    )
    return mean, numbers


def all_gather_mean(
    sent: Contribution,
    layout: _trees.Layout,
    quantizer: Quantizer | None,
    axis_name: AxisName,
) -> tuple[DualVector, Array | None]:
    """The mean of what all workers decode from one all-gather of one uint8 buffer.

    The K contributions are added up in the order of the workers, so that all workers,
    however they are mapped, get the same bits. Products of codes and steps are exact,
    so this holds whether or not a compiler fuses them with the additions.

    Returns:
        The mean over workers, in the leaves' own dtypes; the workers' numbers (K,), or
        None.
    """
    workers = _workers.axis_size(axis_name)
    gathered = _workers.gather(_buffer(sent), axis_name)
    opened = [
        _open(gathered[worker], sent, layout, quantizer) for worker in range(workers)
    ]
    vector, leaves, _ = opened[0]
    for other, other_leaves, _ in opened[1:]:
        vector = vector + other
        leaves = [a + b for a, b in zip(leaves, other_leaves, strict=True)]
    mean = layout.join(vector / workers, [x / workers for x in leaves])
    numbers = [number for _, _, number in opened if number is not None]
    return mean, jnp.stack(numbers) if numbers else None


def _buffer(sent: Contribution) -> Array:
    """The bytes of a contribution, as one uint8 vector."""
    parts = [] if sent.payload is None else [sent.payload.to_bytes()]
    parts += [_trees.to_bytes(leaf) for leaf in sent.exact_leaves]
    parts += [] if sent.number is None else [_trees.to_bytes(sent.number)]
    return jnp.concatenate([*parts, jnp.zeros(0, jnp.uint8)])


def _open(
    buffer: Array,
    like: Contribution,
    layout: _trees.Layout,
    quantizer: Quantizer | None,
) -> tuple[Array, list[Array], Array | None]:
    """The vector, exact leaves (float32 at least) and number in a buffer."""
    vector, end = jnp.zeros(0), 0
    if quantizer is not None:
        size = layout.quantized_size
        end = quantizer.n_bytes(size)
        payload = quantizer.from_bytes(buffer[:end], (size,), jnp.dtype("float32"))
        vector = quantizer.decode(payload)
    rides = [] if like.number is None else [like.number]
    values = []
    for x in [*like.exact_leaves, *rides]:
        start, end = end, end + x.size * x.dtype.itemsize
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        value = _trees.from_bytes(buffer[start:end], shape)
        values.append(value.astype(_trees.accumulator_dtype(value)))
    kept = len(like.exact_leaves)
    return vector, values[:kept], values[kept] if rides else None
