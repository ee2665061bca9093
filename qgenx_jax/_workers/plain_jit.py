"""A worker's own gradients in an ordinary jitted step, over the axis of a mesh.

    jit over sharded arrays      batch (B, ...) over "data", parameters on all devices
      shard_map over "data"      worker k's own loss and gradient, of its B / K examples
    jit again                    gradients (K, ...), row k worker k's, over "data"

`jax.grad` of a loss of the whole batch sums float32 gradients over the devices, before
anyone can compress them. Here they stay where they were computed, and the mean is made
by an exchange that is given the same mesh. Other axes of the mesh are left to jit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives
from qgenx_jax._workers.over_mesh import on_workers, workers_of


def own_gradients(
    differentiate: Callable[[Callable[..., Any]], Callable[..., Any]],
    loss: Callable[..., Any],
    which: Sequence[int],
    axis_name: AxisName,
    mesh: Mesh,
    replicated: Sequence[int | str],
    has_aux: bool,
) -> Callable[..., Any]:
    """What `value_and_grad` returns where it is given a mesh, which says what that is.

    Args:
        differentiate: from a loss to its value and gradient, on one worker.
        loss: of one worker's arguments.
        which: the arguments to differentiate with respect to.
        axis_name: the axis over workers.
        mesh: with that axis.
        replicated: further arguments that each worker gets whole, and keywords.
        has_aux: whether the loss returns (scalar, aux).
    """

    def call(*arguments: Any, **keywords: Any) -> Any:
        workers = workers_of(mesh, axis_name)
        whole = {i % len(arguments) for i in (*which, *_numbers(replicated, arguments))}
        given = (arguments, keywords)
        leaves, treedef = jax.tree.flatten(given)
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(given)]
        for number in which:
            _check_differentiable(arguments[number], number)
        traced = [i for i, x in enumerate(leaves) if _is_array(x)]
        is_whole = [_is_whole(path, whole, replicated) for path in paths]
        specs = _specs(leaves, paths, is_whole, traced, axis_name, workers)

        def worker(*own: Any) -> tuple:
            index = axes.axis_index(axis_name)
            mine = list(leaves)
            for i, x in zip(traced, own, strict=True):
                is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key) and x.ndim == 0
                is_own = is_key and not is_whole[i]
                mine[i] = jax.random.fold_in(x, index) if is_own else x
            own_arguments, own_keywords = jax.tree.unflatten(treedef, mine)
            run = differentiate(_without_side_effects(loss))
            found, gradient = run(*own_arguments, **own_keywords)
            value, aux = found if has_aux else (found, None)
            equal, each, structure = _sorted_by_kind(aux, axis_name)
            notes.append(structure)
            rows = jax.tree.map(lambda g: jnp.expand_dims(g, 0), gradient)
            return _mean(value, axis_name), rows, equal, each

        notes: list[Any] = []
        over, everywhere = PartitionSpec(axis_name), PartitionSpec()
        out_specs = (everywhere, over, everywhere, over)
        mapped = on_workers(worker, mesh, axis_name, tuple(specs), out_specs)
        value, rows, equal, each = mapped(*(leaves[i] for i in traced))
        if not has_aux:
            return value, rows
        structure = notes[-1]
        aux = [e if e is not None else o for e, o in zip(equal, each, strict=True)]
        return (value, jax.tree.unflatten(structure, aux)), rows

    return call


def _numbers(replicated: Sequence[int | str], arguments: tuple) -> list[int]:
    numbers = [x for x in replicated if not isinstance(x, str)]
    for number in numbers:
        count = len(arguments)
        _checks.whole_number("replicated", number, -count, count - 1)
    return numbers


def _check_differentiable(argument: Any, number: int) -> None:
    """Checks that an argument can be differentiated by.

    Raises:
        ValueError: if a leaf of it is no floating-point array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
        if not _is_array(leaf) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise _checks.refuse(
                _checks.leaf_name(path, f"argument {number} of the loss"),
                "must be a floating-point array, to differentiate by",
                leaf,
                "hand over what is trained alone; of a flax.nnx module with random "
                "states or counters: graphdef, params, rest = nnx.split(model, "
                "nnx.Param, ...)",
            )


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic)


def _is_whole(path: tuple, whole: set[int], replicated: Sequence[int | str]) -> bool:
    """Whether an argument, or a keyword, is one that each worker gets whole."""
    kind, name = path[0].idx, getattr(path[1], "idx", getattr(path[1], "key", None))
    return name in whole if kind == 0 else name in replicated


