"""The collectives: what goes into a worker's buffer, and the mean of what arrives."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax import _checks, _trees, _workers
from qgenx_jax._quantize import Payload
from qgenx_jax._types import Array, AxisName, DualVector

_UNROLLED = 8  # sums over more workers are loops, to keep programs short


class Contribution(NamedTuple):
    """What one worker sends: the contents of its buffer, in this order.

    Attributes:
        payloads: records of the quantized leaves, by group.
        exact_leaves: leaves that travel as their own bytes.
        number: one number that rides along, or None.
    """

    payloads: dict[str, Payload]
    exact_leaves: list[Array]
    number: Array | None


def number(value: Any) -> Array:
    """A scalar in float32, or in its own dtype where that is wider.

    Raises:
        ValueError: if it is not one real number.
    """
    rule, way_out = "must return one real number", "sum up what it returns"
    _checks.real_number("scalar", value, rule, lambda _: True, way_out)
    return _trees.widen(jnp.asarray(value))


def add_up(count: int, term: Callable[[Any], Any]) -> Any:
    """term(0) + term(1) + ... + term(count - 1), trees, added in this order."""

    def add(index: Any, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, term(index))

    total = term(0)
    if count > _UNROLLED:
        return lax.fori_loop(1, count, add, total)
    for index in range(1, count):
        total = add(index, total)
    return total


def all_reduce_mean(
    tree: DualVector, number: Array | None, axis_name: AxisName
) -> tuple[DualVector, Array | None]:
    """The exact mean by an all-reduce; the numbers ride as a vector of length K.

    Returns:
        The mean over workers, in float32 at least; the workers' numbers (K,), or None.
    """
    workers = _workers.axis_size(axis_name)
    row = None
    if number is not None:
        here = jnp.arange(workers) == lax.axis_index(axis_name)
        row = jnp.where(here, number, 0)
    total, numbers = lax.psum((_trees.widen(tree), row), axis_name)
    return jax.tree.map(lambda x: x / workers, total), numbers


def all_gather_mean(
    sent: Contribution,
    layout: _trees.Layout,
    decode: Callable[[str, Payload], Array],
    axis_name: AxisName,
) -> tuple[DualVector, Array | None]:
    """The mean of what all workers decode from one all-gather of one uint8 buffer.

    The K contributions are added up in the order of the workers, so that all workers,
    however they are mapped, get the same bits. Products of codes and steps are exact,
    so this holds whether or not a compiler fuses them with the additions.

    Args:
        sent: what this worker contributes.
        layout: how the tree's leaves travel.
        decode: a group's vector from its payload.
        axis_name: the axis over workers.

    Returns:
        The mean over workers, in float32 at least; the workers' numbers (K,), or None.
    """
    workers = _workers.axis_size(axis_name)
    gathered = _workers.gather(_buffer(sent), axis_name)

    def decoded(worker: Any) -> tuple[dict[str, Array], list[Array]]:
        buffer, end = gathered[worker], 0
        vectors, leaves = {}, []
        for group, like in sent.payloads.items():
            start, end = end, end + like.nbytes
            data = buffer[start:end]
            vectors[group] = decode(group, dataclasses.replace(like, data=data))
        for leaf in sent.exact_leaves:
            start, end = end, end + leaf.size * leaf.dtype.itemsize
            leaves.append(_trees.from_bytes(buffer[start:end], leaf.shape, leaf.dtype))
        return vectors, _trees.widen(leaves)

    total = add_up(workers, decoded)
    mean = layout.join(*jax.tree.map(lambda x: x / workers, total))
    if sent.number is None:
        return mean, None
    tail = gathered[:, -sent.number.dtype.itemsize :]
    return mean, _trees.from_bytes(tail, (workers,), sent.number.dtype)


def _buffer(sent: Contribution) -> Array:
    """The bytes of a contribution, as one uint8 vector."""
    parts = [payload.data for payload in sent.payloads.values()]
    parts += [_trees.to_bytes(leaf) for leaf in sent.exact_leaves]
    parts += [] if sent.number is None else [_trees.to_bytes(sent.number)]
    return _trees.concatenate(parts, "uint8")
