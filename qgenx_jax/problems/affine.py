"""Small variational inequalities with known solutions, noisy oracles and exact gaps.

All are affine, A(x) = B x + b with B + B^T positive semi-definite, so that A is
monotone and the restricted gap has a closed form. The rates are checked on them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName
from qgenx_jax.problems import spectra
from qgenx_jax.problems.noise import Oracle, noisy, players_of

_BISECTIONS = 200  # halves the bracket of the multiplier to below float64's resolution


class AffineProblem(NamedTuple):
    """Find x* with <A(x*), x - x*> >= 0 for all x, for A(x) = B x + b.

    Attributes:
        matrix: B, shape (d, d); B + B^T is positive semi-definite.
        offset: b, shape (d,).
        solution: x*, shape (d,), with A(x*) = 0; one of one's own is taken as it is.
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

    @property
    def start(self) -> Array:
        """X_1 = 0, shape (d,)."""
        return jnp.zeros_like(self.offset)

    @property
    def projection(self) -> None:
        """None: every point is feasible."""

    @property
    def lipschitz(self) -> float:
        """L, the spectral norm of B."""
        return float(np.linalg.norm(np.asarray(self.matrix, float), 2))

    @property
    def strong(self) -> float | None:
        """mu, the smallest eigenvalue of S = (B + B^T) / 2, or 0.0; None below."""
        return spectra.strong(np.asarray(self.matrix))

    @property
    def cocoercive(self) -> float | None:
        """beta, the smallest eigenvalue of (C + C^T) / 2 with C = B^{-1}; or None."""
        return spectra.cocoercive(np.asarray(self.matrix))

    def oracle(
        self,
        noise: str = "none",
        size: float = 1.0,
        *,
        workers: int = 1,
        spread: float = 0.0,
        axis_name: AxisName = None,
    ) -> Oracle:
        """A stochastic dual vector g(x; key) with E g = A(x).

        Args:
            noise: "none"; "absolute": normal, E ||g - A(x)||^2 = size^2;
                "multiplicative": a normal factor per coordinate,
                E ||g - A(x)||^2 = size ||A(x)||^2; "coordinates": one coordinate drawn
                uniformly, times d, E ||g - A(x)||^2 = (d - 1) ||A(x)||^2 for any size;
                "players": one half of the vector, times 2, in `bilinear` u or w,
                E ||g - A(x)||^2 = ||A(x)||^2 for any size.
            size: sigma for "absolute", c for "multiplicative".
            workers: K.
            spread: worker k's own operator is A_k(x) = B x + b + e_k, with constant
                vectors e_k of mean 0 and (1/K) sum_k ||e_k||^2 = spread^2; 0 for none.
                The noise is then relative to A_k, which is not 0 at the solution.
            axis_name: the mapped axis over workers, by which each knows its number k.

        Returns:
            `oracle(x, key, worker=None) -> g`, shape (d,).

        Raises:
            ValueError: for another noise, a negative size or spread, or one worker's.

        Example:
            >>> import jax, qgenx_jax as qgenx
            >>> problem = qgenx.problems.bilinear(4)
            >>> oracle = problem.oracle("multiplicative")
            >>> g = oracle(problem.solution, jax.random.key(0))
            >>> bool(abs(g).max() < 1e-6)  # relative noise vanishes at the solution
            True
        """
        options = {"workers": workers, "spread": spread, "axis_name": axis_name}
        return noisy(self.operator, players_of(self.start), noise, size, **options)

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
            ValueError: if the radius is not positive, or A is not monotone.
        """
        _checks.positive("radius", radius, "1.0 is usual")
        if not isinstance(self.matrix, Tracer):  # nothing to look at if traced
            spectra.refuse_non_monotone(np.asarray(self.matrix))
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


def cocoercive(
    dimension: int = 20,
    *,
    condition: float = 100.0,
    skew: float = 0.0,
    seed: int = 0,
    distance: float = 1.0,
) -> AffineProblem:
    """A cocoercive affine VI whose eigenvalues fall geometrically.

        B = Q D^(1/2) (I + skew J) D^(1/2) Q^T

    with D = diag(1, ..., 1/condition), geometric, J the rotation by 90 degrees of
    coordinates 1 and 2, 3 and 4, ..., and Q orthogonal. With skew = 0 it is the
    gradient of a convex quadratic.

    Args:
        dimension: d.
        condition: largest over smallest eigenvalue of the symmetric part, at least 1.
            The gap of averages then falls as 1/T until T exceeds about the condition.
            float32 resolves the solution up to about 1e4: use float64 beyond.
        skew: how much rotation, at least 0.
        seed: of Q and of the solution.
        distance: ||x*||, the distance from the start x = 0.

    Returns:
        The problem. Its largest cocoercivity constant is 1 / (1 + skew^2), for d = 1
        it is 1; the strong monotonicity constant is 1/condition.

    Raises:
        ValueError: for a dimension below 1, a condition below 1, a negative skew or
            distance.

    Example:
        >>> import qgenx_jax as qgenx
        >>> problem = qgenx.problems.cocoercive(6, condition=10, skew=0.5)
        >>> round(problem.cocoercive, 4), round(problem.strong, 4)
        (0.8, 0.1)
    """
    _checks.whole_number("dimension", dimension, 1, None)
    rule = "must be a finite number of at least 1"
    way_out = "100.0 is the default"
    holds = lambda x: 1 <= x < float("inf")  # noqa: E731
    _checks.real_number("condition", condition, rule, holds, way_out)
    _checks.at_least_zero("skew", skew, "0.0, the default, is a gradient")
    rng = _generator(seed)
    basis = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    # from 1 downwards: where d is odd, the smallest one is left without a partner
    basis = basis * np.sqrt(np.geomspace(1, 1 / condition, dimension))
    first = np.arange(0, dimension - 1, 2)
    turn = np.zeros((dimension, dimension))
    turn[first, first + 1], turn[first + 1, first] = skew, -skew
    return _problem(basis @ (np.eye(dimension) + turn) @ basis.T, rng, distance)


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
