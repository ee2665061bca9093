"""The adaptive golden ratio algorithm, which finds its step size by itself."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PHI = 1.5
"""Between 1 and the golden ratio; the paper's own choice."""


class GoldenState(NamedTuple):
    """State of `golden_ratio`.

    Attributes:
        average: x-bar_{k-1}.
        point: x_{k-1}.
        vector: F(x_{k-1}).
        step: lambda_{k-1}.
        theta: theta_{k-1}.
    """

    average: Any
    point: Any
    vector: Any
    step: jax.Array
    theta: jax.Array


def golden_ratio(
    first: Any,
    *,
    phi: float = PHI,
    longest: float = 1e6,
    projection: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """One dual vector per iteration, no line search, no Lipschitz constant.

        lambda_k  = min(rho lambda_{k-1},
                        phi theta_{k-1} ||x_k - x_{k-1}||^2
                        / (4 lambda_{k-1} ||F(x_k) - F(x_{k-1})||^2), longest)
        x-bar_k   = ((phi - 1) x_k + x-bar_{k-1}) / phi
        x_{k+1}   = P(x-bar_k - lambda_k F(x_k)),    theta_k = phi lambda_k/lambda_{k-1}

    with rho = 1 / phi + 1 / phi^2, x_0 = x_1 = x-bar_0 and theta_0 = 1. Where the
    point or the vector did not change, the middle term is no bound.

    Args:
        first: lambda_0.
        phi: in (1, (1 + sqrt 5) / 2].
        longest: no step is longer.
        projection: P, onto the set of the constraints; None for none.

    Raises:
        ValueError: for another phi.

    References:
        Malitsky, Golden ratio algorithms for variational inequalities, Mathematical
        Programming, 2020, algorithm 2.
    """
    if not 1 < phi <= (1 + math.sqrt(5)) / 2:
        raise ValueError(
            f"phi must be in (1, (1 + sqrt 5) / 2], got {phi}; 1.5 is the paper's"
        )
    rho = 1 / phi + 1 / phi**2
    project = projection or (lambda x: x)

    def init_fn(params: Any) -> GoldenState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        dtype = jax.tree.leaves(params)[0].dtype
        step = jnp.asarray(first, dtype)
        return GoldenState(params, params, zeros, step, jnp.zeros((), dtype))

    def update_fn(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, GoldenState]:
        del extra
        theta = jnp.where(state.theta == 0, 1, state.theta)  # 0 before the first
        moved = _squares(jax.tree.map(jnp.subtract, params, state.point))
        changed = _squares(jax.tree.map(jnp.subtract, updates, state.vector))
        is_known = (state.theta != 0) & (moved > 0) & (changed > 0)
        # the ratio first: squares of float32 may be below its least number
        ratio = jnp.where(is_known, moved, 1) / jnp.where(is_known, changed, 1)
        bound = jnp.where(is_known, phi * theta / (4 * state.step) * ratio, jnp.inf)
        step = jnp.minimum(jnp.minimum(rho * state.step, bound), longest)
        step = step.astype(state.step.dtype)
        average = jax.tree.map(
            lambda x, old: ((phi - 1) * x + old) / phi, params, state.average
        )
        goal = project(jax.tree.map(lambda a, v: a - step * v, average, updates))
        theta = (phi * step / state.step).astype(step.dtype)
        state = GoldenState(average, params, updates, step, theta)
        return jax.tree.map(jnp.subtract, goal, params), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _squares(tree: Any) -> jax.Array:
    return jnp.asarray(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree)))
