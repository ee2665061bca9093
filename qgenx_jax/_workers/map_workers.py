"""Running a step on every worker: on the devices of a mesh, or by vmap on one."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from qgenx_jax import _checks
from qgenx_jax._types import AxisName, Params, State
from qgenx_jax._workers.axes import is_per_worker
from qgenx_jax._workers.handed import check_inputs, checked
from qgenx_jax._workers.pacing import told
from qgenx_jax._workers.placement import (
    Where,
    check_per_worker,
    where_workers_run,
)
from qgenx_jax._workers.running import runner


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
        mesh: one worker per index of the mesh axis `axis_name` (`jax.shard_map`);
            without it and `workers`, the mesh set by `jax.set_mesh`. Its axes may be
            Auto or Explicit. On simulated devices of a CPU a call waits for the one
            before.
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
        does not see: it gets, and returns, its own entry; of K rows one row, without
        its axis, so a batch of one row for each has the shape (K, 1, ...).

    Raises:
        ValueError: if neither mesh nor workers is given, and no mesh is set, or another
            one; if the mesh has no such axis or K does not go into it; when called, if
            an input's leading axis is not K, or if step returns no tuple, or params or
            state of another structure, shape or dtype than it got, or that differ
            between workers; if it takes a gradient of the parameters as they were
            handed in, or chooses by a worker's own value what all have to do alike.
        ExchangeError: when called, where a collective has failed, and JAX says so at
            once; else whoever waits for results is told, see there.

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
        check_inputs(inputs, where.workers)
        with_path, treedef = jax.tree_util.tree_flatten_with_path(state)
        own = [is_per_worker(path) for path, _ in with_path]
        leaves = [leaf for _, leaf in with_path]
        check_per_worker(
            with_path,
            where.workers,
            "make the state by qgenx_jax.init for this number of workers, or take one "
            "of another number over by qgenx_jax.reshard",
        )

        def one_worker(params: Params, shared: list, per_worker: list, inputs: Any):
            state = jax.tree.unflatten(treedef, _merge(own, shared, per_worker))
            result = checked(step, params, state, inputs, axis_name)
            params, state, *outputs = result
            shared, per_worker = _partition(own, jax.tree.leaves(state))
            return params, shared, per_worker, outputs

        shared, per_worker = _partition(own, leaves)
        run = runner(one_worker, where)
        params, shared, per_worker, outputs = run(params, shared, per_worker, inputs)
        state = jax.tree.unflatten(treedef, _merge(own, shared, per_worker))
        return (params, state, *outputs)

    run = jax.jit(mapped, donate_argnums=(0, 1) if donate else ())
    return told(run, where.mesh)


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


def _partition(own: list[bool], leaves: list) -> tuple[list, list]:
    shared = [leaf for leaf, o in zip(leaves, own, strict=True) if not o]
    return shared, [leaf for leaf, o in zip(leaves, own, strict=True) if o]


def _merge(own: list[bool], shared: list, per_worker: list) -> list:
    shared_leaves, own_leaves = iter(shared), iter(per_worker)
    return [next(own_leaves) if o else next(shared_leaves) for o in own]
