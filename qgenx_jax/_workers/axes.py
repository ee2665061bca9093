"""What a worker knows of its axis, in shard_map, pmap and vmap, or without any.

A step runs once per worker under an axis name. Parameters and state are the same on
all workers, except what lies under a field named `per_worker`: there each leaf has a
leading worker axis, of length 1 inside the mapped function and K outside.

In shard_map JAX tracks which values vary over the axis. `jax.grad` with respect to
parameters that do *not* vary sums the gradients of all workers, in full precision,
before anyone can quantize them. `local_params` prevents it, and an exchange refuses
what does not vary.

The name None stands for one worker alone: K = 1, nothing is tracked, nothing is sent.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName, Params

PER_WORKER = "per_worker"


class UnboundAxis(ValueError):
    """What is to run on every worker runs on none.

    Args:
        axis_name: the name that is not bound, or a tuple with such a name.

    Attributes:
        names: the axes of it.
    """

    def __init__(self, axis_name: AxisName):
        refusal = _checks.refuse(
            "axis_name",
            "must be the name of an axis that is bound where the exchange runs",
            axis_name,
            "call it inside jax.shard_map, jax.pmap or jax.vmap with that axis_name, "
            "for instance through qgenx_jax.map_workers",
        )
        super().__init__(*refusal.args)
        self.names = set(axis_name if isinstance(axis_name, tuple) else (axis_name,))


def axis_size(axis_name: AxisName) -> int:
    """K, the number of workers; 1 for None.

    Raises:
        UnboundAxis: a ValueError, if no axis of that name is bound.
    """
    if axis_name is None:
        return 1
    try:
        return lax.axis_size(axis_name)
    except NameError as error:
        raise UnboundAxis(axis_name) from error


def varying(x: Any) -> frozenset:
    """The axes that JAX knows a value to vary over; empty where it does not track."""
    return frozenset(jax.typeof(x).mat.varying)


def vary_over(x: Any, names: frozenset) -> Any:
    """The same value, that is known to vary over some axes, too."""
    missing = in_order(names - varying(x))
    return lax.pcast(x, missing, to="varying") if missing else x


def in_order(names: Iterable) -> tuple:
    """Axes as a name of them all, whatever order a set has; () for none."""
    return tuple(sorted(names, key=str))


def vary_like(tree: Any, like: Any) -> Any:
    """The same values, by their types varying over all axes that another tree's do."""
    return jax.tree.map(lambda x, y: vary_over(x, varying(y)), tree, like)


def axis_index(axis_name: AxisName) -> Array:
    """k, this worker's index, int32; 0 for None."""
    return jnp.int32(0) if axis_name is None else lax.axis_index(axis_name)


def axis_sizes(axis_name: AxisName) -> tuple[int, ...]:
    """The sizes of all axes of a name."""
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    return tuple(axis_size(name) for name in names)


def tracked(axis_name: AxisName) -> frozenset:
    """The worker axes, where JAX tracks variation over them (shard_map, check_vma)."""
    return frozenset() if axis_name is None else varying(lax.axis_index(axis_name))


def by_hand() -> frozenset:
    """The axes of the mesh that a shard_map maps over here; others are left to jit."""
    return frozenset(jax.sharding.get_abstract_mesh().manual_axes)


def local_params(tree: Params, axis_name: AxisName) -> Params:
    """The same parameters as each worker's own, so that gradients stay each worker's.

    In shard_map with check_vma (the default), `jax.grad` with respect to replicated
    parameters inserts a float32 sum over workers: the exchange that follows would save
    nothing and its mean would be K times too large. Differentiate with respect to
    `local_params(params, axis_name)` instead. Elsewhere this is the identity, as it is
    for leaves that vary already.

    What is differentiated is to be the worker's own loss: a `lax.pmean` in it is scaled
    differently by shard_map and by vmap.

    Args:
        tree: parameters (any pytree).
        axis_name: the axis over workers, or a tuple of axes; None for one worker.

    Raises:
        ValueError: if the axis is not bound.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> def gradient(params, batch):
        ...     loss = lambda p: ((p - batch) ** 2).mean()
        ...     return jax.grad(loss)(qgenx.local_params(params, "data"))
    """
    if axis_name is None:
        return tree
    _checks.axis_name(axis_name)
    axis_size(axis_name)
    over = tracked(axis_name)
    return jax.tree.map(lambda x: vary_over(x, over), tree)


