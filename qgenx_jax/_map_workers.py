"""Running a step on every worker: on the devices of a mesh, or by vmap on one."""

import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from qgenx_jax import _checks, _workers
from qgenx_jax._types import Array, AxisName, Params, State


class HasInit(Protocol):
    """Anything with optax's init: a transformation, or an extra-gradient pair."""

    @property
    def init(self) -> Callable[[Params], State]:
        """Makes the state for parameters."""
        ...


def init(
    optimizer: HasInit,
    params: Params,
    mesh: Mesh | None = None,
    axis_name: AxisName = None,
    *,
    workers: int | None = None,
) -> State:
    """The optimizer's state, with its per-worker leaves laid out over the workers.

    Args:
        optimizer: an optax transformation or an extra-gradient pair.
        params: the parameters.
        mesh: places the state on this mesh: per-worker leaves over `axis_name`, the
            others replicated.
        axis_name: the mesh axis over workers; needed with `mesh`.
        workers: K, for `map_workers(..., workers=K)`, where there is no mesh.

    Returns:
        The state as `map_workers` takes it: `per_worker` leaves of shape (K, ...).

    Raises:
        ValueError: unless exactly one of mesh and workers is given, or if the mesh has
            no such axis.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> pair = qgenx.q_genx("data", qgenx.uniform(bits=8), variant="optimistic")
        >>> state = qgenx.init(pair, {"x": jnp.zeros(5)}, workers=3)
        >>> state.inner.per_worker["x"].shape
        (3, 5)
    """
    mesh, count = _mesh_and_count(mesh, axis_name, workers)
    _workers.refuse_reserved_name(params)
    if not callable(getattr(optimizer, "init", None)):
        raise _checks.refuse(
            "optimizer",
            "must have an init: an optax transformation or an extra-gradient pair",
            optimizer,
            "pass what a factory returns, for instance optax.adam(1e-3)",
        )

    def tile(path: tuple[Any, ...], x: Array) -> Array:
        return jnp.repeat(x, count, axis=0) if _workers.is_per_worker(path) else x

    def make(params: Params) -> State:
        return jax.tree_util.tree_map_with_path(tile, optimizer.init(params))

    if mesh is None:
        return jax.jit(make)(params)
    specs = _workers.state_specs(jax.eval_shape(make, params), axis_name)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    return jax.jit(make, out_shardings=shardings)(params)


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
        axis_name: name of the axis over workers; with a mesh also a tuple of axes.
        mesh: one worker per index of the mesh axis `axis_name` (`jax.shard_map`).
            Parameters that lie on the mesh already (`jax.device_put` with a replicated
            `NamedSharding`) spare a second compilation, at the second call.
        workers: K workers on one device (`jax.vmap`); for small problems and tests.
        donate: whether the buffers of params and state are reused for the results.

    Returns:
        The mapped function, of the same signature. Params and state are replicated,
        except leaves under `per_worker`, which have a leading axis of length K. Every
        input and every further output has a leading axis of length K, which a worker
        does not see: it gets, and returns, its own entry.

    Raises:
        ValueError: unless exactly one of mesh and workers is given; if the mesh has no
            such axis; when called, if an input's leading axis is not K.

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
    mesh, count = _mesh_and_count(mesh, axis_name, workers)

    def mapped(params: Params, state: State, *inputs: Any) -> tuple:
        _checks.leading_axis(
            "the inputs",
            inputs,
            count,
            "worker",
            "reshape a global batch (K * b, ...) to (K, b, ...)",
        )
        with_path, treedef = jax.tree_util.tree_flatten_with_path(state)
        own = [_workers.is_per_worker(path) for path, _ in with_path]
        leaves = [leaf for _, leaf in with_path]

        def one_worker(params: Params, shared: list, per_worker: list, inputs: Any):
            state = jax.tree.unflatten(treedef, _merge(own, shared, per_worker))
            params, state, *outputs = step(params, state, *inputs)
            if jax.tree.structure(state) != treedef:
                raise _checks.refuse(
                    "step",
                    f"must return a state of the structure it got, {treedef}",
                    jax.tree.structure(state),
                    "make one call a whole iteration (qgenx_jax.iterate), or drive the "
                    "pair by qgenx_jax.alternating",
                )
            shared, per_worker = _partition(own, jax.tree.leaves(state))
            return params, shared, per_worker, outputs

        shared, per_worker = _partition(own, leaves)
        _checks.leading_axis(
            "the state's per-worker leaves",
            per_worker,
            count,
            "worker",
            "make the state by qgenx_jax.init, for this number of workers",
        )
        if mesh is None:
            run = _vmapped(one_worker, axis_name, count)
        else:
            run = _sharded(one_worker, axis_name, mesh)
        params, shared, per_worker, outputs = run(params, shared, per_worker, inputs)
        state = jax.tree.unflatten(treedef, _merge(own, shared, per_worker))
        return (params, state, *outputs)

    return jax.jit(mapped, donate_argnums=(0, 1) if donate else ())


