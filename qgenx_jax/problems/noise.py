"""Stochastic oracles: noise on a dual vector, and operators that differ by worker.

With a = A_k(x), the operator of worker k, d coordinates and n players:

| noise            | g                               | E ||g - a||^2      | profile  |
|------------------|---------------------------------|--------------------|----------|
| "none"           | a                               | 0                  |          |
| "absolute"       | a + (size / sqrt d) z           | size^2             | absolute |
| "multiplicative" | a_i (1 + sqrt(size) z_i)        | size ||a||^2       | relative |
| "coordinates"    | d a_i e_i, one coordinate drawn | (d - 1) ||a||^2    | relative |
| "players"        | n a_p, one player p drawn       | (n - 1) ||a||^2    | relative |

with z standard normal and uniform draws; E g = a for all. The operators of K workers
differ by `spread`: A_k = A + spread * (what the problem says), with mean A.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName, DualVector, Params

NOISES = ("none", "absolute", "multiplicative", "coordinates", "players")


class Oracle(Protocol):
    """A stochastic dual vector at x, drawn by a key, of one of the workers."""

    def __call__(
        self, x: Params, key: Array, worker: int | Array | None = None, /
    ) -> DualVector:
        """g, a pytree as x; a key of its own for each worker."""
        ...


def noisy(
    operator: Callable[[Params], DualVector],
    players: np.ndarray,
    noise: str,
    size: float,
    *,
    workers: int = 1,
    spread: float = 0.0,
    axis_name: AxisName = None,
    apart: Callable[..., DualVector] | None = None,
) -> Oracle:
    """The stochastic oracle of an operator, see this file's table.

    Args:
        operator: A.
        players: of each coordinate of the flat point its player's number, int (d,).
        noise: one of `NOISES`.
        size: sigma for "absolute", c for "multiplicative"; no effect on the others.
        workers: K.
        spread: 0 for K workers with the operator A.
        axis_name: the mapped axis over workers, by which a worker knows its number.
        apart: `apart(x, worker, workers) -> A_k(x) - A(x)` at spread 1, of mean 0 over
            the workers; None for constant vectors, see `constant_parts`.

    Returns:
        `oracle(x, key, worker=None)`; `worker` may be traced.

    Raises:
        ValueError: for another noise, a negative size or spread, a spread with one
            worker; when called, for a worker that is not one of the K, none where they
            differ, an axis of another size, or for "players" where there is one player.
    """
    _checks.one_of("noise", noise, NOISES)
    _checks.at_least_zero("size", size, "1.0 is the default")
    _checks.whole_number("workers", workers, 1, None)
    _checks.at_least_zero("spread", spread, "0.0, the default, is no difference")
    if isinstance(spread, Tracer):
        rule, way_out = "must be known when it is traced", "pass a Python number"
        raise _checks.refuse("spread", rule, spread, way_out)
    count = int(players[-1]) + 1
    if noise == "players" and count < 2:
        rule = "must not be 'players' where there is one player"
        raise _checks.refuse("noise", rule, noise, "choose 'coordinates'")
    if spread and workers < 2:
        rule = "must be 0 for one worker, whose operator is A"
        raise _checks.refuse("spread", rule, spread, "pass workers=K, at least 2")
    parts = constant_parts(workers, len(players)) if spread and not apart else None

    def sample(
        x: Params, key: Array, worker: int | Array | None = None, /
    ) -> DualVector:
        if worker is None:
            worker = _own_number(workers, axis_name, differ=bool(spread))
        if not isinstance(worker, jax.Array):  # a traced one cannot be checked
            _checks.whole_number("worker", worker, 0, workers - 1)
        a, unravel = ravel_pytree(operator(x))
        if spread and apart is not None:
            a = a + spread * ravel_pytree(apart(x, worker, workers))[0]
        elif parts is not None:
            a = a + spread * jnp.asarray(parts, a.dtype)[worker]
        return unravel(_with_noise(a, key, noise, size, players, count))

    return sample


def _own_number(workers: int, axis_name: AxisName, *, differ: bool) -> int | Array:
    """The number of the worker that asks, who has not said it."""
    if axis_name is not None:
        found = jax.lax.axis_size(axis_name)
        if found != workers:
            rule = f"must be as many as the axis {axis_name!r} has, {found}"
            raise _checks.refuse("workers", rule, workers, "pass the K of the run")
        return jax.lax.axis_index(axis_name)
    if differ:
        raise _checks.refuse(
            "worker",
            "must be given where the workers' operators differ",
            None,
            'make the oracle with axis_name="data", or call it with a number',
        )
    return 0


def _with_noise(
    a: Array, key: Array, noise: str, size: float, players: np.ndarray, count: int
) -> Array:
    dimension = a.shape[0]
    if noise == "absolute":
        deviation = jnp.asarray(size / np.sqrt(dimension), a.dtype)
        return a + deviation * jax.random.normal(key, a.shape, a.dtype)
    if noise == "multiplicative":
        factor = 1 + jnp.asarray(np.sqrt(size), a.dtype) * jax.random.normal(
            key, a.shape, a.dtype
        )
        return a * factor
    if noise == "coordinates":
        chosen = jax.random.randint(key, (), 0, dimension)
        return jnp.where(jnp.arange(dimension) == chosen, dimension * a, 0)
    if noise == "players":
        chosen = jax.random.randint(key, (), 0, count)
        return jnp.where(players == chosen, count * a, 0)
    return a


def constant_parts(workers: int, dimension: int) -> np.ndarray:
    """Vectors e_k of mean 0 over K workers with (1/K) sum_k ||e_k||^2 = 1.

    A_k = A + spread e_k is A up to a constant: as monotone, with another solution.

    Args:
        workers: K, at least 2.
        dimension: d.

    Returns:
        float64 (K, d), the same at every call.
    """
    parts = np.random.default_rng(workers).normal(size=(workers, dimension))
    parts -= parts.mean(axis=0)
    return parts / np.sqrt((parts**2).sum() / workers)


def players_of(start: Params) -> np.ndarray:
    """Of each coordinate of the flat point the number of its player.

    Args:
        start: a point; players are the entries of a mapping, the halves of a vector,
            and anything else is one.

    Returns:
        int (d,), not decreasing.
    """
    if getattr(start, "ndim", None) == 1:
        return np.arange(start.size) * 2 // max(start.size, 2)
    leaves = jax.tree_util.tree_leaves_with_path(start)
    names = [path[0] if isinstance(start, Mapping) else None for path, _ in leaves]
    order = list(dict.fromkeys(names))  # as ravel_pytree has them
    sizes = [np.size(leaf) for _, leaf in leaves]
    return np.repeat([order.index(name) for name in names], sizes)
