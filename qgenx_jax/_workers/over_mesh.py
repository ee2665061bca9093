"""Workers along an axis of a mesh, in an ordinary jitted step; other axes are jit's."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import AxisName
from qgenx_jax._workers import axes


def workers_of(mesh: Any, axis_name: AxisName) -> int:
    """K, the devices along an axis of a mesh, where it is not mapped over already.

    Raises:
        ValueError: if that is no mesh, or has no such axis; if another mesh is set, or
            a `jax.shard_map` maps over the axis here.
    """
    _checks.axis_name(axis_name)
    if not isinstance(mesh, Mesh):
        rule = "must be a jax.sharding.Mesh"
        raise _checks.refuse("mesh", rule, mesh, "make one by jax.make_mesh")
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    for name in names:
        if name not in mesh.shape:
            rule = f"must be an axis of the mesh, one of {tuple(mesh.shape)}"
            way_out = "name the axis that the batch is cut over"
            raise _checks.refuse("axis_name", rule, axis_name, way_out)
    here = jax.sharding.get_abstract_mesh()
    if axes.by_hand() & set(names):
        raise _checks.refuse(
            "mesh",
            f"must be left out where a jax.shard_map maps over {axis_name!r} already",
            _checks.Text(f"a call where {here.manual_axes} are mapped"),
            "leave mesh out there, or call this in jax.jit alone",
        )
    if not here.empty and tuple(here.shape.items()) != tuple(mesh.shape.items()):
        rule = f"must be the one that jax.set_mesh has set, {here.shape}"
        raise _checks.refuse("mesh", rule, _checks.Text(mesh.shape), "set this one")
    return math.prod(mesh.shape[name] for name in names)


def on_workers(
    run: Callable[..., Any],
    mesh: Mesh,
    axis_name: AxisName,
    in_specs: Any,
    out_specs: Any,
    *,
    tracked: bool = True,
) -> Callable[..., Any]:
    """`run` on each worker of an axis; the other axes of the mesh stay jit's.

    Where these are Explicit, JAX would put together on every device what they cut, at
    both ends of a `jax.shard_map` over fewer axes. They are Auto at those, and what
    `run` is given and returns has the types that it would have had.
    """
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)

    def on_each(run: Callable[..., Any]) -> Callable[..., Any]:
        return jax.shard_map(
            run,
            mesh=mesh if jax.sharding.get_abstract_mesh().empty else None,
            in_specs=in_specs,
            out_specs=out_specs,
            axis_names=set(names),
            check_vma=tracked,
        )

    def call(*arguments: Any) -> Any:
        here = jax.sharding.get_abstract_mesh()
        if here.empty:
            here = mesh.abstract_mesh
        explicit = [
            name
            for name, kind in zip(here.axis_names, here.axis_types, strict=True)
            if kind == AxisType.Explicit
        ]
        if not tracked or not explicit:
            return on_each(run)(*arguments)
        arguments = _handed_out(arguments, in_specs, names, here, mesh)
        others = tuple(name for name in explicit if name not in names)
        if not others:
            return on_each(run)(*arguments)
        with jax.sharding.use_abstract_mesh(here):
            found = jax.eval_shape(on_each(run), *arguments)
            out = jax.tree.map(lambda x: x.sharding.spec, found)
            into = jax.tree.map(lambda x: PartitionSpec(*_others(x, names)), arguments)
            typed = jax.sharding.explicit_axes(run, axes=others, in_sharding=into)
            untyped = jax.sharding.auto_axes(
                on_each(typed), axes=others, out_sharding=out
            )
            return untyped(*arguments)

    return call


def _handed_out(
    arguments: tuple, in_specs: Any, names: tuple, mesh: Any, devices: Mesh
) -> tuple:
    """Arguments that lie as a shard_map over Explicit axes wants them to."""

    def moved(spec: PartitionSpec, x: Any) -> Any:
        wanted = _others(x, names)
        wanted[: len(spec)] = spec
        if wanted == _others(x, ()):
            return x
        sharding = PartitionSpec(*wanted)
        if not isinstance(x, Tracer):
            return jax.device_put(x, NamedSharding(devices, sharding))
        return jax.sharding.reshard(x, NamedSharding(mesh, sharding))

    return tuple(
        jax.tree.map(
            lambda s, part: jax.tree.map(lambda x: moved(s, x), part),
            spec,
            argument,
            is_leaf=lambda s: isinstance(s, PartitionSpec),
        )
        for spec, argument in zip(in_specs, arguments, strict=True)
    )


def _others(x: Any, names: tuple) -> list[Any]:
    """The axes that each dimension of an array is cut over, by its type, but some."""
    cut = [e if isinstance(e, tuple) else (e,) for e in jax.typeof(x).sharding.spec]
    each = [tuple(n for n in entry if n not in (None, *names)) for entry in cut]
    return [entry[0] if len(entry) == 1 else entry or None for entry in each]
