"""Shards of a model beside copies, on meshes with more axes than that over workers.

In a `jax.shard_map` by hand over ("data", "model") JAX tracks which leaves vary over
"model": these are cut, the others are copies. A copy must stay one, to the last bit, so
nothing that varies over "model" may lie in its buckets, or in its buffer. Leaves are
therefore grouped by the axes they vary over (`Layout.over`), and each set of axes has
an exchange of its own here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qgenx_jax import _trees
from qgenx_jax._codec.bits import Stream
from qgenx_jax._exchange.parts import Part, Pieces
from qgenx_jax._exchange.strategy import Found, Strategy, Wanted
from qgenx_jax._exchange.traffic import Phase
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives


def by_axes(strategy: Strategy, parts: Sequence[Part]) -> Strategy:
    """The strategy, once for each set of axes where parts vary over others."""
    return ByAxes(strategy) if any(part.over for part in parts) else strategy


class ByAxes(NamedTuple):
    """A strategy, taken once for each set of axes that parts vary over; see `Strategy`.

    What rides along does so with the parts that vary over the same axes, or alone.
    """

    each: Strategy

    @property
    def name(self) -> str:
        """See `Strategy`."""
        return self.each.name

    def mean(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        wanted: Wanted,
        axis_name: AxisName,
    ) -> Found:
        """See `Strategy`."""
        means: list[Any] = [None] * len(parts)
        own: list[Any] = [None] * len(parts)
        numbers: list[Array | None] = []
        *others, (over, last) = _groups(parts)
        rides = wanted.scalars is not None

        def exchange(of: list[int], scalars: Any = None) -> Found:
            its_parts, its_vectors = [parts[i] for i in of], [vectors[i] for i in of]
            also = Wanted(wanted.own or rides, scalars)
            its = [streams[i] for i in of]
            found = self.each.mean(its_parts, its_vectors, its, also, axis_name)
            _put(means, of, found.means)
            _put(own, of, found.own or [None] * len(of))
            return found

        def scalars(own_of_last: Sequence[Pieces]) -> Array | None:
            assert wanted.scalars is not None
            _put(own, last, own_of_last)
            numbers.append(wanted.scalars(own))
            return numbers[0] if _beyond(numbers[0], axis_name) == over else None

        for _, group in others:
            exchange(group)
        found = exchange(last, scalars if rides else None)
        carried = found.scalars
        if rides and carried is None:
            alone = Wanted(scalars=lambda _: numbers[0])
            carried = self.each.mean([], [], [], alone, axis_name).scalars
        return Found(means, None if found.own is None else own, carried)

    def own(
        self,
        parts: Sequence[Part],
        vectors: Sequence[Array],
        streams: Sequence[Stream],
        axis_name: AxisName,
    ) -> Sequence[Pieces]:
        """See `Strategy`."""
        return self.each.own(parts, vectors, streams, axis_name)

    def phases(
        self, parts: Sequence[Part], workers: int, scalar_bytes: int
    ) -> tuple[Phase, ...]:
        """See `Strategy`; what rides along is counted as equal on all shards."""
        found: list[Phase] = []
        for over, of in _groups(parts):
            rides = 0 if over else scalar_bytes
            found += self.each.phases([parts[i] for i in of], workers, rides)
        if scalar_bytes and all(part.over for part in parts):
            found += self.each.phases([], workers, scalar_bytes)
        return tuple(found)


def sum_of_squares(tree: Any, over: Sequence[frozenset]) -> Array:
    """||tree||_2^2 of a worker's whole tree, equal on all shards of a model.

    The squares of leaves that are cut are summed over the axes they are cut over, a
    number for each set of axes.

    Args:
        tree: this worker's.
        over: for each leaf these axes, bound here.
    """
    groups: dict[frozenset, list[Any]] = {}
    for leaf, names in zip(jax.tree.leaves(tree), over, strict=True):
        groups.setdefault(names, []).append(leaf)
    sums = []
    for names, leaves in groups.items():
        total, axis_name = _trees.sum_of_squares(leaves), axes.in_order(names) or None
        sums.append(collectives.all_reduce(total, axis_name))
    if len(sums) == 1:
        return sums[0]
    dtype = _trees.widest(x.dtype for x in sums)
    return sum((x.astype(dtype) for x in sums), jnp.zeros((), dtype))


def _groups(parts: Sequence[Part]) -> list[tuple[frozenset, list[int]]]:
    """The parts of each set of axes; last those that vary over the fewest."""
    groups: dict[frozenset, list[int]] = {}
    for index, part in enumerate(parts):
        groups.setdefault(part.over, []).append(index)
    return sorted(groups.items(), key=lambda group: -len(group[0]))


def _beyond(x: Any, axis_name: AxisName) -> frozenset:
    """The axes that a value varies over, besides those over workers."""
    return axes.varying(x) - axes.tracked(axis_name)


def _put(values: list[Any], of: Sequence[int], new: Sequence[Any]) -> None:
    for index, value in zip(of, new, strict=True):
        values[index] = value
