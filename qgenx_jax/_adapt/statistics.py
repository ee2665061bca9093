"""What a vector is summed up by: arrays whose plain sums, over workers and over steps,
are those of all their vectors together.

Each bucket counts by its real coordinates times its squared norm, which is by how much
the variance of its coordinates u enters that of the vector. Left out, with weight 0:
padding, and buckets that are 0, not finite, or whose squared norm is beyond their dtype
(norms outside 1e-18 to 1e18 in float32). With "range" for a norm u is the place between
minimum and maximum, whose distance is in place of the norm. What a worker with nothing
but such buckets adds is 0. Sums overflow before that: divide vectors by a power of two
(`exponent`, `scaled`), the same for all that are added up.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._adapt import distributions
from qgenx_jax._adapt.tables import Kind
from qgenx_jax._codec import scales
from qgenx_jax._codec.levels import RANGE
from qgenx_jax._trees import accumulator_dtype
from qgenx_jax._types import Array
from qgenx_jax._workers import axes

BINS = 1024
"""Of a histogram, about 1 % wide each; 2 x 512 of a signed one, 2 % wide."""

FINEST = 2.0**-14
"""Below it bins are of equal width, above it of equal ratio."""


class HistogramStatistics(NamedTuple):
    """Weights of normalised coordinates, or magnitudes, in the bins of `edges`.

    Coordinates that are on a level whatever the table, |u| = 1, and u = 0 of
    magnitudes unless tables are mirrored, cost nothing and are left out; but for those
    of dithers, which have no levels: zeros move, too.
    """

    masses: Array
    """(BINS,): the sum of n_q^2 over the coordinates in each bin."""
    energy: Array
    """(): the sum of ||v||_2^2 over buckets that count."""

    def total(self) -> Array:
        """What the law's mass of 1 stands for."""
        return jnp.sum(self.masses)

    def law(self, kind: Kind) -> distributions.Histogram:
        """The piecewise uniform law of these masses."""
        table = jnp.asarray(edges(kind), self.masses.dtype)
        return distributions.histogram(table, self.masses)


GROUPS_BY_DEVIATION = 20
"""Groups of buckets, by deviations: octaves' halves below 1."""

RATIOS = (-0.5, 0.5)
"""What parts them again, by mean over deviation."""


class NormalStatistics(NamedTuple):
    """Sums over groups of buckets of like deviation and ratio of mean to deviation.

    A training step can afford neither all buckets of all workers nor one normal for
    all: 60 groups, four numbers each, are 240 numbers whatever the vector's length.
    A group stands for a normal of its mean and its variance, that between the means of
    its buckets included.
    """

    weights: Array
    """(groups,): the sum of w = n_q^2 times real coordinates."""
    means: Array
    """(groups,): the sum of w mean(u)."""
    variances: Array
    """(groups,): the sum of w var(u)."""
    squares: Array
    """(groups,): the sum of w mean(u)^2."""
    energy: Array
    """(): the sum of ||v||_2^2 over buckets that count."""

    def total(self) -> Array:
        """What the law's mass of 1 stands for."""
        return jnp.sum(self.weights)

    def law(self, kind: Kind) -> distributions.NormalMixture:
        """The mixture of truncated normals, folded where magnitudes are rounded."""
        total = jnp.where(self.weights > 0, self.weights, 1)
        means = self.means / total
        between = jnp.maximum(self.squares / total - means**2, 0)
        deviations = jnp.sqrt(self.variances / total + between)
        of: dict[str, Any] = {"signed": kind.signed or kind.ranged}
        of["low"] = 0.0 if kind.ranged else -1.0
        return distributions.truncated(means, deviations, self.weights, **of)


Statistics: TypeAlias = HistogramStatistics | NormalStatistics


