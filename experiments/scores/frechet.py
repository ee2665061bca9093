"""Distances of two sets of features: Frechet's, and the kernel distance.

    d^2 = |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))

is the squared 2-Wasserstein distance of normal laws with the moments of the sets; the
Frechet Inception Distance is this in the features of one network (Heusel et al.,
2017). It is biased upwards by about 1 / n, so numbers are compared at equal n. The
kernel distance (Binkowski et al., 2018) is not biased, but noisier.
"""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """What Frechet's distance needs of a set of features.

    Attributes:
        count: how many features.
        mean: (d,) float64.
        covariance: (d, d) float64, divided by count - 1.
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray

    @functools.cached_property
    def root(self) -> np.ndarray:
        """The symmetric root of the covariance, computed once."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def moments(features: np.ndarray) -> Moments:
    """Mean and covariance of features, in float64.

    Args:
        features: (n, d), n at least 2.

    Raises:
        ValueError: for fewer than 2, or values that are not finite.
    """
    _check(features)
    centred = np.asarray(features, np.float64)
    mean = centred.mean(axis=0)
    centred = centred - mean
    return Moments(len(features), mean, centred.T @ centred / (len(features) - 1))


def distance(first: Moments, second: Moments) -> float:
    """Frechet's distance d^2 of two sets, symmetric, at least 0, 0 for equal moments.

    The trace of the root is the sum of roots of the eigenvalues of S' C S' with S' the
    symmetric root of C': all are real and at least 0 also where a covariance is
    singular, as it is for n at most d.

    Raises:
        ValueError: for features of different sizes.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"first and second must have features of one size, got "
            f"{first.mean.shape} and {second.mean.shape}; take one network for both"
        )
    product = second.root @ first.covariance @ second.root
    crossed = np.linalg.eigvalsh((product + product.T) / 2)
    trace = np.sqrt(np.maximum(crossed, 0)).sum()
    spread = np.trace(first.covariance) + np.trace(second.covariance) - 2 * trace
    gap = float(np.sum((first.mean - second.mean) ** 2))
    return max(gap + float(spread), 0.0)


def kernel_distance(
    first: np.ndarray, second: np.ndarray, *, blocks: int = 10, seed: int = 0
) -> tuple[float, float]:
    """The kernel distance (KID), and its standard error.

    With k(x, y) = (<x, y> / d + 1)^3, of blocks X, Y of m features each,

        KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j)
              - 2 mean_{i, j} k(x_i, y_j),

    an unbiased estimate of a squared distance: of equal laws it is 0 in the mean, and
    sometimes below. Blocks share no feature, so that they are independent, and their
    spread says how far the mean over them may be off. (Subsets that overlap, as KID is
    often computed, understate that, down to 0 where each is the whole set.)

    Args:
        first: (n, d).
        second: (n', d).
        blocks: of m = min(n, n') / blocks features, rounded down, at least 2.
        seed: of who is in which block.

    Returns:
        The mean over blocks, and its standard error.

    Raises:
        ValueError: for sets of fewer than 2 blocks' features, features of different
            sizes or not finite, or fewer than 2 blocks.
    """
    for features in (first, second):
        _check(features)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            "first and second must have features of one size, got "
            f"{first.shape} and {second.shape}; take one network for both"
        )
    if blocks < 2:
        raise ValueError(f"blocks must be at least 2, got {blocks}; take 10")
    smallest = min(len(first), len(second))
    size = smallest // blocks
    if size < 2:
        raise ValueError(
            f"first and second must have at least {2 * blocks} features for {blocks} "
            f"blocks, got {smallest}; take fewer blocks, or more pictures"
        )
    rng = np.random.default_rng(seed)
    parts = [
        features[rng.permutation(len(features))[: blocks * size]].reshape(
            blocks, size, -1
        )
        for features in (first, second)
    ]
    estimates = [_kernel_distance(x, y) for x, y in zip(*parts, strict=True)]
    error = np.std(estimates, ddof=1) / np.sqrt(blocks)
    return float(np.mean(estimates)), float(error)


def _kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    size, dimension = x.shape

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # products in the features' precision, twice as fast as float64; all else in
        # float64, where rounding that small averages out
        products = np.asarray(a @ b.T, np.float64)
        return (products / dimension + 1) ** 3

    within = [(k.sum() - np.trace(k)) for k in (kernel(x, x), kernel(y, y))]
    across = kernel(x, y).mean()
    return float(sum(within) / (size * (size - 1)) - 2 * across)


def _check(features: np.ndarray) -> None:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"features must be (n, d) with n at least 2, got {features.shape}; take "
            "more pictures"
        )
    if not np.all(np.isfinite(features)):
        raise ValueError(
            "features must be finite, got NaN or infinite values; the generator has "
            "diverged, score an earlier checkpoint"
        )
