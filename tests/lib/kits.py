"""Optimizers twice: by the library, and in optax alone from the means of vectors."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

RATE = 0.1


class Kit(NamedTuple):
    """What places are made of, by the library or by optax alone.

    Attributes:
        mean: the exchange.
        alternating: of a base optimizer, with what stands before it, the alternating
            extra-gradient optimizer.
        q_genx: the same for Q-GenX with a constant step size.
        accumulate: of an optimizer, one that takes a mean of two vectors.
    """

    mean: optax.GradientTransformation
    alternating: Callable[..., optax.GradientTransformation]
    q_genx: Callable[..., optax.GradientTransformation]
    accumulate: Callable[..., optax.GradientTransformation]


def ours_over(axis: Any) -> Kit:
    """The library's kit, with exchanges over an axis."""
    exchange = qgenx.exchange(axis, None)

    def alternating(*before: Any, base: Any = None) -> Any:
        base = optax.sgd(RATE) if base is None else base
        return qgenx.alternating(qgenx.chain(*before, qgenx.extragradient(base)))

    def q_genx(*before: Any) -> Any:
        pair = qgenx.q_genx(exchange, step_size=RATE)
        return qgenx.alternating(qgenx.chain(*before, pair))

    accumulate = functools.partial(qgenx.accumulate, 2)
    return Kit(qgenx.quantized_mean(exchange), alternating, q_genx, accumulate)


OURS = ours_over(AXIS)


def _plain_alternating(*before: Any, base: Any = None) -> Any:
    """x_half = x + m(V(x)), x = x + m(V(x_half)); m of all before, then the base."""
    base = optax.sgd(RATE) if base is None else base
    whole = optax.chain(*before, base)

    def init(params: Any) -> Any:
        return jnp.asarray(0), params, whole.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        half, anchor, inner = state
        moves, inner = whole.update(updates, inner, params, **extra)
        anchor = jax.tree.map(lambda x, a: jnp.where(half == 0, x, a), params, anchor)
        delta = jax.tree.map(lambda a, m, x: a + m - x, anchor, moves, params)
        return delta, (1 - half, anchor, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _plain_q_genx(*before: Any) -> Any:
    """x_half = x - g V(x); y = y - V(x_half), x = x_1 + g y."""
    whole = optax.chain(*before, optax.identity())

    def init(params: Any) -> Any:
        dual = jax.tree.map(jnp.zeros_like, params)
        return jnp.asarray(0), params, dual, whole.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        half, first, dual, inner = state
        v, inner = whole.update(updates, inner, params, **extra)
        dual = jax.tree.map(lambda y, v: jnp.where(half == 0, y, y - v), dual, v)
        delta = jax.tree.map(
            lambda x1, y, v, x: jnp.where(half == 0, -RATE * v, x1 + RATE * y - x),
            first,
            dual,
            v,
            params,
        )
        return delta, (1 - half, first, dual, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _plain_accumulate(inner: Any) -> Any:
    """Every second call, the mean of two vectors; parameters stand still between."""
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.asarray(0), zeros, inner.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        count, total, before = state
        total = jax.tree.map(jnp.add, total, updates)
        mean = jax.tree.map(lambda s: s / 2, total)
        moves, after = inner.update(mean, before, params, **extra)
        due = count == 1

        def chosen(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(due, a, b), new, old)

        zeros = jax.tree.map(jnp.zeros_like, updates)
        state = (1 - count, chosen(zeros, total), chosen(after, before))
        return chosen(moves, zeros), state

    return optax.GradientTransformationExtraArgs(init, update)


PLAIN = Kit(optax.identity(), _plain_alternating, _plain_q_genx, _plain_accumulate)
