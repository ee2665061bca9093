"""Problems of many seeds, side by side along a leading axis."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

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


class Boxed(NamedTuple):
    """A skew affine VI over the box of all x with ||x||_inf <= bound.

    Attributes:
        free: the same without the box.
        bound: of all coordinates.
    """

    free: AffineProblem
    bound: jax.Array

    @property
    def start(self) -> jax.Array:
        """X_1 = 0."""
        return self.free.start

    def projection(self, x: jax.Array) -> jax.Array:
        """The nearest point of the box."""
        return jnp.clip(x, -self.bound, self.bound)

    def operator(self, x: jax.Array) -> jax.Array:
        """A(x)."""
        return self.free.operator(x)

    def oracle(self, noise: str) -> Callable[..., jax.Array]:
        """See `AffineProblem.oracle`."""
        return self.free.oracle(noise)

    def gap(self, x: jax.Array) -> jax.Array:
        """max over y of <A(y), x - y> = <b, x> + bound ||B^T x - b||_1, for skew B."""
        apart = self.free.matrix.T @ x - self.free.offset
        return self.free.offset @ x + self.bound * jnp.abs(apart).sum()


class Mixed(NamedTuple):
    """A matrix game over two simplices, of the vector (row, column).

    Attributes:
        free: A(r, c) = (-P c, P^T r) without the simplices.
    """

    free: AffineProblem

    @property
    def start(self) -> jax.Array:
        """X_1, uniform strategies."""
        return jnp.full_like(self.free.offset, 2 / self.free.offset.size)

    def projection(self, x: jax.Array) -> jax.Array:
        """The nearest strategies."""
        halves = jnp.split(x, 2)
        return jnp.concatenate([*map(optax.projections.projection_simplex, halves)])

    def operator(self, x: jax.Array) -> jax.Array:
        """A(x)."""
        return self.free.operator(x)

    def oracle(self, noise: str) -> Callable[..., jax.Array]:
        """See `AffineProblem.oracle`."""
        return self.free.oracle(noise)

    def gap(self, x: jax.Array) -> jax.Array:
        """The exploitability, -min A_row - min A_column, which is the gap."""
        row, column = jnp.split(self.free.operator(x), 2)
        return -row.min() - column.min()


def _boxed(seed: int, dimension: int) -> Boxed:
    """The bilinear game in a box that some coordinates of its solution are outside."""
    game = qgenx.problems.bilinear(dimension, seed=seed)
    return Boxed(game, jnp.asarray(0.75 / dimension**0.5))


def _mixed(seed: int, dimension: int) -> Mixed:
    """A random matrix game of the library, its payoffs as a matrix of both players."""
    half = dimension // 2
    payoff = np.asarray(qgenx.problems.random_matrix_game(half, half, seed=seed).payoff)
    none = np.zeros((half, half))
    matrix = jnp.asarray(np.block([[none, -payoff], [payoff.T, none]]))
    return Mixed(AffineProblem(matrix, *jnp.zeros((2, dimension))))


MAKES: dict[str, Callable[[int, int], Any]] = {
    "bilinear": lambda seed, d: qgenx.problems.bilinear(d, seed=seed),
    "bilinear of two scales": _unlike,
    "quadratic": lambda seed, d: qgenx.problems.quadratic_game(d, seed=seed),
    "ill-conditioned": lambda seed, d: qgenx.problems.cocoercive(
        d, condition=1e6, skew=0.5, seed=seed
    ),
    "box": _boxed,
    "simplices": _mixed,
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
