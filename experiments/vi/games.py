"""Problems of many seeds, side by side along a leading axis."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qgenx_jax as qgenx
from qgenx_jax.problems import AffineProblem

NOISES = ("none", "absolute", "multiplicative", "coordinates")
"""The profiles; of the last three the second is absolute, the others relative."""


def _unlike(seed: int, dimension: int) -> AffineProblem:
    """A bilinear game whose players' coordinates have two scales, 1 and 1 / 8."""
    game = qgenx.problems.bilinear(dimension, seed=seed)
    scale = np.where(np.arange(dimension) // (dimension // 4) % 2, 1 / 8, 1.0)
    matrix = np.asarray(game.matrix) * scale * scale[:, None]
    solution = np.asarray(game.solution)
    return AffineProblem(
        jnp.asarray(matrix), jnp.asarray(-matrix @ solution), jnp.asarray(solution)
    )


MAKES: dict[str, Callable[[int, int], Any]] = {
    "bilinear": lambda seed, d: qgenx.problems.bilinear(d, seed=seed),
    "bilinear of two scales": _unlike,
    "quadratic": lambda seed, d: qgenx.problems.quadratic_game(d, seed=seed),
    "ill-conditioned": lambda seed, d: qgenx.problems.cocoercive(
        d, condition=1e6, skew=0.5, seed=seed
    ),
}
"""By name, of a seed and a dimension."""


@functools.cache
def stacked(name: str, dimension: int, seeds: tuple[int, ...], dtype: str) -> Any:
    """A problem for each seed, its arrays stacked, in this dtype."""
    made = [MAKES[name](seed, dimension) for seed in seeds]
    return jax.tree.map(lambda *x: jnp.stack(x).astype(dtype), *made)


@jax.jit
def gaps(problems: Any, points: jax.Array) -> jax.Array:
    """The restricted gap, radius 1, at points (seeds, points, d)."""
    return jax.vmap(lambda problem, x: jax.vmap(problem.gap)(x))(problems, points)


@jax.jit
def norms(problems: Any, points: jax.Array) -> jax.Array:
    """The norm of the operator at points (seeds, points, d)."""
    of = jax.vmap(lambda problem, x: jax.vmap(problem.operator)(x))
    return jnp.linalg.norm(of(problems, points), axis=-1)
