"""The exchange in an ordinary jitted step, over the axis of a mesh.

What comes in are all workers' gradients at once: leaves (K, ...) whose rows lie on the
workers' devices, or leaves *unreduced* over the axis, whose values are the sums of what
lies there. A `jax.shard_map` over the workers' axis alone hands each its own; the mean
is equal on all, and other axes of the mesh stay jit's.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qgenx_jax import _checks, _trees
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.sharded import ShardedExchange, sharded
from qgenx_jax._workers import axes
from qgenx_jax._workers.over_mesh import on_workers, workers_of
from qgenx_jax._workers.specs import names_of


def as_specs(specs: Any) -> Any:
    """PartitionSpecs, of a tree of those or of `NamedSharding`s."""
    return jax.tree.map(
        lambda x: x.spec if isinstance(x, NamedSharding) else x,
        specs,
        is_leaf=lambda x: isinstance(x, NamedSharding | PartitionSpec),
    )


def mean_over(
    exchange: Exchange, mesh: Mesh, updates: Any, params: Any
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """A function of updates, a state and a weight, to the workers' mean and the state.

    Args:
        exchange: over an axis of the mesh.
        mesh: with that axis, which nothing maps over here.
        updates: all workers', rows (K, ...) or unreduced leaves.
        params: the parameters, or None where they are not known.

    Raises:
        ValueError: if updates are neither, or not like the parameters.
    """
    name = exchange.axis_name
    workers = workers_of(mesh, name)
    unreduced = _are_unreduced(updates, name)
    if not unreduced:
        _check_rows(updates, params, workers, name)
    first = PartitionSpec() if unreduced else PartitionSpec(name)
    if unreduced:
        names = frozenset(axes.in_order(name if isinstance(name, tuple) else (name,)))
        first = PartitionSpec(unreduced=names)
    exchange = _as_typed(exchange, updates, rows=not unreduced)

    def worker(updates: Any, state: Any, weight: Any) -> tuple[Any, Any]:
        if unreduced:  # a part of the sum is a K-th of a worker's vector
            own = jax.tree.map(lambda x: x * workers, updates)
        else:
            own = jax.tree.map(lambda x: jnp.squeeze(x, 0), updates)
        mine = None if weight is None else jnp.squeeze(weight, 0)
        mean, state = exchange.mean(own, state, weight=mine)
        return _trees.cast_like(mean, own), state

    def call(updates: Any, state: Any, weight: Any) -> tuple[Any, Any]:
        if weight is not None and jnp.shape(weight) != (workers,):
            rule = f"must have an entry for each of {workers} workers"
            way_out = f"return it in aux of the loss, as weight[None]: ({workers},)"
            raise _checks.refuse("weight", rule, jnp.shape(weight), way_out)
        everywhere = PartitionSpec()
        in_specs = first, everywhere, PartitionSpec(name)
        mapped = on_workers(
            worker, mesh, name, in_specs, everywhere, tracked=not unreduced
        )
        return mapped(updates, state, weight)

    return call


def _are_unreduced(updates: Any, axis_name: Any) -> bool:
    """Whether leaves are sums that are still to be made, by their types.

    Raises:
        ValueError: if some are, and others not.
    """
    names = set(axis_name if isinstance(axis_name, tuple) else (axis_name,))
    with_path = jax.tree_util.tree_leaves_with_path(updates)
    found = [names <= _unreduced(x) for _, x in with_path]
    if any(found) and not all(found):
        path, leaf = with_path[found.index(False)]
        raise _checks.refuse(
            _checks.leaf_name(path, "updates"),
            f"must be unreduced over {axis_name!r} as the others are",
            _checks.Text(jax.typeof(leaf)),
            "differentiate with respect to parameters that all are reduced over it",
        )
    return all(found) and bool(found)


def _unreduced(x: Any) -> frozenset:
    spec = getattr(getattr(jax.typeof(x), "sharding", None), "spec", None)
    return frozenset(getattr(spec, "unreduced", ()))


def _check_rows(updates: Any, params: Any, workers: int, axis_name: Any) -> None:
    """Checks that updates have a row for each worker, like the parameters.

    Raises:
        ValueError: for the first leaf that has not.
    """
    way_out = (
        f"take them by qgenx_jax.value_and_grad(loss, {axis_name!r}, mesh=mesh); put "
        "nothing that changes their shape in between"
    )
    of_params = updates if params is None else params

    def rows(x: Any) -> jax.ShapeDtypeStruct:
        shape = jnp.shape(x)[1:] if params is None else jnp.shape(x)
        return jax.ShapeDtypeStruct((workers, *shape), jnp.result_type(x))

    like = jax.tree.map(rows, of_params)
    given = "all workers' own, a row for each"
    _checks.same_structure("updates", updates, given, like, way_out)


def _as_typed(exchange: Exchange, updates: Any, *, rows: bool) -> Exchange:
    """The exchange of leaves that are cut as their types say, on Explicit axes."""
    if isinstance(exchange, ShardedExchange):
        return exchange
    over = exchange.axis_name
    workers = set(over if isinstance(over, tuple) else (over,))

    def spec_of(x: Any) -> PartitionSpec:
        entries = names_of(jax.typeof(x).sharding.spec)[int(rows) :]
        each = [tuple(n for n in names if n not in workers) for names in entries]
        return PartitionSpec(*(names or None for names in each))

    specs = jax.tree.map(spec_of, updates)
    leaves = jax.tree.leaves(specs, is_leaf=lambda x: isinstance(x, PartitionSpec))
    cut = any(any(spec) for spec in leaves)
    return sharded(exchange, specs) if cut else exchange
