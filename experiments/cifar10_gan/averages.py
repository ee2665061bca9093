"""Averages of G's weights over a run: uniform, and exponentially moving."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any


class Averages(NamedTuple):
    """Averages of the weights w_0, w_1, ..., w_n after n iterations.

    Attributes:
        count: n + 1, int32.
        uniform: (w_0 + ... + w_n) / (n + 1).
        rest: what rounding has left out of `uniform` so far.
        moving: e_n = decay e_{n-1} + (1 - decay) w_n, with e_0 = w_0.
    """

    count: jax.Array
    uniform: Params
    rest: Params
    moving: Params


def start(weights: Params) -> Averages:
    """The averages before the first iteration: the initial weights, copied."""
    copy = lambda: jax.tree.map(jnp.copy, weights)  # noqa: E731
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return Averages(jnp.ones((), jnp.int32), copy(), zeros, copy())


def update(averages: Averages, weights: Params, decay: float) -> Averages:
    """The averages with one more iteration's weights.

    The increments of the uniform average are 1/n of what it holds, and drown in
    float32's rounding from n = 10^4 on; so what an addition leaves out is kept and
    added to the next increment (Kahan's summation).
    """
    count = averages.count + 1
    steps = jax.tree.map(
        lambda mean, rest, w: (w - mean - rest) / count + rest,
        averages.uniform,
        averages.rest,
        weights,
    )
    uniform = jax.tree.map(jnp.add, averages.uniform, steps)
    rest = jax.tree.map(
        lambda step, new, old: step - (new - old), steps, uniform, averages.uniform
    )
    moving = optax.incremental_update(weights, averages.moving, 1 - decay)
    return Averages(count, uniform, rest, moving)
