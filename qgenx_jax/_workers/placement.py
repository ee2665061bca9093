"""Where workers run, and states laid out over them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding

from qgenx_jax import _checks, _trees
from qgenx_jax._types import Array, AxisName, Params, State
from qgenx_jax._workers.axes import is_per_worker, refuse_reserved_name
from qgenx_jax._workers.specs import specs_like


class Where(NamedTuple):
    """Where workers run: K / D of them by vmap on each of D devices.

    Attributes:
        mesh: the devices, with Auto axes; None without a mesh.
        axes: the mesh axis over workers, or a tuple of axes.
        lane: the axis of vmap; None where each device has one worker.
        lanes: workers on each device.
        workers: K.
    """

    mesh: Mesh | None
    axes: AxisName
    lane: Any
    lanes: int
    workers: int


def where_workers_run(
    mesh: Mesh | None, axis_name: AxisName, workers: int | None
) -> Where:
    """The place of K workers, checked."""
    if workers is not None:
        workers = _checks.whole_number("workers", workers, 1, None)
    if mesh is None and workers is None:
        mesh = _mesh_that_is_set()
    if mesh is None:
        if workers is None:
            raise _checks.refuse(
                "mesh and workers",
                "must not both be missing",
                (mesh, workers),
                "give mesh= to use one device per worker, workers= to use vmap, or set "
                "a mesh by jax.set_mesh, and call this outside of jax.jit",
            )
        if isinstance(axis_name, tuple):
            rule = "must be one name where there is no mesh"
            raise _checks.refuse("axis_name", rule, axis_name, 'for instance "data"')
        return Where(None, (), axis_name, workers, workers)
    _checks.axis_name(axis_name)
    if not isinstance(mesh, Mesh):
        rule = "must be a jax.sharding.Mesh"
        raise _checks.refuse("mesh", rule, mesh, "make one by jax.make_mesh")
    axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    lane = None
    if workers is not None and len(axes) > 1 and axes[-1] not in mesh.shape:
        *axes, lane = axes
    for axis in axes:
        if axis not in mesh.shape:
            raise _checks.refuse(
                "axis_name",
                f"must be an axis of the mesh, one of {tuple(mesh.shape)}, or a tuple "
                "of such",
                axis_name,
                "name the mesh axis over workers; where several workers share a "
                'device give workers= and a further name, as in ("data", "local")',
            )
    devices = math.prod(mesh.shape[axis] for axis in axes)
    workers = devices if workers is None else workers
    along = f"the {devices} devices along {tuple(axes)}"
    if lane is None and workers != devices:
        raise _checks.refuse(
            "workers",
            f"must be {along}, one worker on each",
            workers,
            "leave workers out, or give axis_name a last name that is not of the mesh, "
            'for the workers that share a device, as in ("data", "local")',
        )
    if workers % devices:
        raise _checks.refuse(
            "workers",
            f"must be a multiple of {along}",
            workers,
            "make a mesh of fewer devices",
        )
    # shard_map wants inputs placed by hand where axes are Explicit, jax.make_mesh's
    # default; a step sees no difference
    auto = (AxisType.Auto,) * len(mesh.axis_names)
    mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=auto)
    axis = axes[0] if len(axes) == 1 else tuple(axes)
    return Where(mesh, axis, lane, workers // devices, workers)


def _mesh_that_is_set() -> Mesh | None:
    """That of `jax.set_mesh`; None without one, and where a program is being traced."""
    try:
        mesh = jax.sharding.get_mesh()
    except ValueError:
        return None
    return None if mesh.empty else mesh


def kinds_of_axes(mesh: Mesh) -> tuple[AxisType, ...]:
    """How JAX treats a mesh's axes here: as `jax.set_mesh` says, or all as Auto.

    Raises:
        ValueError: if another mesh is set, or a function over these devices runs.
    """
    context = jax.sharding.get_abstract_mesh()
    if context.empty:
        return (AxisType.Auto,) * len(mesh.axis_names)
    if tuple(context.shape.items()) != tuple(mesh.shape.items()):
        raise _checks.refuse(
            "mesh",
            f"must be the one that jax.set_mesh has set, {context.shape}",
            _checks.Text(mesh.shape),
            "set this one, or none",
        )
    if AxisType.Manual in context.axis_types:
        raise _checks.refuse(
            "the mapped step",
            "must not be called inside a jax.shard_map",
            _checks.Text(f"a call where {context.manual_axes} are mapped"),
            "call there what runs on one worker",
        )
    return context.axis_types


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

    Of parameters that `NamedSharding`s cut over further axes of the mesh, what is like
    them in the state (moments, averages) is cut alike. Of their shapes
    (`jax.ShapeDtypeStruct`) the state is one of shapes, placed, to restore into.

    Args:
        optimizer: an optax transformation or an extra-gradient pair.
        params: the parameters, or their shapes.
        mesh: places the state on this mesh: per-worker leaves over `axis_name`, the
            others replicated. Without it and `workers`, the one set by `jax.set_mesh`.
        axis_name: the axis over workers, or a tuple of axes; needed with a mesh.
        workers: K, where there is no mesh, or where several workers share a device of
            it (see `map_workers`).

    Returns:
        The state as `map_workers` takes it: `per_worker` leaves of shape (K, ...).

    Raises:
        ValueError: if neither mesh nor workers is given, the mesh has no such axis, or
            K does not go into it; if something stands around `alternating` or
            `accumulate` that makes another method of it.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> pair = qgenx.q_genx("data", qgenx.uniform(bits=8), variant="optimistic")
        >>> state = qgenx.init(pair, {"x": jnp.zeros(5)}, workers=3)
        >>> state.inner.per_worker["x"].shape
        (3, 5)
    """
    refuse_reserved_name(params)
    if not callable(getattr(optimizer, "init", None)):
        raise _checks.refuse(
            "optimizer",
            "must have an init: an optax transformation or an extra-gradient pair",
            optimizer,
            "pass for instance optax.adam(1e-3)",
        )
    where = where_workers_run(mesh, axis_name, workers)
    _judged(optimizer, params)
    return _laid_out(optimizer.init, params, where)


