"""A worker's own gradients in an ordinary jitted step, over the axis of a mesh.

    jit over sharded arrays      batch (B, ...) over "data", parameters on all devices
      shard_map over "data"      worker k's own loss and gradient, of its B / K examples
    jit again                    gradients (K, ...), row k worker k's, over "data"

`jax.grad` of a loss of the whole batch sums float32 gradients over the devices, before
anyone can compress them. Here they stay where they were computed, and the mean is made
by an exchange that is given the same mesh. Other axes of the mesh are left to jit.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives, shares
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
        for number in which:
            shares.check_number("argnums", number, len(arguments))
        whole = {number % len(arguments) for number in which}
        whole |= shares.of_all(loss, replicated, len(arguments), keywords)
        given = (arguments, keywords)
        leaves, treedef = jax.tree.flatten(given)
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(given)]
        for number in which:
            shares.check_differentiable(arguments[number], number)
        traced = [i for i, x in enumerate(leaves) if shares.is_array(x)]
        is_whole = [shares.where(path) in whole for path in paths]
        specs = shares.specs_of(leaves, paths, is_whole, traced, axis_name, workers)

        def worker(*own: Any) -> tuple:
            index = axes.axis_index(axis_name)
            mine = list(leaves)
            for i, x in zip(traced, own, strict=True):
                is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key) and x.ndim == 0
                is_own = is_key and not is_whole[i]
                mine[i] = jax.random.fold_in(x, index) if is_own else x
            own_arguments, own_keywords = jax.tree.unflatten(treedef, mine)
            run = differentiate(_without_side_effects(loss))
            with _told_of_types(axis_name):
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


@contextlib.contextmanager
def _told_of_types(axis_name: AxisName) -> Iterator[None]:
    """Says what JAX's types of what varies want, where a loss meets them unawares.

    Raises:
        ValueError: in place of JAX's errors.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        text = str(error)
        if "carry" in text and "{V:" in text:
            raise _checks.refuse(
                "the loss",
                "must begin a loop with what differs between workers, as what it ends "
                "with does",
                _checks.Text("a carry that is a constant"),
                f"start it from jax.lax.pcast(zeros, {axis_name!r}, to='varying'), or "
                "from 0 * x of the batch",
            ) from error
        if "manual_axis_type" in text:
            raise _checks.refuse(
                "the loss",
                "must constrain shardings by a bare PartitionSpec, of axes that are "
                "left to jit",
                _checks.Text("a NamedSharding, or one that names the workers' axis"),
                "call jax.set_mesh, and jax.lax.with_sharding_constraint(x, "
                "PartitionSpec(None, 'model'))",
            ) from error
        raise


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
        name = shares.name_of(changed[0]) if changed else "an argument of the loss"
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
