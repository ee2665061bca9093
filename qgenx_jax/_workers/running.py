"""A worker's program on all workers: in shard_map, in vmap, or in vmap in shard_map."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import AxisName, Params
from qgenx_jax._workers.branches import refuse_own_choices
from qgenx_jax._workers.placement import Where, kinds_of_axes
from qgenx_jax._workers.transposes import refuse_summed


def runner(one_worker: Callable, where: Where) -> Callable:
    """`one_worker` on all workers, in shard_map, in vmap, or in vmap in shard_map.

    JAX does not track what varies in vmap. So where lanes of vmap are in a shard_map,
    and where vmap fails, a step is looked at as if each worker had its own device: then
    it does, and the checks of this library say what is wrong, and of which leaf.
    """
    if where.lane is None and where.mesh is None:
        return _alone(one_worker)
    if where.lane is None:
        return _in_context(_sharded(_alone(one_worker), where.mesh, where.axes), where)
    sizes = {} if where.mesh is None else dict(where.mesh.shape)
    axes = where.axes if isinstance(where.axes, tuple) else (where.axes,)
    sizes[where.lane] = where.lanes
    imagined = AbstractMesh(
        tuple(sizes.values()), tuple(sizes), (AxisType.Auto,) * len(sizes)
    )
    as_devices = _sharded(_alone(one_worker), imagined, (*axes, where.lane))
    lanes = _vmapped(one_worker, where)

    def look(*arguments: Any) -> None:
        # where a mesh is set, arguments lie on it by their types
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), arguments
        )
        use, nothing = jax.sharding.use_abstract_mesh, AbstractMesh((), ())
        with use(nothing), use(imagined):  # JAX lets no mesh follow one of another size
            jax.eval_shape(_looked_through(as_devices, (*axes, where.lane)), *shapes)

    def alone(*arguments: Any) -> tuple:
        try:
            return lanes(*arguments)
        except ValueError as error:
            if "out_axes" not in str(error):
                raise
            look(*arguments)  # raises, and says which leaf differs
            raise _checks.refuse(
                "step",
                "must return parameters and state that are equal on all workers, and "
                "by vmap those that rest as they were handed in",
                _checks.Text("a leaf to which something of a worker's own was added"),
                "give such leaves zeros of their own, as optax.set_to_zero does",
            ) from error

    def shared(*arguments: Any) -> tuple:
        look(*arguments)
        run = _sharded(lanes, where.mesh, where.axes, tracked=False)
        return _in_context(run, where)(*arguments)

    return alone if where.mesh is None else shared


def _vmapped(one_worker: Callable, where: Where) -> Callable:
    """One copy of params and shared state, an entry per worker of everything else."""
    run = jax.vmap(
        one_worker,
        in_axes=(None, None, 0, 0),
        out_axes=(None, None, 0, 0),
        axis_name=where.lane,
        axis_size=where.lanes,
    )

    def call(params: Params, shared: list, per_worker: list, inputs: Any) -> tuple:
        # inside, a per-worker leaf keeps a worker axis, of length 1
        per_worker = [x[:, None] for x in per_worker]
        params, shared, per_worker, outputs = run(params, shared, per_worker, inputs)
        return params, shared, [x[:, 0] for x in per_worker], outputs

    return call


def _alone(one_worker: Callable) -> Callable:
    """One worker on a device: in shard_map an entry keeps its axis, of length 1."""

    def call(params: Params, shared: list, per_worker: list, inputs: Any) -> tuple:
        inputs = jax.tree.map(lambda x: jnp.squeeze(x, 0), inputs)
        params, shared, per_worker, outputs = one_worker(
            params, shared, per_worker, inputs
        )
        outputs = jax.tree.map(lambda x: jnp.expand_dims(x, 0), outputs)
        return params, shared, per_worker, outputs

    return call


def _sharded(
    run: Callable, mesh: Any, axes: AxisName, *, tracked: bool = True
) -> Callable:
    specs = _specs(axes)
    return jax.shard_map(
        run, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=tracked
    )


def _specs(axes: AxisName) -> tuple[PartitionSpec, ...]:
    """Of params, shared state, per-worker state, and inputs or outputs."""
    everywhere, one_each = PartitionSpec(), PartitionSpec(axes)
    return everywhere, everywhere, one_each, one_each


def _in_context(run: Callable, where: Where) -> Callable:
    """A shard_map over Auto axes, also where `jax.set_mesh` has set Explicit ones."""

    run, mesh = _looked_through(run, where.axes), where.mesh
    assert mesh is not None

    def call(*arguments: Any) -> tuple:
        if AxisType.Explicit not in kinds_of_axes(mesh):
            return run(*arguments)
        by_hand: Any = jax.sharding.auto_axes(run, out_sharding=_specs(where.axes))
        return by_hand(*arguments)

    return call


def _looked_through(run: Callable, axes: AxisName) -> Callable:
    """A shard_map whose program is looked at, and traced once all the same."""

    def call(*arguments: Any) -> tuple:
        traced, shapes = jax.make_jaxpr(run, return_shape=True)(*arguments)
        refuse_summed(traced, axes)
        refuse_own_choices(traced, axes)
        leaves = jaxpr_as_fun(traced)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return call
