"""What `gather_params` does: whole leaves of shards, and shards of a mean gradient."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _trees
from qgenx_jax._codec import bits
from qgenx_jax._codec.bits import Stream
from qgenx_jax._codec.coder import Coder
from qgenx_jax._codec.quantizer import Quantizer, coder_of
from qgenx_jax._exchange import cuts as cutting
from qgenx_jax._exchange import groups
from qgenx_jax._exchange.layout import Flat, Layout
from qgenx_jax._exchange.parts import Part
from qgenx_jax._exchange.parts import parts as parts_of
from qgenx_jax._exchange.streams import streams_of
from qgenx_jax._types import Array, AxisName, LeafPredicate
from qgenx_jax._workers import axes, collectives


class Plan(NamedTuple):
    """How the leaves travel.

    Attributes:
        of_cuts: the indices of the leaves that are cut.
        cuts: how.
        layout: of those leaves.
        parts: a worker's share of each flat vector, in backward.
        forward: the coders of shards; None for their own bytes.
        workers: K.
        rounds: whether gradients are rounded.
    """

    of_cuts: tuple[int, ...]
    cuts: tuple[cutting.Cut, ...]
    layout: Layout | None
    parts: tuple[Part, ...]
    forward: tuple[Coder, ...] | None
    workers: int
    rounds: bool

    @property
    def flats(self) -> Sequence[Flat]:
        """The flat vectors of the leaves that are cut."""
        return () if self.layout is None else self.layout.vectors

    def sent_backward(self, part: Part) -> int:
        """Bytes of a row of gradients; of exact ones, where all are, their sums'."""
        if not self.rounds:
            return part.size * part.dtype.itemsize
        return part.coder.n_bytes(part.size)

    def sent_forward(self, part: Part) -> int:
        """Bytes of a worker's shards of a part."""
        index = self.parts.index(part)
        if self.forward is not None and part.group is not None:
            return self.forward[index].n_bytes(part.size)
        flat = self.flats[index]
        return sum(
            int(np.prod(self.cuts[i].shape))
            // self.workers
            * self.cuts[i].dtype.itemsize
            for i in flat.leaves
        )


