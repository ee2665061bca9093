"""Small variational inequalities with known solutions, noisy oracles and exact gaps.

All are affine, A(x) = B x + b with B + B^T positive semi-definite, so that A is
monotone and the restricted gap has a closed form. The rates are checked on them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array

_BISECTIONS = 200  # halves the bracket of the multiplier to below float64's resolution


class AffineProblem(NamedTuple):
    """Find x* with <A(x*), x - x*> >= 0 for all x, for A(x) = B x + b.

    Attributes:
        matrix: B, shape (d, d); B + B^T is positive semi-definite.
        offset: b, shape (d,).
        solution: x*, shape (d,), with A(x*) = 0.
    """

    matrix: Array
    offset: Array
    solution: Array

    def operator(self, x: Array) -> Array:
        """A(x) = B x + b, shape (d,)."""
        return self.matrix @ self._point(x) + self.offset

    def _point(self, x: Array) -> Array:
        """x, which has the shape (d,): another one would be broadcast."""
        if getattr(x, "shape", None) != self.offset.shape:
            rule = f"must be an array of shape {self.offset.shape}"
            found = getattr(x, "shape", _checks.Text(type(x).__name__))
            raise _checks.refuse("x", rule, found, "use jax.vmap over points")
        return x

    def oracle(self, noise: str = "none", size: float = 1.0) -> Callable[..., Array]:
        """A stochastic dual vector g(x; key) with E g = A(x).

        Args:
            noise: "none"; "absolute": normal, E ||g - A(x)||^2 = size^2;
                "multiplicative": a normal factor per coordinate,
                E ||g - A(x)||^2 = size ||A(x)||^2; "coordinates": one coordinate drawn
                uniformly, times d, E ||g - A(x)||^2 = (d - 1) ||A(x)||^2 for any size.
            size: sigma for "absolute", c for "multiplicative".

        Returns:
            `oracle(x, key) -> g`, shape (d,).

        Raises:
            ValueError: for another noise, or a negative size.

        Example:
            >>> import jax, qgenx_jax as qgenx
            >>> problem = qgenx.problems.bilinear(4)
            >>> oracle = problem.oracle("multiplicative")
            >>> g = oracle(problem.solution, jax.random.key(0))
            >>> bool(abs(g).max() < 1e-6)  # relative noise vanishes at the solution
            True
        """
        noises = ("none", "absolute", "multiplicative", "coordinates")
        _checks.one_of("noise", noise, noises)
        _checks.at_least_zero("size", size, "1.0 is the default")

        def sample(x: Array, key: Array) -> Array:
            a = self.operator(x)
            dimension = a.shape[0]
            if noise == "absolute":
                deviation = size / np.sqrt(dimension)
                return a + deviation * jax.random.normal(key, a.shape, a.dtype)
            if noise == "multiplicative":
                factor = 1 + np.sqrt(size) * jax.random.normal(key, a.shape, a.dtype)
                return a * factor
            if noise == "coordinates":
                chosen = jax.random.randint(key, (), 0, dimension)
                return jnp.where(jnp.arange(dimension) == chosen, dimension * a, 0)
            return a

        return sample

    def gap(self, x: Array, radius: float = 1.0) -> Array:
        """The restricted gap over the ball of this radius around the solution.

            Gap(x) = sup { <A(y), x - y> : ||y - x*|| <= R }
                   = max over ||z|| <= R of z.p - z^T S z

        with p = B^T (x - x*) and S = (B + B^T) / 2, attained at
        z = (2 S + 2 lambda I)^{-1} p, lambda >= 0 such that ||z|| = R, or lambda = 0 if
        that is inside. For skew B it is R ||p||.

        Args:
            x: shape (d,).
            radius: R > 0.

        Returns:
            Scalar, not negative; 0 at the solution.

        Raises:
            ValueError: if the radius is not positive.
        """
        _checks.positive("radius", radius, "1.0 is usual")
        x = self._point(x)
        symmetric = (self.matrix + self.matrix.T) / 2
        eigenvalues, basis = jnp.linalg.eigh(symmetric)
        eigenvalues = jnp.maximum(eigenvalues, 0)  # rounding only: B + B^T is psd
        p = basis.T @ (self.matrix.T @ (x - self.solution))
        tiny = jnp.finfo(p.dtype).tiny

        def point(multiplier: Array) -> Array:
            return p / jnp.maximum(2 * (eigenvalues + multiplier), tiny)

        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = (low + high) / 2
            outside = jnp.linalg.norm(point(middle)) > radius
            return jnp.where(outside, middle, low), jnp.where(outside, high, middle)

        bracket = jnp.zeros_like(p[0]), jnp.linalg.norm(p) / (2 * radius)
        _, multiplier = jax.lax.fori_loop(0, _BISECTIONS, halve, bracket)
        z = point(multiplier)
        return z @ p - z @ (eigenvalues * z)


def bilinear(
    dimension: int = 20, *, seed: int = 0, distance: float = 1.0
) -> AffineProblem:
    """The bilinear game min_u max_w (u - u*)^T M (w - w*), skew and not cocoercive.

    Args:
        dimension: d, even: u and w have d/2 each.
        seed: of M, scaled to spectral norm 1, and of the solution.
        distance: ||x*||, the distance from the start x = 0.

    Returns:
        The problem, with Lipschitz constant 1.

    Raises:
        ValueError: for an odd or too small dimension, or a negative distance.

    Example:
        >>> import qgenx_jax as qgenx
        >>> problem = qgenx.problems.bilinear(6)
        >>> bool(problem.gap(problem.solution + 0.1) > problem.gap(problem.solution))
        True
    """
    _checks.whole_number("dimension", dimension, 2, None)
    if dimension % 2:
        raise _checks.refuse("dimension", "must be even", dimension, "players share it")
    rng = _generator(seed)
    half = dimension // 2
    m = rng.normal(size=(half, half))
    m /= np.linalg.norm(m, 2)
    zeros = np.zeros((half, half))
    return _problem(np.block([[zeros, m], [-m.T, zeros]]), rng, distance)


def quadratic_game(
    dimension: int = 20,
    *,
    strong: float = 0.1,
    seed: int = 0,
    distance: float = 1.0,
) -> AffineProblem:
    """A strongly monotone quadratic game: a symmetric part and a skew one.

    Args:
        dimension: d.
        strong: mu in (0, 1]: <A(x) - A(y), x - y> >= mu ||x - y||^2; the symmetric
            part's eigenvalues are geometric from mu to 1, the skew part has norm
            1 - mu.
        seed: of the bases and of the solution.
        distance: ||x*||, the distance from the start x = 0.

    Returns:
        The problem.

    Raises:
        ValueError: for a dimension below 1, mu outside (0, 1], a negative distance.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> problem = qgenx.problems.quadratic_game(5, strong=0.5)
        >>> bool(jnp.linalg.norm(problem.operator(problem.solution)) < 1e-6)
        True
    """
    _checks.whole_number("dimension", dimension, 1, None)
    way_out = "0.1 is the default"
    rule = "must be in (0, 1]"
    _checks.real_number("strong", strong, rule, lambda x: 0 < x <= 1, way_out)
    rng = _generator(seed)
    basis = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    eigenvalues = np.geomspace(strong, 1, dimension)
    skew = rng.normal(size=(dimension, dimension))
    skew -= skew.T
    skew *= (1 - strong) / max(np.linalg.norm(skew, 2), 1e-300)
    return _problem((basis * eigenvalues) @ basis.T + skew, rng, distance)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(_checks.whole_number("seed", seed, 0, None))


def _problem(
    matrix: np.ndarray, rng: np.random.Generator, distance: float
) -> AffineProblem:
    _checks.at_least_zero("distance", distance, "1.0 is usual")
    solution = rng.normal(size=len(matrix))
    solution *= distance / np.linalg.norm(solution)
    return AffineProblem(
        jnp.asarray(matrix), jnp.asarray(-matrix @ solution), jnp.asarray(solution)
    )
