"""Laws of normalised coordinates: mixtures of truncated normals, and histograms.

Both answer for any intervals at once, each about its own lower end: no difference of
numbers that grew over the whole law, so that float32 does for narrow intervals too.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._types import Array

Moments: TypeAlias = tuple[Array, Array, Array]
"""int dF, int (u - a) dF and int (c - u)(u - a) dF over intervals [a, c]."""


class Law(Protocol):
    """What a solver asks of a law."""

    def moments(self, lower: Array, upper: Array) -> Moments:
        """Of intervals [lower, upper], (n,) each, to three arrays (n,)."""
        ...

    def density(self, x: Array) -> Array:
        """dF/du, (n,)."""
        ...

    def quantile(self, lower: Array, upper: Array, mass: Array) -> Array:
        """The x in [lower, upper] with int_lower^x dF = mass, (n,)."""
        ...


def cdf(law: Law, start: float, x: Array) -> Array:
    """F(x) = int_start^x dF, (n,)."""
    return law.moments(jnp.full_like(x, start), x)[0]


def first_moment(law: Law, start: float, x: Array) -> Array:
    """int_start^x u dF, (n,)."""
    mass, about_start, _ = law.moments(jnp.full_like(x, start), x)
    return about_start + start * mass


def second_moment(law: Law, start: float, x: Array) -> Array:
    """int_start^x u^2 dF, (n,)."""
    mass, about_start, cross = law.moments(jnp.full_like(x, start), x)
    # u^2 = (x + s) (u - s) + s^2 + s (u - s) - (x - u)(u - s) - s (u - s)
    return (x + start) * about_start + start**2 * mass - cross


def inverse(law: Law, start: float, end: float, mass: Array) -> Array:
    """F^-1: the x in [start, end] with int_start^x dF = mass, (n,)."""
    return law.quantile(jnp.full_like(mass, start), jnp.full_like(mass, end), mass)


NODES, SHARES = np.polynomial.legendre.leggauss(6)
STEPS = 48
"""Of Newton's method at most, each inside a bracket; bisections alone would do."""


def root(
    function: Callable[[Array], tuple[Array, Array]], lower: Array, upper: Array
) -> Array:
    """Where increasing functions are 0, by Newton's method, halving where it would not.

    Args:
        function: x (n,) to values and slopes, (n,) each.
        lower: (n,), where values are not positive.
        upper: (n,), where they are not negative.

    Returns:
        x in [lower, upper], (n,); each stays once a step is below its rounding.
    """
    small = 4 * jnp.finfo(lower.dtype).eps
    small = small * jnp.maximum(jnp.abs(lower), jnp.abs(upper))

    def open_(state: tuple[Array, ...]) -> Array:
        *_, last, done = state
        return (done < STEPS) & jnp.any(last > small)

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, low, high, last, done = state
        value, slope = function(x)
        low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
        move = -value / jnp.where(slope > 0, slope, 1)
        trusted = (slope > 0) & (jnp.abs(move) <= last / 2)
        trusted &= (x + move >= low) & (x + move <= high)
        new = jnp.where(trusted, x + move, (low + high) / 2)
        new = jnp.where(last > small, new, x)
        return new, low, high, jnp.abs(new - x), done + 1

    middle = (lower + upper) / 2
    start = middle, lower, upper, upper - lower, jnp.zeros((), jnp.int32)
    return lax.while_loop(open_, step, start)[0]


class NormalMixture(NamedTuple):
    """sum_i masses_i N(means_i, deviations_i^2), to be looked at inside [-1, 1]."""

    means: Array
    """(components,)"""
    deviations: Array
    """(components,), positive."""
    masses: Array
    """(components,): shares, over what a normal has inside [-1, 1]; see `truncated`."""

    def density(self, x: Array) -> Array:
        """dF/du, (n,)."""
        means, deviations, masses = (row[None, :] for row in self)
        place = (x[:, None] - means) / deviations
        return jnp.sum(masses / deviations * _phi(place), axis=1)

    def moments(self, lower: Array, upper: Array) -> Moments:
        """See `Law`: closed forms of wide intervals, quadrature of narrow ones.

        With alpha and beta the ends in a normal's own units, and phi its density,

            int (t - alpha) phi           = phi(alpha) - phi(beta) - alpha mass
            int (beta - t)(t - alpha) phi = beta phi(alpha) - alpha phi(beta)
                                            - (1 + alpha beta) mass

        which cancel where beta - alpha is small; six Gauss-Legendre nodes do there.
        """
        means, deviations, masses = (row[None, :] for row in self)
        width = (upper - lower)[:, None] / deviations
        alpha = (lower[:, None] - means) / deviations
        wide = _closed(alpha, alpha + width)
        narrow = _quadrature(alpha, jnp.minimum(width, 1))
        units = 1, deviations, deviations**2
        mass, first, cross = (
            jnp.sum(masses * unit * jnp.where(width > 1, far, near), axis=1)
            for unit, far, near in zip(units, wide, narrow, strict=True)
        )
        return mass, first, cross

    def quantile(self, lower: Array, upper: Array, mass: Array) -> Array:
        """See `Law`: the root of the excess of mass, whose slope is the density."""

        def excess(x: Array) -> tuple[Array, Array]:
            return self.moments(lower, x)[0] - mass, self.density(x)

        return root(excess, lower, upper)


