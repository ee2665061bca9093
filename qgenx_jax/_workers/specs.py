"""How a state lies on a mesh: over the workers, and as its parameters lie there."""

import math
from collections.abc import Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import AxisName, Params, State
from qgenx_jax._workers.axes import is_per_worker


def state_specs(state: State, axis_name: AxisName, params: Params | None = None) -> Any:
    """PartitionSpecs of a state: over the worker axis below `per_worker`, else none.

    What is like a parameter (a moment, an average, an anchor), with the path of that at
    the end of its own, and its shape, is cut as the parameter is.

    Args:
        state: an optimizer's state, or its shapes.
        axis_name: the mesh axis over workers.
        params: parameters, or their shapes, that `NamedSharding`s cut over further axes
            of the mesh; None where they are not cut.

    Returns:
        A tree like the state: in_specs and out_specs for `jax.shard_map`.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> qgenx.state_specs({"count": 0, "per_worker": jnp.zeros((4, 9))}, "data")
        {'count': P(), 'per_worker': P('data',)}
    """
    _checks.axis_name(axis_name)
    return specs_like(state, axis_name, params)


def specs_like(
    state: State,
    axis_name: AxisName,
    params: Params | None,
    known: Collection | None = None,
) -> Any:
    """`state_specs`, in which only axes that are `known` are named; None for all."""
    cuts = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        first = int(is_per_worker(path))  # where a whole state is its own parameters
        cuts[path] = jnp.shape(x)[first:], cut_axes(x, axis_name)[first:]

    def spec_of(path: tuple[Any, ...], x: Any) -> PartitionSpec:
        first = [axis_name] if is_per_worker(path) else []
        shape, over = jnp.shape(x)[len(first) :], ()
        if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
            ends = (cuts.get(path[start:]) for start in range(len(path) + 1))
            over = next((cut for s, cut in filter(None, ends) if s == shape), ())
        entries = [tuple(n for n in x if known is None or n in known) for x in over]
        while entries and not entries[-1]:
            entries.pop()
        named = [x[0] if len(x) == 1 else x or None for x in entries]
        return PartitionSpec(*first, *named)

    return jax.tree_util.tree_map_with_path(spec_of, state)


def shard_of(x: Any, axis_name: AxisName) -> tuple[tuple[int, ...], frozenset]:
    """The shape of a shard of an array, and the axes it is cut over; see `cut_axes`."""
    cut = cut_axes(x, axis_name)
    sizes = dict(x.sharding.mesh.shape) if any(cut) else {}
    counts = [math.prod(sizes[name] for name in names) for names in cut]
    shape = tuple(n // count for n, count in zip(jnp.shape(x), counts, strict=True))
    return shape, frozenset().union(*cut)


def cut_axes(x: Any, axis_name: AxisName) -> tuple[tuple, ...]:
    """For each dimension of an array the axes that a `NamedSharding` cuts it over.

    Without those over workers, over which trees are equal, or have a leading axis.
    """
    workers = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    placed = None if isinstance(x, Tracer) else getattr(x, "sharding", None)
    spec = placed.spec if isinstance(placed, NamedSharding) else ()
    cut = [*names_of(spec), *[()] * (jnp.ndim(x) - len(spec))]
    return tuple(tuple(n for n in names if n not in workers) for names in cut)


def names_of(spec: Iterable[Any]) -> list[tuple]:
    """For each entry of a PartitionSpec the axes that it names."""
    # newer JAX does not go over one that is unreduced; older has no such name
    entries = getattr(spec, "partitions", spec)
    each = [(x,) if isinstance(x, str) else x for x in entries]
    return [x if isinstance(x, tuple) else () for x in each]