def _specs(
    leaves: list,
    paths: list,
    is_whole: list[bool],
    traced: list[int],
    axis_name: AxisName,
    workers: int,
) -> list[PartitionSpec]:
    """How each array is handed to the workers.

    Raises:
        ValueError: for one that is to be cut into K shares, and cannot be, or is not
            of as many examples as the first of them.
    """
    specs: list[PartitionSpec] = []
    first: tuple | None = None
    for i in traced:
        x, name = leaves[i], _name(paths[i])
        if is_whole[i] or not jnp.ndim(x):
            specs.append(PartitionSpec())
            continue
        shape, dtype = jnp.shape(x), jnp.result_type(x)
        if shape == (2,) and dtype == np.uint32:
            raise _checks.refuse(
                name,
                "must be no key of plain words, which would be cut as a batch is",
                _checks.Text(jax.typeof(x)),
                "pass a typed one, jax.random.key or jax.random.wrap_key_data, of "
                "which each worker gets its own; or name the argument in replicated=",
            )
        if shape[0] % workers:
            raise _checks.refuse(
                name,
                f"must be a batch, of a multiple of {workers} examples, of which each "
                f"worker along {axis_name!r} gets its share",
                shape,
                "leave out the last examples; what each worker is to get whole, name "
                "in replicated=",
            )
        first = first or (name, shape[0])
        if shape[0] != first[1]:
            raise _checks.refuse(
                name,
                f"must have as many examples as {first[0]}, {first[1]}",
                shape,
                "name what each worker is to get whole in replicated=",
            )
        specs.append(PartitionSpec(axis_name))
    return specs


def _name(path: tuple) -> str:
    kind, number = path[0].idx, path[1]
    if kind == 0:
        return _checks.leaf_name(path[2:], f"argument {number.idx} of the loss")
    return _checks.leaf_name(path[2:], f"argument {number.key!r} of the loss")


def _without_side_effects(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A loss that is refused if it changes one of its arguments.

    A module of flax's nnx that counts, or keeps running statistics, changes itself.
    What is changed here is a copy, and would be lost: dropout would be the same at
    every step.
    """

    def call(*arguments: Any, **keywords: Any) -> Any:
        before = jax.tree.leaves((arguments, keywords))
        result = loss(*arguments, **keywords)
        after = jax.tree_util.tree_leaves_with_path((arguments, keywords))
        same = len(before) == len(after)
        changed = [p for b, (p, a) in zip(before, after, strict=False) if b is not a]
        if same and not changed:
            return result
        name = _name(changed[0]) if changed else "an argument of the loss"
        raise _checks.refuse(
            name,
            "must not be changed by the loss, which runs on a copy of it",
            _checks.Text("a change"),
            "of a flax.nnx module differentiate by its parameters, and hand back what "
            "changes in aux: graphdef, params, rest = nnx.split(model, nnx.Param, ...)",
        )

    return call


def _mean(x: Array, axis_name: AxisName) -> Array:
    return collectives.all_reduce(x, axis_name) / axes.axis_size(axis_name)


def _sorted_by_kind(aux: Any, axis_name: AxisName) -> tuple[list, list, Any]:
    """The leaves of aux that are equal on all workers, and those that each has.

    Raises:
        ValueError: for one that cannot be put together to one of the whole batch.
    """
    with_path, structure = jax.tree_util.tree_flatten_with_path(aux)
    equal: list[Array | None] = []
    each: list[Array | None] = []
    over = axes.tracked(axis_name)
    for path, leaf in with_path:
        x = jnp.asarray(leaf)
        if not over & axes.varying(x):
            equal.append(x)
            each.append(None)
        elif not x.ndim and jnp.issubdtype(x.dtype, jnp.floating):
            equal.append(_mean(x, axis_name))
            each.append(None)
        elif x.ndim:
            equal.append(None)
            each.append(x)
        else:
            raise _checks.refuse(
                _checks.leaf_name(path, "aux"),
                "must be a floating-point number, which is averaged over the workers, "
                "or have a first axis, along which theirs are put together",
                _checks.Text(jax.typeof(x)),
                f"return x[None], or jax.lax.psum(x, {axis_name!r}), the sum",
            )
    return equal, each, structure
