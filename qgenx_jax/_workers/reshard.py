"""A state of K workers for another number of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding

from qgenx_jax import _checks
from qgenx_jax._types import AxisName, State
from qgenx_jax._workers.axes import is_per_worker
from qgenx_jax._workers.placement import Where, where_workers_run
from qgenx_jax._workers.specs import state_specs


def reshard(
    state: State,
    mesh: Mesh | None = None,
    axis_name: AxisName = None,
    *,
    workers: int | None = None,
    from_workers: int | None = None,
) -> State:
    """A state of K workers, restored or still in use, for K' of them.

    What is equal on all workers stays as it is. What differs, below `per_worker`:

    - `accumulate`: everyone gets the mean of the old sums, (1/K) sum_k s_k, so that the
      next exchange averages what it would have: exact.
    - `q_genx`, dual extrapolation between two iterations: not read again: exact.
    - `q_genx`, optimistic, or between the half-steps of dual extrapolation: the last
      own vectors V_k of the workers count as 0, as at t = 1. The adaptive step size
      adds ||V_{k,t+1/2}||^2 once in place of a distance, and falls by that at most;
      points and moves are exact.

    Its factor K of the adaptive step size is the new one from the next update on.
    `quantized_mean`, and pairs without an adaptive step size, keep nothing of a worker:
    exact. The same number of workers keeps everything.

    Args:
        state: any tree with such states; host arrays, or arrays on any devices that
            this process reads.
        mesh: as in `init`, for the new number of workers.
        axis_name: as in `init`.
        workers: as in `init`.
        from_workers: K, to be checked; None to read it off the state.

    Returns:
        The state as `init` would place it, for `map_workers`.

    Raises:
        ValueError: as `init`; if a per-worker leaf has not K entries, or belongs to no
            state of this library, so that no rule for it is known; or if an array is
            not readable here.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> mean = qgenx.quantized_mean("data", None)
        >>> optimizer = qgenx.accumulate(2, optax.chain(mean, optax.sgd(0.1)))
        >>> state = qgenx.init(optimizer, {"x": jnp.zeros(5)}, workers=4)
        >>> qgenx.reshard(state, workers=3).per_worker["x"].shape
        (3, 5)
    """
    where = where_workers_run(mesh, axis_name, workers)
    if from_workers is not None:
        _checks.whole_number("from_workers", from_workers, 1, None)
    with_path = jax.tree_util.tree_leaves_with_path(state)
    own = [(path, leaf) for path, leaf in with_path if is_per_worker(path)]
    before = _workers_of(own, from_workers)
    for path, leaf in with_path:
        if isinstance(leaf, Tracer | jax.ShapeDtypeStruct):
            raise _checks.refuse(
                _checks.leaf_name(path, "the state"),
                "must be an array with values, outside of jax.jit",
                leaf,
                "restore the state first, for the number of workers that it has",
            )
        if not getattr(leaf, "is_fully_addressable", True) and not getattr(
            leaf, "is_fully_replicated", True
        ):
            raise _checks.refuse(
                _checks.leaf_name(path, "the state"),
                "must be readable in this process",
                _checks.Text("an array with parts on other processes"),
                "restore the state as host arrays, or gather it by "
                "jax.experimental.multihost_utils.process_allgather(tiled=True)",
            )
    state = jax.device_get(state)
    if before not in (None, where.workers):
        state = _spread(state, where.workers)
    return _placed(state, where)


def average(own: np.ndarray, workers: int) -> np.ndarray:
    """Everyone gets the mean of what all had: a rule for sums that are averaged."""
    mean = np.asarray(own, np.float64).mean(axis=0)
    return np.repeat(mean[None].astype(own.dtype), workers, axis=0)


def zeros(own: np.ndarray, workers: int) -> np.ndarray:
    """Everyone starts with 0."""
    return np.zeros((workers, *own.shape[1:]), own.dtype)


def _workers_of(own: list[tuple[Any, Any]], expected: int | None) -> int | None:
    """K, of per-worker leaves with their paths; None where there is none."""
    before = expected
    for path, leaf in own:
        shape = jnp.shape(leaf)
        before = shape[0] if before is None and shape else before
        if not shape or shape[0] != before:
            number = "" if before is None else f" of length {before}"
            raise _checks.refuse(
                _checks.leaf_name(path, "the state"),
                f"must have a leading axis{number}, one entry per worker, as all",
                shape,
                "pass a state as init or map_workers gave it, and its from_workers",
            )
    return before if own else None


def _spread(state: State, workers: int) -> State:
    """Each state's rule applied to what it has below `per_worker`.

    Raises:
        ValueError: for what lies there and has no rule.
    """

    def has_rule(node: Any) -> bool:
        return hasattr(type(node), "reshard_rule")

    def one(path: tuple[Any, ...], node: Any) -> Any:
        if not has_rule(node):
            if not is_per_worker(path):
                return node
            raise _checks.refuse(
                _checks.leaf_name(path, "the state"),
                "must belong to a state of this library, to be spread over another "
                "number of workers",
                jnp.shape(node),
                "take it out of the state, and make it anew for these workers",
            )
        rule = type(node).reshard_rule
        rest = {
            name: _spread(value, workers)
            for name, value in zip(node._fields, node, strict=True)
            if name != "per_worker"
        }
        own = jax.tree.map(lambda x: rule(x, workers), node.per_worker)
        return node._replace(**rest, per_worker=own)

    return jax.tree_util.tree_map_with_path(one, state, is_leaf=has_rule)


def _placed(state: State, where: Where) -> State:
    mesh = where.mesh
    if mesh is None:
        return jax.tree.map(jnp.asarray, state)
    specs = state_specs(state, where.axes)
    return jax.tree.map(
        lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), state, specs
    )