def _judged(optimizer: HasInit, params: Params) -> None:
    """Lets what stands inside an optimizer refuse what stands around it.

    Such a thing's state has a class attribute `judge`, a function of the optimizer, the
    parameters' and the whole state's shapes; or `judge_state`, of the state alone.
    """
    with _checks.noting_what_is_left() as left:
        shapes = jax.eval_shape(lambda params: (params, optimizer.init(params)), params)
    if left and _trees.is_known(params):
        optimizer.init(params)  # outside of jit, which knows no values
    for node in _trees.find_if(shapes[1], lambda node: hasattr(type(node), "judge")):
        type(node).judge(optimizer, *shapes)
    _judged_by_state(shapes[1])


def _judged_by_state(state: State) -> None:
    for node in _trees.find_if(state, lambda node: hasattr(type(node), "judge_state")):
        type(node).judge_state(state)


def lay_out(
    state: State,
    mesh: Mesh | None = None,
    axis_name: AxisName = None,
    *,
    workers: int | None = None,
) -> State:
    """A state that another library made, with its per-worker leaves over the workers.

    `flax.nnx.Optimizer` and flax's `TrainState.create` call an optimizer's init
    themselves, for one worker. This does to their states, or to a tree that has
    parameters beside such a state, what `init` does.

    Args:
        state: any tree; leaves below `per_worker` have a leading axis of length 1.
        mesh: as in `init`.
        axis_name: as in `init`.
        workers: as in `init`.

    Returns:
        The tree as `map_workers` takes it: `per_worker` leaves of shape (K, ...).

    Raises:
        ValueError: as `init`, and if a per-worker leaf has another leading axis, or a
            schedule stands around an `accumulate`.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> pair = qgenx.q_genx("data", qgenx.uniform(bits=8), variant="optimistic")
        >>> state = qgenx.alternating(pair).init({"x": jnp.zeros(5)})
        >>> qgenx.lay_out(state, workers=3).inner.per_worker["x"].shape
        (3, 5)
    """
    with_path = jax.tree_util.tree_leaves_with_path(state)
    check_per_worker(
        with_path,
        1,
        "pass a state as an optimizer's init returns it, not laid out already; one of "
        "another number of workers is taken over by qgenx_jax.reshard",
    )
    _judged_by_state(state)
    where = where_workers_run(mesh, axis_name, workers)
    return _laid_out(lambda state: state, state, where)


def check_per_worker(
    with_path: list[tuple[Any, Any]], workers: int, way_out: str
) -> None:
    """Checks that a state's per-worker leaves have an entry for each worker.

    Raises:
        ValueError: for the first one that has not, with its path.
    """
    rule = f"must have a leading axis of length {workers}, one entry per worker"
    for path, leaf in with_path:
        if is_per_worker(path) and jnp.shape(leaf)[:1] != (workers,):
            name = _checks.leaf_name(path, "the state")
            raise _checks.refuse(name, rule, jnp.shape(leaf), way_out)


def _laid_out(make: Callable[[Any], State], argument: Any, where: Where) -> State:
    """A state with its per-worker leaves repeated for K workers, and placed."""

    def tile(path: tuple[Any, ...], x: Array) -> Array:
        if not is_per_worker(path):
            return x
        return jnp.repeat(x, where.workers, axis=0)

    def tiled(argument: Any) -> State:
        return jax.tree_util.tree_map_with_path(tile, make(argument))

    mesh, shapes = where.mesh, jax.eval_shape(tiled, argument)
    of_shapes = _trees.find(argument, jax.ShapeDtypeStruct)
    if mesh is None:
        return shapes if of_shapes else jax.jit(tiled)(argument)
    specs = specs_like(shapes, where.axes, argument, mesh.axis_names)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    if of_shapes:
        return jax.tree.map(_placed, shapes, shardings)
    if AxisType.Explicit in kinds_of_axes(mesh):
        return jax.jit(jax.sharding.auto_axes(tiled, out_sharding=specs))(argument)
    return jax.jit(tiled, out_shardings=shardings)(argument)


def _placed(x: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
