"""All iterations, workers and seeds of a method in one compiled program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import qgenx_jax as qgenx
from experiments.vi.games import NOISES
from experiments.vi.methods import AXIS, Method, gamma_of, is_pair


class Curves(NamedTuple):
    """What is kept of a run, at some iterations; the first axis is that of seeds.

    Attributes:
        average: of the points where the last vector was asked for, (seeds, points, d).
        last: X_{t+1}, (seeds, points, d).
        gamma: Q-GenX's step size, (seeds, points); NaN for others.
    """

    average: np.ndarray
    last: np.ndarray
    gamma: np.ndarray


def run(
    method: Method,
    problems: Any,
    seeds: tuple[int, ...],
    noise: str,
    at: np.ndarray,
    *,
    step: float = 1.0,
    workers: int = 4,
    leaves: int = 1,
) -> Curves:
    """Runs a method from their starts on problems stacked along their seeds.

    Args:
        method: what is run.
        problems: from `games.stacked`.
        seeds: of the noise and of the roundings, one for each problem.
        noise: of the oracles, one of `NOISES`.
        at: iterations at which the curves have points, increasing.
        step: of the method.
        workers: K.
        leaves: of equal size, that the vectors are cut into.
    """
    program = _program(method, workers, leaves)
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    ends = jnp.asarray(np.stack([[0, *at[:-1]], at], axis=1), jnp.int32)
    which = jnp.asarray(NOISES.index(noise))
    found = program(problems, keys, which, ends, jnp.asarray(step, jnp.float32))
    return Curves(*map(np.asarray, found))


@functools.cache
def _program(method: Method, workers: int, leaves: int) -> Callable[..., tuple]:
    """Compiled once: noise, step and iterations are its arguments."""
    return jax.jit(
        jax.vmap(
            functools.partial(_one_seed, method, workers, leaves),
            in_axes=(0, 0, None, None, None),
        )
    )


def _one_seed(
    method: Method,
    workers: int,
    leaves: int,
    problem: Any,
    key: jax.Array,
    noise: jax.Array,
    ends: jax.Array,
    step: jax.Array,
) -> tuple:
    of_noise, of_rounding = jax.random.split(key)
    optimizer = method.make(step, of_rounding, projection_of(problem, leaves))
    take = taken(optimizer, oracle_of(problem, noise, leaves))
    iteration = qgenx.map_workers(take, AXIS, workers=workers)
    calls = calls_of(optimizer)
    x = cut(problem.start, leaves)
    state = begun(optimizer, x, workers)

    def body(t: jax.Array, carry: tuple) -> tuple:
        keys = jax.random.split(jax.random.fold_in(of_noise, t), (workers, calls))
        return iteration(*carry, keys)

    def until(carry: tuple, ends: jax.Array) -> tuple[tuple, tuple]:
        x, state = jax.lax.fori_loop(ends[0], ends[1], body, carry)
        average = qgenx.ergodic_average_params(state)
        gamma = jnp.asarray(gamma_of(state), jnp.float64)
        return (x, state), (joined(average), joined(x), gamma)

    return jax.lax.scan(until, (x, state), ends)[1]


def oracle_of(problem: Any, noise: jax.Array, leaves: int) -> Callable[..., Any]:
    """The oracle of one of `NOISES`, chosen as the program runs."""

    def branch(name: str) -> Callable[..., Any]:
        sample = problem.oracle(name)
        # the oracle's own deviation is a float64, where JAX is set to have such
        return lambda x, key: sample(x, key).astype(x.dtype)

    branches = [branch(name) for name in NOISES]

    def oracle(x: Any, key: jax.Array) -> Any:
        return cut(jax.lax.switch(noise, branches, joined(x), key), leaves)

    return oracle


def projection_of(problem: Any, leaves: int) -> Callable[[Any], Any] | None:
    """The problem's projection, of vectors that are cut."""
    project = problem.projection
    return project and (lambda x: cut(project(joined(x)), leaves))


def begun(optimizer: Any, x: Any, workers: int) -> Any:
    """The state of a pair, or of a transformation, with its average beside it."""
    if is_pair(optimizer):
        averaged = qgenx.chain(optimizer, qgenx.ergodic_average())
        return qgenx.init(averaged, x, workers=workers)
    start = qgenx.ErgodicAverageState.start(x)
    return qgenx.init(optimizer, x, workers=workers), start


def taken(optimizer: Any, oracle: Callable[..., Any]) -> Callable[..., tuple]:
    """A worker's `step(x, state, keys) -> (x, state)`, of a whole iteration."""
    if is_pair(optimizer):
        averaged = qgenx.chain(optimizer, qgenx.ergodic_average())
        return qgenx.iterate(averaged, oracle, axis_name=AXIS)

    def step(x: Any, state: tuple, keys: jax.Array) -> tuple[Any, tuple]:
        inner, average = state
        vector = oracle(qgenx.local_params(x, AXIS), keys[0])
        updates, inner = optimizer.update(vector, inner, x)
        return optax.apply_updates(x, updates), (inner, average.add(x))

    return step


def calls_of(optimizer: Any) -> int:
    """Oracle calls of an iteration."""
    return 2 if is_pair(optimizer) and not optimizer.is_oracle_free else 1


def cut(x: jax.Array, leaves: int) -> Any:
    """A vector as a tree of so many leaves of equal size; one is the vector itself."""
    if leaves == 1:
        return x
    parts = jnp.split(x, leaves)
    return {str(place): part for place, part in enumerate(parts)}


def joined(x: Any) -> jax.Array:
    """The vector that was cut."""
    return jnp.concatenate(jax.tree.leaves(x)) if isinstance(x, dict) else x
