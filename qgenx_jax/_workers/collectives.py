"""All collectives: what travels between workers, and nothing of what it means.

    gather            (...) on each          -> (K, ...) on all
    all_to_all        (K, ...) on each       -> (K, ...), row k from worker k
    all_reduce        (...) on each          -> (...) on all, the sum
    extremes          (...) on each          -> (...) on all, the least and the largest
    reduce_scatter    (K, ...) on each       -> (...), the sum of everyone's row k on k

For one worker alone, without an axis (None), nothing is sent.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes

MOST_TURNS = 32
"""Workers up to which an all-to-all goes by permutes: programs grow with them."""


def gather(x: Array, axis_name: AxisName) -> Array:
    """Every worker's array, stacked on a new leading axis of length K, on all workers.

    One all-gather over all axes of the mesh, and none on the wire over an axis of vmap.
    The result is replicated, and known to be where JAX tracks it.
    """
    if axis_name is None:
        return x[None]
    if axes.tracked(axis_name):
        return lax.all_gather(x, axis_name, to="invarying")
    stacked = x
    for stage in reversed(_stages(axis_name)):
        stacked = lax.all_gather(stacked, stage)
    return stacked.reshape(axes.axis_size(axis_name), *x.shape)


def all_to_all(rows: Array, axis_name: AxisName) -> Array:
    """Row j goes to worker j: of (K, ...) everywhere, worker j gets all rows j.

    They arrive in the order of the workers that sent them. One all-to-all over all axes
    of the mesh, and none on the wire over an axis of vmap; between a few processes on
    CPUs K - 1 permutes, see `permuted`.
    """
    if rows.size == 0 or axis_name is None:
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
    if not is_sent or jax.process_count() == 1 or axes.axis_size(stage) > MOST_TURNS:
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
    workers, here = axes.axis_size(axis_name), lax.axis_index(axis_name)
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


def all_reduce(tree: Any, axis_name: AxisName) -> Any:
    """The sum over workers, in a tree's dtypes: one all-reduce for each leaf."""
    return tree if axis_name is None else lax.psum(tree, axis_name)


def extremes(x: Array, axis_name: AxisName) -> tuple[Array, Array]:
    """The least and the largest of unsigned integers over workers: one all-reduce."""
    if axis_name is None:
        return x, x
    most, least = lax.pmax(jnp.stack([x, ~x]), axis_name)
    return ~least, most


def on_all(holds: Array) -> Array:
    """Whether something holds wherever it may differ, as far as JAX tracks that.

    Nothing is sent where a truth value is equal everywhere, after an exchange, say.
    """
    over = axes.in_order(axes.varying(holds))
    return lax.pmin(holds.astype(np.int32), over) > 0 if over else holds


def reduce_scatter(rows: Array, axis_name: AxisName) -> Array:
    """The sum over workers of row k of (K, ...), on worker k."""
    if axis_name is None:
        return rows[0]
    return lax.psum_scatter(rows, axis_name, scatter_dimension=0)