def _vmapped(one_worker: Callable, axis_name: AxisName, count: int) -> Callable:
    """One copy of params and shared state, K entries of everything else."""
    run = jax.vmap(
        one_worker,
        in_axes=(None, None, 0, 0),
        out_axes=(None, None, 0, 0),
        axis_name=axis_name,
        axis_size=count,
    )

    def call(params: Params, shared: list, per_worker: list, inputs: Any) -> tuple:
        # inside, a per-worker leaf keeps a worker axis, of length 1
        per_worker = [x[:, None] for x in per_worker]
        params, shared, per_worker, outputs = run(params, shared, per_worker, inputs)
        return params, shared, [x[:, 0] for x in per_worker], outputs

    return call


def _sharded(one_worker: Callable, axis_name: AxisName, mesh: Mesh) -> Callable:
    """One worker per device: in shard_map an entry keeps its axis, of length 1."""
    everywhere, one_each = PartitionSpec(), PartitionSpec(axis_name)
    specs = (everywhere, everywhere, one_each, one_each)

    def entry(params: Params, shared: list, per_worker: list, inputs: Any) -> tuple:
        inputs = jax.tree.map(lambda x: jnp.squeeze(x, 0), inputs)
        params, shared, per_worker, outputs = one_worker(
            params, shared, per_worker, inputs
        )
        outputs = jax.tree.map(lambda x: jnp.expand_dims(x, 0), outputs)
        return params, shared, per_worker, outputs

    return jax.shard_map(entry, mesh=mesh, in_specs=specs, out_specs=specs)


def _mesh_and_count(
    mesh: Mesh | None, axis_name: AxisName, workers: int | None
) -> tuple[Mesh | None, int]:
    """The mesh, with Auto axes, and K."""
    if (mesh is None) == (workers is None):
        raise _checks.refuse(
            "mesh and workers",
            "must not both be given or both be missing",
            (mesh, workers),
            "give mesh= to use one device per worker, workers= to use vmap",
        )
    if mesh is None:
        if isinstance(axis_name, tuple):
            rule = "must be one name where there is no mesh"
            raise _checks.refuse("axis_name", rule, axis_name, 'for instance "data"')
        return None, _checks.whole_number("workers", workers, 1, None)
    if not isinstance(mesh, Mesh):
        rule = "must be a jax.sharding.Mesh"
        raise _checks.refuse("mesh", rule, mesh, "make one by jax.make_mesh")
    axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    for axis in axes:
        if axis not in mesh.shape:
            raise _checks.refuse(
                "axis_name",
                f"must be an axis of the mesh, one of {tuple(mesh.shape)}, or a tuple "
                "of such",
                axis_name,
                "name the mesh axis over workers",
            )
    # shard_map wants inputs placed by hand where axes are Explicit, jax.make_mesh's
    # default; a step sees no difference
    auto = (AxisType.Auto,) * len(mesh.axis_names)
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=auto)
    return mesh, math.prod(mesh.shape[axis] for axis in axes)


def _partition(own: list[bool], leaves: list) -> tuple[list, list]:
    shared = [leaf for leaf, o in zip(leaves, own, strict=True) if not o]
    return shared, [leaf for leaf, o in zip(leaves, own, strict=True) if o]


def _merge(own: list[bool], shared: list, per_worker: list) -> list:
    shared_leaves, own_leaves = iter(shared), iter(per_worker)
    return [next(own_leaves) if o else next(shared_leaves) for o in own]