def truncated(
    means: Array, deviations: Array, weights: Array, *, signed: bool, low: float = -1.0
) -> NormalMixture:
    """The mixture of normals truncated to [low, 1], and folded unless signed.

    Folded, the density at u is p(u) + p(-u): a component more with mean -mu.

    Args:
        means: (components,), in [low, 1].
        deviations: (components,); raised to LEAST_DEVIATION.
        weights: (components,), not negative; all 0 where nothing is known, and then so
            is all mass.
        signed: whether the law is that of u on [low, 1], not of |u| on [0, 1].
        low: -1, or 0 of a signed law over a range.
    """
    deviations = jnp.maximum(deviations, LEAST_DEVIATION)
    inside = _between((low - means) / deviations, (1 - means) / deviations)
    masses = weights / jnp.where(inside > 0, inside, 1)
    total = jnp.sum(weights)
    masses /= jnp.where(total > 0, total, 1)
    if signed:
        return NormalMixture(means, deviations, masses)
    return NormalMixture(
        jnp.concatenate([means, -means]),
        jnp.tile(deviations, 2),
        jnp.tile(masses, 2),
    )


LEAST_DEVIATION = 2.0**-12
"""Of a component: buckets whose coordinates are equal are narrow, not points."""


def _phi(t: Array) -> Array:
    return jnp.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)


def _between(alpha: Array, beta: Array) -> Array:
    """Phi(beta) - Phi(alpha), of the tail that both are in: 1 - 1 loses all digits."""
    turned = alpha + beta > 0
    low = jnp.where(turned, -beta, alpha)
    high = jnp.where(turned, -alpha, beta)
    half = math.sqrt(0.5)
    return (lax.erfc(-high * half) - lax.erfc(-low * half)) / 2


def _closed(alpha: Array, beta: Array) -> Moments:
    mass = _between(alpha, beta)
    at_alpha, at_beta = _phi(alpha), _phi(beta)
    first = at_alpha - at_beta - alpha * mass
    cross = beta * at_alpha - alpha * at_beta - (1 + alpha * beta) * mass
    return mass, jnp.maximum(first, 0), jnp.maximum(cross, 0)


def _quadrature(alpha: Array, width: Array) -> Moments:
    mass = first = cross = jnp.zeros_like(width)
    for node, share in zip((NODES + 1) / 2, SHARES / 2, strict=True):
        part = float(share) * width * _phi(alpha + float(node) * width)
        place = float(node) * width
        mass, first = mass + part, first + part * place
        cross += part * place * (width - place)
    return mass, first, cross


class Histogram(NamedTuple):
    """Piecewise uniform: densities between edges."""

    edges: Array
    """(bins + 1,), increasing."""
    densities: Array
    """(bins,)"""

    def density(self, x: Array) -> Array:
        """See `Law`: of the bin that x is in, the upper one at an edge."""
        place = jnp.sum(x[:, None] >= self.edges[None, 1:-1], axis=1)
        return self.densities[place]

    def moments(self, lower: Array, upper: Array) -> Moments:
        """See `Law`: sums over what intervals and bins share, no term of which cancels.

        A share of width w around m has (c - m)(m - a) w - w^3 / 12 of the last moment.
        """
        a, c = lower[:, None], upper[:, None]
        low = jnp.maximum(a, self.edges[None, :-1])
        high = jnp.minimum(c, self.edges[None, 1:])
        width = jnp.maximum(high - low, 0)
        mass = self.densities[None, :] * width
        from_a, to_c = (low - a) + width / 2, (c - high) + width / 2
        cross = mass * (from_a * to_c - width * width / 12)
        total = jnp.sum(mass, axis=1), jnp.sum(mass * from_a, axis=1)
        return *total, jnp.sum(jnp.where(width > 0, cross, 0), axis=1)

    def quantile(self, lower: Array, upper: Array, mass: Array) -> Array:
        """See `Law`: sums up to each bin, and a line inside the bin that is reached."""
        low = jnp.maximum(lower[:, None], self.edges[None, :-1])
        high = jnp.minimum(upper[:, None], self.edges[None, 1:])
        parts = self.densities[None, :] * jnp.maximum(high - low, 0)
        sums = jnp.cumsum(parts, axis=1)
        bins = self.densities.size
        # the first bin whose sum reaches the mass, which no empty bin does
        place = jnp.sum(sums < mass[:, None], axis=1, keepdims=True)
        place = jnp.minimum(place, bins - 1)

        def at(table: Array) -> Array:
            return jnp.take_along_axis(table, place, axis=1)[:, 0]

        missing = mass - (at(sums) - at(parts))
        density = self.densities[place[:, 0]]
        x = at(low) + missing / jnp.where(density > 0, density, 1)
        return jnp.clip(x, lower, upper)


def histogram(edges: Array, masses: Array) -> Histogram:
    """The law of masses between edges, of total mass 1, or 0 where there is none."""
    total = jnp.sum(masses)
    shares = masses / jnp.where(total > 0, total, 1)
    return Histogram(edges, shares / jnp.diff(edges))


def tabulated(law: Law, edges: Array) -> Histogram:
    """A law's masses between edges."""
    return histogram(edges, law.moments(edges[:-1], edges[1:])[0])