def edges(kind: Kind) -> np.ndarray:
    """Edges of bins, in [0, 1] or [-1, 1]: sinh(k h) over sinh(K h).

    Over a range sin(k h)^2, fine at both ends: most vectors are there if they are
    skewed, at one end or the other. In the middle a bin is 0.15 % wide.
    """
    if kind.ranged:
        table = np.sin(np.linspace(0, math.pi / 2, BINS + 1)) ** 2
    else:
        steepness = math.asinh(1 / FINEST)
        places = np.linspace(-1 if kind.signed else 0, 1, BINS + 1)
        table = np.sinh(places * steepness) * FINEST
    table[0], table[-1] = -1 if kind.signed else 0, 1
    return table


def histogram_statistics(
    vector: Array, kind: Kind, *, bucket_size: int | None, norm: float | str
) -> HistogramStatistics:
    """The weighted histogram of a vector's normalised coordinates, or magnitudes.

    Args:
        vector: (d,), floating point; sums are in float32, in float64 for such a vector.
        kind: of the tables: whether signs are kept, and whether u = 0 and u = 1 count,
            which they do where they are no levels.
        bucket_size: as the quantizer's; None for one bucket.
        norm: q, as the quantizer's.
    """
    coordinates, norms, real, energy = _normalised(vector, bucket_size, norm)
    u = coordinates if kind.signed else jnp.abs(coordinates)
    one = 1 - 4 * float(jnp.finfo(u.dtype).eps)  # a quotient's rounding below 1
    kept = real & (kind.ends | (jnp.abs(u) < one))
    if not (kind.signed or kind.mirrored or kind.ends):
        kept &= u > 0
    weights = jnp.where(kept, norms**2, 0)
    index = bin_of(u, kind, jnp)
    masses = _summed(weights.ravel(), index.ravel())
    return HistogramStatistics(masses, energy)


def bin_of(u: Any, kind: Kind, xp: Any) -> Any:
    """Which of the bins between `edges` coordinates are in, int32, in NumPy or JAX."""
    if kind.ranged:
        place = xp.arcsin(xp.sqrt(xp.clip(u, 0, 1))) * (2 / math.pi)
    else:
        place = xp.arcsinh(u / FINEST) / math.asinh(1 / FINEST)
        place = (place + 1) / 2 if kind.signed else place
    return xp.clip(xp.floor(place * BINS), 0, BINS - 1).astype(np.int32)


BLOCK = 2**10
"""Terms that are added one by one before they join a compensated sum."""


