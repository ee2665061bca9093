"""Running a step on every worker: on the devices of a mesh, or by vmap on one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import AxisName, Params, State
from qgenx_jax._workers.axes import is_per_worker, refuse_differing
from qgenx_jax._workers.pacing import paced
from qgenx_jax._workers.placement import Where, where_workers_run


def map_workers(
    step: Callable[..., tuple],
    axis_name: AxisName,
    *,
    mesh: Mesh | None = None,
    workers: int | None = None,
    donate: bool = False,
) -> Callable[..., tuple]:
    """Runs a step on every worker, compiled: on the devices of a mesh, or by vmap.

    Args:
        step: `step(params, state, *inputs) -> (params, state, *outputs)`, for one
            worker, with collectives over `axis_name` inside.
        axis_name: name of the axis over workers; with a mesh also a tuple of axes;
            None, without mesh and workers, for one worker alone, to debug on one device
            what is written for many: K = 1, and nothing is mapped.
        mesh: one worker per index of the mesh axis `axis_name` (`jax.shard_map`). On
            simulated devices of a CPU a call waits for the one before.
            Parameters that lie on the mesh already (`jax.device_put` with a replicated
            `NamedSharding`) spare a second compilation, at the second call.
        workers: K workers on one device (`jax.vmap`); for small problems and tests.
            With a mesh, K workers on its D devices, K / D on each: then `axis_name` is
            a tuple whose last name is not of the mesh, for instance ("data", "local"),
            here and in the optimizer; step is then traced twice, once to be checked.
        donate: whether the buffers of params and state are reused for the results.

    Returns:
        The mapped function, of the same signature. Params and state are replicated,
        also over further axes of the mesh (what is cut there is put together on every
        device: a cut model wants a jax.shard_map of its own, see docs/guarantees.md),
        except leaves under `per_worker`, which have a leading axis of length K. Every
        input and every further output has a leading axis of length K, which a worker
        does not see: it gets, and returns, its own entry.

    Raises:
        ValueError: if neither mesh nor workers is given; if the mesh has no such axis
            or K does not go into it; when called, if an input's leading axis is not K,
            or if step returns no tuple, or params or state of another structure, shape
            or dtype than it got, or that differ between workers.

    Example:
        >>> import jax, jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = optax.chain(
        ...     qgenx.quantized_mean("data", qgenx.uniform(bits=8)), optax.sgd(0.5))
        >>> def step(params, state, target):
        ...     gradient = qgenx.local_params(params, "data") - target
        ...     updates, state = optimizer.update(gradient, state, params)
        ...     return optax.apply_updates(params, updates), state
        >>> params = jnp.zeros((32, 32))
        >>> state = qgenx.init(optimizer, params, workers=4)
        >>> targets = jnp.stack([jnp.full((32, 32), k) for k in (1.0, 2.0, 4.0, 1.0)])
        >>> params, state = qgenx.map_workers(step, "data", workers=4)(
        ...     params, state, targets)
        >>> round(float(params[0, 0]), 3)  # half of the way to the mean, 2
        1.0
    """
    _checks.function("step", step, "of params, state and inputs", "for one worker")
    if axis_name is None:
        where = _alone_without_axis(mesh, workers)
    else:
        _checks.axis_name(axis_name)
        where = where_workers_run(mesh, axis_name, workers)

    def mapped(params: Params, state: State, *inputs: Any) -> tuple:
        _checks.leading_axis(
            "the inputs",
            inputs,
            where.workers,
            "worker",
            "reshape a global batch (K * b, ...) to (K, b, ...)",
        )
        with_path, treedef = jax.tree_util.tree_flatten_with_path(state)
        own = [is_per_worker(path) for path, _ in with_path]
        leaves = [leaf for _, leaf in with_path]

        def one_worker(params: Params, shared: list, per_worker: list, inputs: Any):
            state = jax.tree.unflatten(treedef, _merge(own, shared, per_worker))
            result = step(params, state, *inputs)
            params, state, *outputs = _checked(result, params, state, axis_name)
            shared, per_worker = _partition(own, jax.tree.leaves(state))
            return params, shared, per_worker, outputs

        shared, per_worker = _partition(own, leaves)
        _checks.leading_axis(
            "the state's per-worker leaves",
            per_worker,
            where.workers,
            "worker",
            "make the state by qgenx_jax.init, for this number of workers",
        )
        run = _runner(one_worker, where)
        params, shared, per_worker, outputs = run(params, shared, per_worker, inputs)
        state = jax.tree.unflatten(treedef, _merge(own, shared, per_worker))
        return (params, state, *outputs)

    run = jax.jit(mapped, donate_argnums=(0, 1) if donate else ())
    return paced(run, where.mesh)


def _alone_without_axis(mesh: Mesh | None, workers: int | None) -> Where:
    """One worker, for which no axis is bound."""
    if mesh is not None or workers not in (None, 1):
        raise _checks.refuse(
            "axis_name",
            "must be a name where there is a mesh, or more than one worker",
            None,
            'for instance "data"; None, without a mesh, is one worker alone',
        )
    return Where(None, (), None, 1, 1)


def _checked(
    result: Any, params: Params, state: State, axis_name: AxisName
) -> tuple[Any, ...]:
    """What a step returned, if it can be handed to the next step."""
    if not isinstance(result, tuple) or len(result) < 2:
        raise _checks.refuse(
            "step",
            "must return a tuple (params, state, *outputs)",
            _checks.Text(type(result).__name__),
            "return the state that update gave back, too",
        )
    found, wanted = jax.tree.structure(result[1]), jax.tree.structure(state)
    if found != wanted:
        raise _checks.refuse(
            "step",
            f"must return a state of the structure it got, {wanted}",
            found,
            "make one call a whole iteration (qgenx_jax.iterate), or drive the pair by "
            "qgenx_jax.alternating",
        )
    pairs = {"params": (result[0], params), "state": (result[1], state)}
    for name, (after, before) in pairs.items():
        argument, given = f"the step's {name}", f"the {name} it got"
        way_out = f"return {name} like those, for the next step"
        _checks.same_structure(argument, after, given, before, way_out)
        _checks.same_dtypes(argument, after, given, before, way_out)
        refuse_differing(argument, after, axis_name)
    return result


def _runner(one_worker: Callable, where: Where) -> Callable:
    """`one_worker` on all workers, in shard_map, in vmap, or in vmap in shard_map.

    JAX does not track what varies in vmap. So where lanes of vmap are in a shard_map,
    and where vmap fails, a step is looked at as if each worker had its own device: then
    it does, and the checks of this library say what is wrong, and of which leaf.
    """
    if where.lane is None and where.mesh is None:
        return _alone(one_worker)
    if where.lane is None:
        return _sharded(_alone(one_worker), where.mesh, where.axes)
    sizes = {} if where.mesh is None else dict(where.mesh.shape)
    axes = where.axes if isinstance(where.axes, tuple) else (where.axes,)
    sizes[where.lane] = where.lanes
    as_devices = _sharded(
        _alone(one_worker),
        AbstractMesh(
            tuple(sizes.values()), tuple(sizes), (AxisType.Auto,) * len(sizes)
        ),
        (*axes, where.lane),
    )
    lanes = _vmapped(one_worker, where)

    def alone(*arguments: Any) -> tuple:
        try:
            return lanes(*arguments)
        except ValueError as error:
            if "out_axes" in str(error):
                jax.eval_shape(as_devices, *arguments)
            raise

    def shared(*arguments: Any) -> tuple:
        jax.eval_shape(as_devices, *arguments)
        run = _sharded(lanes, where.mesh, where.axes, tracked=False)
        return run(*arguments)

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
    everywhere, one_each = PartitionSpec(), PartitionSpec(axes)
    specs = (everywhere, everywhere, one_each, one_each)
    return jax.shard_map(
        run, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=tracked
    )


def _partition(own: list[bool], leaves: list) -> tuple[list, list]:
    shared = [leaf for leaf, o in zip(leaves, own, strict=True) if not o]
    return shared, [leaf for leaf, o in zip(leaves, own, strict=True) if o]


def _merge(own: list[bool], shared: list, per_worker: list) -> list:
    shared_leaves, own_leaves = iter(shared), iter(per_worker)
    return [next(own_leaves) if o else next(shared_leaves) for o in own]
