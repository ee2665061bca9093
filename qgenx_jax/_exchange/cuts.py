"""Parameters cut over the workers: which leaves are, along which axis, and as rows.

    whole leaf (..., K n, ...)    rows (K, ...), row k what worker k has of it
    shard (..., n, ...)           one row

The rows of the leaves of one flat vector of a layout lie side by side, so that worker
k's share of all of them is one row.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._exchange.layout import Flat
from qgenx_jax._exchange.sharded import broadcast
from qgenx_jax._types import Array, AxisName, Params
from qgenx_jax._workers import axes
from qgenx_jax._workers.specs import names_of

LEAST = 1024
"""Elements below which a leaf is not worth cutting."""


class Cut(NamedTuple):
    """A leaf that is cut over the workers.

    Attributes:
        shape: of the whole leaf.
        axis: along which it is cut.
        dtype: of it.
    """

    shape: tuple[int, ...]
    axis: int
    dtype: np.dtype

    def rows(self, x: Array, count: int) -> Array:
        """The shares of `count` workers, of the whole leaf; of a shard, one: (., n)."""
        return jnp.moveaxis(x, self.axis, 0).reshape(count, -1)

    def leaf(self, rows: Array, parts: int) -> Array:
        """Inverse of `rows`, of a leaf of which 1 / parts is there."""
        first = self.shape[self.axis] // parts
        rest = (n for i, n in enumerate(self.shape) if i != self.axis)
        return jnp.moveaxis(rows.reshape(first, *rest), 0, self.axis)


def shard_specs(
    params: Params, axis_name: AxisName, workers: int, *, least: int = LEAST
) -> Any:
    """How to cut parameters over the workers, as FSDP and ZeRO do: PartitionSpecs.

    Each leaf is cut along its longest axis that K divides; leaves of fewer than `least`
    elements, and those that K divides nowhere, are on every worker.

    Args:
        params: the parameters, or their shapes.
        axis_name: the mesh axis over workers, or a tuple of axes.
        workers: K.
        least: elements that a leaf has to have.

    Returns:
        A tree like the parameters: for `NamedSharding`s, and `specs=` of
        `gather_params`.

    Raises:
        ValueError: if workers or least is no whole number above 0, or the axis none.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> params = {"kernel": jnp.zeros((3, 64, 128)), "bias": jnp.zeros(128)}
        >>> qgenx.shard_specs(params, "data", 4)
        {'bias': P(), 'kernel': P(None, None, 'data')}
    """
    _checks.axis_name(axis_name)
    workers = _checks.whole_number("workers", workers, 1, None)
    least = _checks.whole_number("least", least, 1, None)

    def spec_of(x: Any) -> PartitionSpec:
        shape = jnp.shape(x)
        fits = [(n, -i) for i, n in enumerate(shape) if n and n % workers == 0]
        if math.prod(shape) < least or not fits:
            return PartitionSpec()
        axis = -max(fits)[1]
        return PartitionSpec(*[None] * axis, axis_name)

    return jax.tree.map(spec_of, params)


def cuts_of(
    params: Params, specs: Any, axis_name: AxisName, workers: int, *, whole: bool
) -> list[Cut | None]:
    """For each leaf how it is cut over the workers; None where it is not.

    Args:
        params: this worker's shards, or, if `whole`, the parameters or their shapes.
        specs: a prefix of their tree, or a function to one.
        axis_name: the axis over workers; None for one alone, which has all leaves.
        workers: K.
        whole: which of both.

    Raises:
        ValueError: for the first leaf that cannot be cut so, or, where JAX tracks what
            varies, is not.
    """
    with_path = jax.tree_util.tree_leaves_with_path(params)
    given = broadcast(specs, params)
    each = jax.tree.leaves(given, is_leaf=lambda s: isinstance(s, PartitionSpec))
    name = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    over, found = axes.tracked(axis_name) if not whole else frozenset(), []
    for (path, x), spec in zip(with_path, each, strict=True):
        leaf = _checks.leaf_name(path, "params")
        entries = [tuple(entry) for entry in names_of(spec)]
        cut = [i for i, entry in enumerate(entries) if {*entry} & {*name}]
        if axis_name is None:
            cut = [0] if jnp.ndim(x) else []
        elif len(cut) > 1 or (cut and entries[cut[0]] != name):
            rule = f"must be cut over {axis_name!r} alone, along one axis"
            way_out = "as qgenx_jax.shard_specs(params, axis_name, workers) says"
            raise _checks.refuse(f"specs of {leaf}", rule, spec, way_out)
        if over:
            _refuse_unlike(leaf, x, bool(cut), over, axis_name)
        if not cut:
            found.append(None)
            continue
        shape = list(jnp.shape(x))
        if len(shape) <= cut[0] or (whole and shape[cut[0]] % workers):
            rule = f"must have an axis {cut[0]} that {workers} workers divide"
            way_out = "cut it along another axis, or not at all"
            raise _checks.refuse(leaf, rule, tuple(shape), way_out)
        if not whole:
            shape[cut[0]] *= workers
        found.append(Cut(tuple(shape), cut[0], np.dtype(jnp.result_type(x))))
    return found


def _refuse_unlike(
    leaf: str, x: Any, is_cut: bool, over: frozenset, axis_name: AxisName
) -> None:
    """Where JAX tracks what varies: whether a leaf does as its spec says."""
    varies = bool(over & axes.varying(x))
    if is_cut and not varies:
        raise _checks.refuse(
            leaf,
            f"must be this worker's shard, cut over {axis_name!r} as specs say",
            _checks.Text(f"{jax.typeof(x)}, which is equal on all workers"),
            "hand the same specs to jax.shard_map as in_specs",
        )
    if varies and not is_cut:
        raise _checks.refuse(
            leaf,
            "must be equal on all workers, as specs say",
            _checks.Text(f"{jax.typeof(x)}, which differs between them"),
            "differentiate by jax.value_and_grad with respect to the shards themselves "
            "(not by qgenx_jax.value_and_grad, nor of qgenx_jax.local_params)",
        )


def side_by_side(
    cuts: Sequence[Cut], flat: Flat, leaves: Sequence[Array], count: int, dtype: Any
) -> Array:
    """The rows of a flat vector's leaves, side by side: (count, n)."""
    each = [cuts[i].rows(leaves[i], count).astype(dtype) for i in flat.leaves]
    return each[0] if len(each) == 1 else jnp.concatenate(each, axis=1)


def apart(cuts: Sequence[Cut], flat: Flat, rows: Array, workers: int) -> list[Array]:
    """Inverse of `side_by_side`; of one row, a worker's shards, in wide dtypes."""
    parts, found, start = workers // rows.shape[0], [], 0
    for index in flat.leaves:
        size = math.prod(cuts[index].shape) // workers
        piece = rows[:, start : start + size]
        found.append(cuts[index].leaf(piece, parts))
        start += size
    return found


def replaced(layout: Any, over: Sequence[frozenset]) -> Any:
    """A layout of leaves that vary over these axes, besides the workers'."""
    return dataclasses.replace(layout, over=tuple(over))