def _summed(weights: Array, index: Array) -> Array:
    """The sums of weights by index, (BINS,), the sums of blocks by Kahan's method.

    One by one, sums of millions of float32 would stop to grow.
    """
    blocks = -(-weights.size // BLOCK)
    missing = blocks * BLOCK - weights.size
    shape = (blocks, BLOCK)
    rows = jnp.pad(weights, (0, missing)).reshape(shape)
    places = jnp.pad(index, (0, missing)).reshape(shape)

    def add(sums: tuple[Array, Array], row: tuple[Array, Array]) -> tuple:
        total, lost = sums
        part = jnp.zeros_like(total).at[row[1]].add(row[0]) - lost
        new = total + part
        return (new, (new - total) - part), None

    zeros = axes.vary_like(jnp.zeros(BINS, weights.dtype), weights)
    return lax.scan(add, (zeros, zeros), (rows, places))[0][0]


def normal_statistics(
    vector: Array, *, bucket_size: int | None, norm: float | str
) -> NormalStatistics:
    """The grouped means and variances of a vector's buckets; see `NormalStatistics`."""
    u, norms, real, energy = _normalised(vector, bucket_size, norm)
    count = jnp.sum(real, axis=1, dtype=u.dtype)
    share = 1 / jnp.maximum(count, 1)
    mean = jnp.sum(u, axis=1) * share
    off = jnp.where(real, u - mean[:, None], 0)
    variance = jnp.sum(off * off, axis=1) * share
    weight = jnp.where(norms[:, 0] > 0, norms[:, 0] ** 2 * count, 0)
    deviation = jnp.sqrt(variance)
    halves = -2 * jnp.log2(jnp.maximum(deviation, 2.0**-30))
    octave = jnp.clip(jnp.floor(halves), 0, GROUPS_BY_DEVIATION - 1).astype(jnp.int32)
    side = sum((mean > ratio * deviation).astype(jnp.int32) for ratio in RATIOS)
    group = octave * (len(RATIOS) + 1) + side

    def sums(values: Array) -> Array:
        groups = GROUPS_BY_DEVIATION * (len(RATIOS) + 1)
        return jnp.zeros(groups, values.dtype).at[group].add(weight * values)

    return NormalStatistics(
        sums(jnp.ones_like(mean)),
        sums(mean),
        sums(variance),
        sums(mean**2),
        energy,
    )


def summed_up(
    vector: Array, law: str, kind: Kind, *, bucket_size: int | None, norm: float | str
) -> Statistics:
    """The statistics that a law, "histogram" or "normal", is made of for tables."""
    if law == "normal":
        return normal_statistics(vector, bucket_size=bucket_size, norm=norm)
    return histogram_statistics(vector, kind, bucket_size=bucket_size, norm=norm)


def added(one: Statistics, other: Statistics) -> Statistics:
    """Of the vectors of both."""
    return jax.tree.map(jnp.add, one, other)


def exponent(vector: Array) -> Array:
    """floor(log2 max |v|) of the finite coordinates, within what float32 has: ()."""
    magnitude = jnp.abs(vector.astype(accumulator_dtype(vector)))
    largest = jnp.max(jnp.where(jnp.isfinite(magnitude), magnitude, 0), initial=0)
    found = jnp.floor(jnp.log2(jnp.where(largest > 0, largest, 0)))
    return jnp.clip(found, -MOST, MOST).astype(jnp.float32)


MOST = 125
"""Of exponents: both that power of two and its inverse are normal float32."""


def scaled(vector: Array, exponent: Array) -> Array:
    """v / 2^exponent. What is far below the largest coordinate becomes 0."""
    dtype = accumulator_dtype(vector)
    return vector.astype(dtype) * jnp.exp2(-exponent).astype(dtype)


def _normalised(
    vector: Array, bucket_size: int | None, norm: float | str
) -> tuple[Array, Array, Array, Array]:
    """Coordinates u (rows, n), norms (rows, 1), which coordinates count, and energy.

    Of buckets that do not count coordinates and norm are 0.
    """
    vector = vector.ravel().astype(accumulator_dtype(vector))
    size = max(vector.size, 1)
    length = size if bucket_size is None else min(bucket_size, size)
    rows = -(-size // length)
    missing = (0, rows * length - vector.size)
    # what is repeated changes no range
    repeat = norm == RANGE and vector.size > 0
    padded = jnp.pad(vector, missing, "edge" if repeat else "constant")
    buckets = padded.reshape(rows, length)
    last = vector.size - (rows - 1) * length
    is_last = jnp.arange(rows)[:, None] == rows - 1
    real = ~is_last | (jnp.arange(length)[None] < last)
    largest, lift = scales.lift_of(scales.largest_magnitude(buckets))
    if isinstance(norm, str):
        low, high = (end * lift for end in scales.extremes(buckets))
        lifted = high - low
    else:
        low, lifted = 0, scales.norm_of(buckets, lift, largest, norm)
    norms = lifted / lift
    weight = norms**2 * length
    counts = (weight >= np.finfo(vector.dtype).tiny) & (weight < jnp.inf)
    u = jnp.where(counts, (buckets * lift - low) / jnp.where(lifted > 0, lifted, 1), 0)
    norms = jnp.where(counts, norms, 0)
    if isinstance(norm, str):
        # a constant bucket has no error, yet energy
        squares = jnp.sum(jnp.where(real, buckets**2, 0), axis=1)
        energy = jnp.sum(jnp.where(jnp.isfinite(squares), squares, 0))
        u = jnp.where(real, u, 0)
    else:  # n_q^2 times the sum of u^2, which does not overflow
        energy = jnp.sum(norms[:, 0] ** 2 * jnp.sum(u * u, axis=1))
    return u, norms, real & counts, energy
