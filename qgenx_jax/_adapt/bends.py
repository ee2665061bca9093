"""The bend of a dither's curve, fitted to the law of normalised magnitudes.

It minimises int g(s(u)) dF(u), g the variance of a coordinate of that place. One number
on an interval: the best of a grid, then of a finer one around it. The minimum is flat:
a bend that is off by half of itself costs a few per cent.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._adapt.statistics import BINS, Statistics, bin_of, edges
from qgenx_jax._adapt.tables import Kind
from qgenx_jax._codec import bend as bends
from qgenx_jax._codec.bend import Curve
from qgenx_jax._codec.levels import truncate
from qgenx_jax._types import Array

KIND = Kind(signed=False, ends=True)
"""Of the histogram: magnitudes, none of which is a level."""
LEAST = 2.0**-6
"""Below it the next bend is 0: the two differ by a ten-thousandth of the variance."""
COARSE, FINE = 40, 9
"""How many bends the first grid has, and the second one."""
BLOCK = 2**16
"""Coordinates that are summed up at a time."""
RATIO = (bends.MOST / LEAST) ** (1 / (COARSE - 2))
"""Of neighbours in the first grid, 1.18."""


def cost(bits: int, bend: Any, middle: Any, mass: Any) -> Any:
    """int g(s(u)) dF(u) of several bends, (n,): masses at the middles of bins."""
    curve = Curve(bits, bend[:, None])
    s = curve.half * curve.root(middle[None], 1)
    return (mass[None] * curve.variance(s)).sum(axis=1)


def grid() -> np.ndarray:
    """Bends to begin with: 0, and others of equal ratios up to the largest."""
    return np.concatenate([[0.0], LEAST * RATIO ** np.arange(COARSE - 1)])


def around(bend: Any) -> Any:
    """Bends between the two neighbours of one of the grid."""
    return bend * RATIO ** np.linspace(-1, 1, FINE)


def refitted(bits: int, total: Statistics, levels: Array) -> tuple[Array, Array]:
    """The best bend found, or the one in use; and the relative error expected of it.

    Args:
        bits: of the quantizer.
        total: all workers' histogram of magnitudes, with both ends.
        levels: in use, (1,), as a state holds it.

    Returns:
        The bend, as given, and sum_k E||Q(V_k) - V_k||^2 / sum_k ||V_k||^2, (), which
        is no number where there is nothing to learn from.
    """
    law: Any = total.law(KIND)
    middle = (law.edges[1:] + law.edges[:-1]) / 2
    mass = law.densities * jnp.diff(law.edges)
    coarse = jnp.asarray(grid(), mass.dtype)
    best = coarse[jnp.argmin(cost(bits, coarse, middle, mass))]
    fine = jnp.minimum(jnp.asarray(around(best), mass.dtype), bends.MOST)
    fine = truncate(fine.astype(jnp.float32)).astype(mass.dtype)
    tried = jnp.concatenate([levels.astype(mass.dtype), fine])
    costs = cost(bits, tried, middle, mass)
    # the first one of equals: the one in use stays where nothing is better
    index = jnp.argmin(costs)
    index = jnp.where((total.energy > 0) & jnp.isfinite(costs).all(), index, 0)
    expected = total.total() * costs[index] / total.energy
    return tried[index].astype(levels.dtype)[None], expected


def fit_bend(vectors: Any, bits: int, *, bucket_size: int | None) -> float:
    """The bend by which `dithered` rounds vectors like these with the least variance.

    On the host, from a histogram of |v_i| / ||v||_inf over all buckets v, each weighted
    by its coordinates times ||v||_inf^2.

    Args:
        vectors: an array or a tree of them; each leaf is one vector, flattened.
        bits: per coordinate, 1 to 8.
        bucket_size: as the quantizer's; None for one bucket.

    Returns:
        The bend, 0 to 8; 1 where nothing can be learned: all vectors zero, or not
        finite in any bucket.

    Raises:
        ValueError: for values outside these ranges, and leaves that are not real
            floating point.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> vector = jax.random.normal(jax.random.key(0), (4096,))
        >>> bend = qgenx.fit_bend(vector, bits=3, bucket_size=1024)
        >>> round(bend, 1)  # that of normal coordinates
        0.8
        >>> quantizer = qgenx.dithered(bits=3, bend=bend)
    """
    bits = _checks.whole_number("bits", bits, 1, 8)
    return bend_of(masses(vectors, bucket_size), bits)


def bend_of(summed: np.ndarray, bits: int) -> float:
    """`fit_bend` of what `masses` has summed up, which is the same for all bits."""
    total = summed.sum()
    if not total > 0:
        return 1.0
    bins = edges(KIND)
    known = (bins[1:] + bins[:-1]) / 2, summed / total
    best = grid()[cost(bits, grid(), *known).argmin()]
    fine = np.minimum(around(best), bends.MOST)
    return bends.check(fine[cost(bits, fine, *known).argmin()])


def masses(vectors: Any, bucket_size: int | None) -> np.ndarray:
    """The sums of squared norms over the magnitudes in each bin: (BINS,), on the host.

    Args:
        vectors: an array or a tree of them, as in `fit_bend`.
        bucket_size: as the quantizer's.
    """
    _checks.floating_leaves("vectors", vectors)
    if bucket_size is not None:
        bucket_size = _checks.whole_number("bucket_size", bucket_size, 1, None)
    leaves = [np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(vectors)]
    # over the power of two that none is above, so that no square overflows
    largest = [np.abs(x[np.isfinite(x)]).max(initial=0) for x in leaves]
    _, exponent = np.frexp(np.float64(max(largest, default=0)))
    found = np.zeros(BINS)
    for flat in leaves:
        length = min(bucket_size or max(flat.size, 1), max(flat.size, 1))
        # whole buckets, some thousands of coordinates, which stay in caches
        step = max(1, BLOCK // length) * length
        full = flat.size // length * length
        cuts = [(i, min(i + step, full), length) for i in range(0, full, step)]
        for start, end, width in (*cuts, (full, flat.size, flat.size - full)):
            rows = flat[start:end].reshape(-1 if width else 0, width)
            found += _masses(np.ldexp(rows.astype(np.float64), -exponent))
    return found


def _masses(rows: np.ndarray) -> np.ndarray:
    """Of buckets (rows, n), of which those that are not finite, or 0, do not count."""
    norms = np.abs(rows).max(axis=1, initial=0.0)
    counts = np.isfinite(norms) & (norms > 0)
    u = np.abs(rows[counts]) / norms[counts, None]
    weights = np.broadcast_to(norms[counts, None] ** 2, u.shape)
    index = bin_of(u, KIND, np)
    return np.bincount(index.ravel(), weights.ravel(), minlength=BINS)
