"""What a worker knows: the room that tells shard_map, pmap and vmap apart.

A step runs once per worker under an axis name. Parameters and state are the same on
all workers, except what lies under a field named `per_worker`: there each leaf has a
leading worker axis, of length 1 inside the mapped function and K outside.

In shard_map JAX tracks which values vary over the axis. `jax.grad` with respect to
parameters that do *not* vary sums the gradients of all workers, in full precision,
before anyone can quantize them. `local_params` prevents it, and an exchange refuses
what does not vary.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName, Params, State

PER_WORKER = "per_worker"
MOST_TURNS = 32
"""Workers up to which an all-to-all goes by permutes: programs grow with them."""


def axis_size(axis_name: AxisName) -> int:
    """K, the number of workers.

    Raises:
        ValueError: if no axis of that name is bound.
    """
    try:
        return lax.axis_size(axis_name)
    except NameError as error:
        raise _checks.refuse(
            "axis_name",
            "must be the name of an axis that is bound where the exchange runs",
            axis_name,
            "call it inside jax.shard_map, jax.pmap or jax.vmap with that axis_name, "
            "for instance through qgenx_jax.map_workers",
        ) from error


def varying(x: Any) -> frozenset:
    """The axes that JAX knows a value to vary over; empty where it does not track."""
    return frozenset(jax.typeof(x).mat.varying)


def _tracked(axis_name: AxisName) -> frozenset:
    """The worker axes, where JAX tracks variation over them (shard_map, check_vma)."""
    return varying(lax.axis_index(axis_name))


def local_params(tree: Params, axis_name: AxisName) -> Params:
    """The same parameters as each worker's own, so that gradients stay each worker's.

    In shard_map with check_vma (the default), `jax.grad` with respect to replicated
    parameters inserts a float32 sum over workers: the exchange that follows would save
    nothing and its mean would be K times too large. Differentiate with respect to
    `local_params(params, axis_name)` instead. Elsewhere this is the identity, as it is
    for leaves that vary already.

    What is differentiated is to be the worker's own loss: a `lax.pmean` in it is scaled
    differently by shard_map and by vmap.

    Args:
        tree: parameters (any pytree).
        axis_name: the axis over workers, or a tuple of axes.

    Raises:
        ValueError: if the axis is not bound.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> def gradient(params, batch):
        ...     loss = lambda p: ((p - batch) ** 2).mean()
        ...     return jax.grad(loss)(qgenx.local_params(params, "data"))
    """
    _checks.axis_name(axis_name)
    axis_size(axis_name)
    tracked = _tracked(axis_name)

    def localise(x: Any) -> Any:
        missing = tuple(sorted(tracked - varying(x), key=str))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(localise, tree)


def refuse_replicated(argument: str, tree: Any, axis_name: AxisName) -> None:
    """Checks that every leaf varies over the worker axis, where JAX tracks that.

    Raises:
        ValueError: for the first leaf that does not, with its path.
    """
    tracked = _tracked(axis_name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not tracked <= varying(leaf):
            raise _checks.refuse(
                _checks.leaf_name(path, argument),
                f"must vary over the worker axis {axis_name!r}; this one is constant, "
                "was averaged by an exchange before, or was summed over the workers by "
                "jax.grad, in full precision",
                _checks.Text(jax.typeof(leaf)),
                "differentiate with respect to "
                f"qgenx_jax.local_params(params, {axis_name!r}), which "
                "qgenx_jax.iterate(..., axis_name=...) does, and exchange once; for "
                "microbatches use qgenx_jax.accumulate around the exchange",
            )


def refuse_differing(argument: str, tree: Any, axis_name: AxisName) -> None:
    """Checks that no leaf varies over the workers, where JAX tracks that.

    Leaves below `per_worker` may.

    Raises:
        ValueError: for the first leaf that does, with its path.
    """
    tracked = _tracked(axis_name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if tracked & varying(leaf) and not is_per_worker(path):
            raise _checks.refuse(
                _checks.leaf_name(path, argument),
                "must be equal on all workers",
                _checks.Text("one that differs"),
                f"exchange every gradient over {axis_name!r} before an optimizer uses "
                "it (qgenx_jax.quantized_mean), zero gradients too",
            )


def stream_key(key: Array, like: Array, axis_name: AxisName) -> Array:
    """This worker's key: no two workers share a stream of rounding bits.

    Where JAX tracks that `like` varies over further axes of the mesh (shards of a
    model), nor do two of their indices; over other axes results stay replicated.
    """
    key = jax.random.fold_in(key, lax.axis_index(axis_name))
    others = varying(like) - _tracked(axis_name)
    for other in sorted(others, key=str):
        key = jax.random.fold_in(key, lax.axis_index(other))
    return key


def gather(x: Array, axis_name: AxisName) -> Array:
    """Every worker's array, stacked on a new leading axis of length K, on all workers.

    One all-gather over all axes of the mesh, and none on the wire over an axis of vmap.
    The result is replicated, and known to be where JAX tracks it.
    """
    if _tracked(axis_name):
        return lax.all_gather(x, axis_name, to="invarying")
    stacked = x
    for stage in reversed(_stages(axis_name)):
        stacked = lax.all_gather(stacked, stage)
    return stacked.reshape(axis_size(axis_name), *x.shape)


def all_to_all(rows: Array, axis_name: AxisName) -> Array:
    """Row j goes to worker j: of (K, ...) everywhere, worker j gets all rows j.

    They arrive in the order of the workers that sent them. One all-to-all over all axes
    of the mesh, and none on the wire over an axis of vmap; between a few processes on
    CPUs K - 1 permutes, see `permuted`.
    """
    if rows.size == 0:
        return rows
    stages = _stages(axis_name)
    sizes = [lax.axis_size(stage) for stage in stages]
    moved = rows.reshape(*sizes, *rows.shape[1:])
    for axis, stage in reversed(list(enumerate(stages))):
        moved = _all_to_all(moved, stage, axis)
    return moved.reshape(rows.shape)


def _all_to_all(rows: Array, stage: tuple, axis: int) -> Array:
    def at_once(rows: Array) -> Array:
        return lax.all_to_all(rows, stage, axis, axis)

    # over an axis of vmap nothing is sent
    is_sent = set(stage) <= set(jax.sharding.get_abstract_mesh().axis_names)
    if not is_sent or jax.process_count() == 1 or axis_size(stage) > MOST_TURNS:
        return at_once(rows)
    by_turns = functools.partial(permuted, axis_name=stage, axis=axis)
    return lax.platform_dependent(rows, cpu=by_turns, default=at_once)


def permuted(rows: Array, axis_name: tuple, axis: int) -> Array:
    """`lax.all_to_all` by K - 1 permutes: worker k sends to k + 1, then to k + 2, ...

    At each time everyone sends to one and receives from one. gloo's all-to-all starts
    all messages at once; they meet at the receivers' links and take longer than there:
    on 3 nodes at 1 Gbit/s the two phases of an exchange 1.4 times their bytes' time
    instead of 1.2.

    Args:
        rows: K of them, along `axis`.
        axis_name: axes of a mesh, in any order.
        axis: of the rows.
    """
    workers, here = axis_size(axis_name), lax.axis_index(axis_name)
    # a permute counts workers in the order of the mesh, axis_index in that of the names
    mesh_axes = jax.sharding.get_abstract_mesh().axis_names
    ordered = sorted(axis_name, key=mesh_axes.index)
    places = np.arange(workers).reshape([lax.axis_size(name) for name in ordered])
    places = places.transpose([ordered.index(name) for name in axis_name])
    order = places.ravel().tolist()
    moved = rows
    for turn in range(1, workers):
        pairs = [(order[k], order[(k + turn) % workers]) for k in range(workers)]
        row = lax.dynamic_index_in_dim(rows, (here + turn) % workers, axis)
        row = lax.ppermute(row, axis_name, pairs)
        sender = (here - turn) % workers
        moved = lax.dynamic_update_index_in_dim(moved, row, sender, axis)
    return moved


def _stages(axis_name: AxisName) -> list[tuple]:
    """The axes that one collective takes together: neighbours of a mesh, not of vmap.

    JAX cannot take an axis of vmap and another one at once.
    """
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    mesh_axes = jax.sharding.get_abstract_mesh().axis_names
    stages: list[tuple] = []
    for name in names:
        if stages and name in mesh_axes and stages[-1][-1] in mesh_axes:
            stages[-1] += (name,)
        else:
            stages.append((name,))
    return stages


def refuse_reserved_name(params: Any) -> None:
    """Checks that no parameter is named as the states' fields that differ.

    Raises:
        ValueError: for the first parameter below the name "per_worker".
    """
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        if is_per_worker(path):
            raise _checks.refuse(
                _checks.leaf_name(path, "params"),
                f"must not lie below the name {PER_WORKER!r}, by which states mark "
                "what differs between workers",
                jax.tree_util.keystr(path),
                "rename the parameter",
            )


def is_per_worker(path: tuple[Any, ...]) -> bool:
    """Whether a leaf at this path of a state differs between workers."""
    names = (getattr(key, "name", getattr(key, "key", None)) for key in path)
    return PER_WORKER in names


def state_specs(state: State, axis_name: AxisName) -> Any:
    """PartitionSpecs of a state: over the worker axis below `per_worker`, else none.

    Args:
        state: an optimizer's state, or its shapes.
        axis_name: the mesh axis over workers.

    Returns:
        A tree like the state: in_specs and out_specs for `jax.shard_map`.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> qgenx.state_specs({"count": 0, "per_worker": jnp.zeros((4, 9))}, "data")
        {'count': P(), 'per_worker': P('data',)}
    """
    _checks.axis_name(axis_name)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: (
            PartitionSpec(axis_name) if is_per_worker(path) else PartitionSpec()
        ),
        state,
    )