def refuse_replicated(argument: str, tree: Any, axis_name: AxisName) -> None:
    """Checks that every leaf varies over the worker axis, where JAX tracks that.

    Raises:
        ValueError: for the first leaf that does not, with its path.
    """
    over = tracked(axis_name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not over <= varying(leaf):
            raise _checks.refuse(
                _checks.leaf_name(path, argument),
                f"must vary over the worker axis {axis_name!r}; this one is constant, "
                "was averaged by an exchange before, or was summed over the workers by "
                "jax.grad, in full precision",
                _checks.Text(jax.typeof(leaf)),
                f"differentiate by qgenx_jax.value_and_grad(loss, {axis_name!r}), or "
                f"with respect to qgenx_jax.local_params(params, {axis_name!r}), and "
                "exchange once; what averages gradients itself (flax's DynamicScale) "
                "is given no axis_name; for microbatches use qgenx_jax.accumulate "
                "around the exchange, not optax.MultiSteps",
            )


def refuse_shards(params: Params, axis_name: AxisName) -> None:
    """Checks that no parameter varies over the workers, where JAX tracks that.

    Gradients with respect to shards are those of different coordinates: their mean over
    workers is none of anything.

    Raises:
        ValueError: for the first one that does, with its path.
    """
    over = tracked(axis_name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if over & varying(leaf):
            raise _checks.refuse(
                _checks.leaf_name(path, "params"),
                f"must be equal on all workers, but varies over {axis_name!r}",
                _checks.Text(jax.typeof(leaf)),
                "hand over the parameters that local_params was given, not its result, "
                "with in_specs of jax.sharding.PartitionSpec(); shards over the "
                "workers (FSDP) are not to be averaged with one another: the gradient "
                "through lax.all_gather is the sum over workers already, so divide it "
                "by their number, without an exchange",
            )


def differing(tree: Any, axis_name: AxisName) -> list[tuple[Any, ...]]:
    """The paths of leaves that vary over the workers, as far as JAX tracks that.

    Those below `per_worker` are to, and are left out.
    """
    over = tracked(axis_name)
    return [
        path
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if over & varying(leaf) and not is_per_worker(path)
    ]


def stream_key(key: Array, like: Array, axis_name: AxisName) -> Array:
    """This worker's key: no two workers share a stream of rounding bits.

    Nor do two shards of a model, see `shard_key`.
    """
    return shard_key(jax.random.fold_in(key, axis_index(axis_name)), like, axis_name)


def shard_key(key: Array, like: Array, axis_name: AxisName) -> Array:
    """A key for each shard of a model, alike on the workers where this one is.

    Where JAX tracks that `like` varies over further axes of the mesh, no two of their
    indices share a stream of rounding bits; over other axes results stay replicated.
    """
    for other in in_order(varying(like) - tracked(axis_name)):
        key = jax.random.fold_in(key, lax.axis_index(other))
    return key


def refuse_reserved_name(params: Any) -> None:
    """Checks that no parameter is named as the states' fields that differ.

    Raises:
        ValueError: for the first parameter below the name "per_worker".
    """
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        if is_per_worker(path):
            raise _checks.refuse(
                _checks.leaf_name(path, "params"),
                f"must not lie below the name {PER_WORKER!r}, by which states mark "
                "what differs between workers",
                jax.tree_util.keystr(path),
                "rename the parameter",
            )


def is_per_worker(path: tuple[Any, ...]) -> bool:
    """Whether a leaf at this path of a state differs between workers."""
    names = (getattr(key, "name", getattr(key, "key", None)) for key in path)
    return PER_WORKER in names
