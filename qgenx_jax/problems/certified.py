"""The restricted gap of an affine monotone operator over a bounded set, with bounds."""

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax._types import Array
from qgenx_jax.problems.sets import Product

_STEPS = 20_000


def gap_bounds(
    matrix: np.ndarray, offset: np.ndarray, bounded: Product, x: Array
) -> tuple[Array, Array]:
    """Numbers below and above Gap(x) = max { phi(y) : y in C }, C bounded.

        phi(y) = <B y + b, x - y>,  grad phi(y) = B^T x - b - 2 S y,  S = (B + B^T) / 2

    phi is concave. Its maximum is approached by accelerated projected gradients with
    restarts. At each y of C

        phi(y) <= Gap(x) <= phi(y) + max { <grad phi(y), z - y> : z in C },

    whose right side is a corner of C away: it proves the value, however y was found.
    For skew B the sides meet at the first corner.

    Args:
        matrix: B, shape (d, d), monotone.
        offset: b, shape (d,).
        bounded: C.
        x: shape (d,).

    Returns:
        (lower, upper), up to rounding; within 1e-9 of each other in float64, 1e-5 in
        float32, relative to Gap(x), unless 20,000 steps or rounding end it.

    References:
        Jaggi, Revisiting Frank-Wolfe, ICML 2013, section 2 (the bound).
        O'Donoghue and Candes, Adaptive Restart for Accelerated Gradient Schemes,
        Foundations of Computational Mathematics 2015 (the restarts).
    """
    symmetric = (matrix + matrix.T) / 2
    # a larger one than the curvature is only slower: 0 of a skew B is not divided by
    least = 1e-6 * float(np.linalg.norm(matrix, 2)) + 1e-30
    curvature = max(2 * float(np.linalg.eigvalsh(symmetric)[-1]), least)
    b, s = (jnp.asarray(a, x.dtype) for a in (matrix, 2 * symmetric))
    constant = jnp.asarray(offset, x.dtype)
    rounding = jnp.finfo(x.dtype).eps
    tolerance = 1e-9 if rounding < 1e-12 else 1e-5
    linear = b.T @ x - constant

    def bounds(y: Array) -> tuple[Array, Array, Array]:
        slope = linear - s @ y
        value = (b @ y + constant) @ (x - y)
        corner = bounded.farthest(slope)
        return value, value + slope @ (corner - y), corner

    def unfinished(state: tuple[Array, ...]) -> Array:
        step, lower, upper = state[0], state[1], state[2]
        enough = tolerance * jnp.abs(upper) + 4 * rounding * size
        return (step < _STEPS) & (upper - lower > enough)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        step, lower, upper, y, ahead, momentum = state
        slope = linear - s @ ahead
        moved = bounded.project(ahead + slope / curvature)
        back = slope @ (moved - y) < 0
        momentum = jnp.where(back, 1.0, momentum).astype(x.dtype)
        following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        factor = jnp.where(back, 0.0, (momentum - 1) / following)
        value, above, _ = bounds(moved)
        lower, upper = jnp.maximum(lower, value), jnp.minimum(upper, above)
        return step + 1, lower, upper, moved, moved + factor * (moved - y), following

    first = bounds(bounded.project(x))
    second = bounds(first[2])
    # what the sums consist of: below its rounding the bounds cannot meet
    size = jnp.abs(linear) @ (jnp.abs(x) + jnp.abs(first[2])) + jnp.abs(constant @ x)
    lower = jnp.maximum(jnp.maximum(first[0], second[0]), 0)  # x in C: phi(x) = 0
    upper = jnp.minimum(first[1], second[1])
    y = jnp.where(second[0] > first[0], first[2], bounded.project(x))
    start = jnp.zeros((), int), lower, upper, y, y, jnp.ones((), x.dtype)
    _, lower, upper, *_ = jax.lax.while_loop(unfinished, advance, start)
    return lower, jnp.maximum(lower, upper)