def plan_of(
    how: Sequence[cutting.Cut | None],
    treedef: Any,
    quantizer: Quantizer | None,
    exact: LeafPredicate | None,
    over: Sequence[frozenset],
    workers: int,
    forward: Quantizer | None,
) -> Plan:
    """How leaves travel that are cut so, or not; arguments as in `gather_params`."""
    of_cuts = tuple(i for i, cut in enumerate(how) if cut is not None)
    found = tuple(cut for cut in how if cut is not None)
    if not found:
        return Plan((), (), None, (), None, workers, False)
    shapes = [
        None if c is None else jax.ShapeDtypeStruct(c.shape, c.dtype) for c in how
    ]
    tree = jax.tree.unflatten(treedef, shapes)
    # leaves that are exact are so both ways
    quantizers = groups.quantizers_of(forward if quantizer is None else quantizer, None)
    layout = groups.layout(tree, quantizers, None, exact)
    layout = cutting.replaced(layout, [over[i] for i in of_cuts])
    parts = parts_of(layout, quantizers, {}, {})
    each = tuple(part._replace(size=part.size // workers) for part in parts)
    coders = None
    if forward is not None:
        coders = tuple(coder_of(forward, flat.wide) for flat in layout.vectors)
    return Plan(of_cuts, found, layout, each, coders, workers, quantizer is not None)


def differentiable(plan: Plan, axis_name: AxisName, rounding: str) -> Any:
    """The function of leaves and a key, with its derivative."""

    @jax.custom_vjp
    def together(leaves: tuple, key: Array) -> tuple:
        return _forward(plan, leaves, key, axis_name)

    def run(leaves: tuple, key: Array) -> tuple:
        return together(leaves, key), key

    def back(key: Array, gradient: tuple) -> tuple:
        mean = _backward(plan, gradient, key, axis_name, rounding)
        return mean, np.zeros(key.shape, jax.dtypes.float0)

    together.defvjp(run, back)
    return together


def _forward(plan: Plan, leaves: tuple, key: Array, axis_name: AxisName) -> tuple:
    """Whole leaves, as each worker's own."""
    over = axes.tracked(axis_name)
    found = [axes.vary_over(x, over) for x in leaves]
    shards = [leaves[i] for i in plan.of_cuts]

    def put(number: int, whole: Array) -> None:
        whole = whole.astype(plan.cuts[number].dtype)
        found[plan.of_cuts[number]] = axes.vary_over(whole, over)

    for index, flat in enumerate(plan.flats):
        if plan.forward is None or flat.label is None:
            for i in flat.leaves:
                row = plan.cuts[i].rows(shards[i], 1)[0]
                put(i, plan.cuts[i].leaf(collectives.gather(row, axis_name), 1))
            continue
        coder, size = plan.forward[index], plan.parts[index].size
        row = cutting.side_by_side(plan.cuts, flat, shards, 1, flat.wide)[0]
        shared = axes.shard_key(_of_tree(key, plan, index, 0), row, axis_name)
        own = jax.random.fold_in(shared, axes.axis_index(axis_name))
        arrived = collectives.gather(coder.encode(own, row, size), axis_name)
        rows = _decoded(coder, arrived, size, shared)
        for i, x in zip(
            flat.leaves, cutting.apart(plan.cuts, flat, rows, plan.workers), strict=True
        ):
            put(i, x)
    return tuple(found)


def _of_tree(key: Array, plan: Plan, index: int, way: int) -> Array:
    """A key for each flat vector of a tree, and for each way."""
    assert plan.layout is not None
    key = jax.random.fold_in(key, plan.layout.fingerprint)
    return jax.random.fold_in(jax.random.fold_in(key, way), index)


def _decoded(coder: Coder, rows: Array, size: int, shared: Array) -> Array:
    """What each worker's bytes stand for: (K, size)."""
    count = rows.shape[0]
    if not coder.dithers and coder.bucket_size and size % coder.bucket_size == 0:
        found = coder.mean(rows.reshape(1, -1), count * size)
        return jnp.concatenate([x.reshape(-1) for x in found]).reshape(count, size)

    def decode(data: Array, sender: Array) -> Array:
        found = coder.mean(data[None], size, 0, sender if coder.dithers else None)
        return jnp.concatenate([x.reshape(-1) for x in found])

    senders = jax.vmap(lambda k: jax.random.fold_in(shared, k))(jnp.arange(count))
    return jax.vmap(decode)(rows, senders)


def _backward(
    plan: Plan, gradient: tuple, key: Array, axis_name: AxisName, rounding: str
) -> tuple:
    """The mean over workers of their gradients, cut as the shards are."""
    found: list[Any] = [None] * len(gradient)
    cut = set(plan.of_cuts)
    for i, x in enumerate(gradient):
        if i not in cut:
            total = collectives.all_reduce(_trees.widen(x), axis_name)
            found[i] = (total / plan.workers).astype(x.dtype)
    whole = [gradient[i] for i in plan.of_cuts]
    rows = [
        cutting.side_by_side(plan.cuts, flat, whole, plan.workers, flat.wide)
        for flat in plan.flats
    ]
    for index, mean in enumerate(_means(plan, rows, key, axis_name, rounding)):
        flat = plan.flats[index]
        each = cutting.apart(plan.cuts, flat, mean[None], plan.workers)
        for i, x in zip(flat.leaves, each, strict=True):
            found[plan.of_cuts[i]] = x.astype(plan.cuts[i].dtype)
    return tuple(found)


def _means(
    plan: Plan, rows: Sequence[Array], key: Array, axis_name: AxisName, rounding: str
) -> list[Array]:
    """This worker's row of the mean of each flat vector, (n,)."""
    if not plan.rounds:
        sums = [collectives.reduce_scatter(x, axis_name) for x in rows]
        return [x / plan.workers for x in sums]
    assert plan.layout is not None
    key = jax.random.fold_in(key, plan.layout.fingerprint)
    key = jax.random.fold_in(key, 1)
    streams = streams_of(key, plan.parts, rows, axis_name, rounding)
    here = axes.axis_index(axis_name)
    found: list[Any] = [None] * len(rows)
    # what varies over other axes of the mesh shares no buffer with what does not
    groups_of: dict[frozenset, list[int]] = {}
    for index, part in enumerate(plan.parts):
        groups_of.setdefault(part.over, []).append(index)
    for members in groups_of.values():
        sent = [_encoded(plan.parts[i], streams[i], rows[i]) for i in members]
        arrived = collectives.all_to_all(jnp.concatenate(sent, axis=1), axis_name)
        start = 0
        for i in members:
            part, sender = plan.parts[i], None
            if part.coder.dithers:
                sender = bits.of_all(bits.folded(streams[i], here))
            pieces = part.coder.mean(arrived, part.size, start, sender)
            found[i] = _trees.concatenate([x.reshape(-1) for x in pieces], part.dtype)
            start += part.coder.n_bytes(part.size)
    return found


def _encoded(part: Part, stream: Stream, rows: Array) -> Array:
    """Rows, each encoded on its own: uint8 (K, bytes)."""
    count, size = rows.shape
    length = part.coder.bucket_size
    if length and size % length == 0 and not part.coder.dithers:
        whole = part.coder.encode(bits.folded(stream, 0), rows.reshape(-1), rows.size)
        return whole.reshape(count, -1)
    streams = jax.vmap(lambda i: bits.folded(stream, i))(jnp.arange(count))
    encode = functools.partial(part.coder.encode, size=size)
    return jax.vmap(encode)(streams, rows)
