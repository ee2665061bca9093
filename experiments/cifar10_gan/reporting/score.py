"""Sliced Wasserstein distance between two sets of pictures, in NumPy.

A cheap, seeded score that needs no trained network: a sanity check during training,
not a replacement for FID and not comparable with it.
"""

from __future__ import annotations

import numpy as np

from experiments.cifar10_gan.data.pictures import to_signed


def directions(count: int, dimension: int, *, seed: int) -> np.ndarray:
    """Unit vectors, uniform on the sphere: float32 of shape (dimension, count).

    Raises:
      ValueError: if count or dimension is below 1.
    """
    for name, value in (("count", count), ("dimension", dimension)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}; pass more")
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((dimension, count), np.float32)
    return normal / np.linalg.norm(normal, axis=0)


def sliced_wasserstein(
    first: np.ndarray, second: np.ndarray, *, projections: int = 256, seed: int = 0
) -> float:
    """The sliced 2-Wasserstein distance of two equally large sets.

        SW(X, Y)^2 = mean_l W(X u_l, Y u_l)^2,
        W(a, b)^2  = mean_i (sort(a)_i - sort(b)_i)^2,

    with u_l unit vectors in pixel space, the same for a seed whatever the sets. Zero
    exactly for equal sets in any order; a shift of every picture by v gives
    sqrt(mean_l <v, u_l>^2), about |v| / sqrt(dimension).

    Args:
      first: (n, ...), uint8 (taken to [-1, 1]) or floating.
      second: of the same shape.
      projections: number of unit vectors; the relative error falls as its square root.
      seed: of the unit vectors.

    Raises:
      ValueError: if shapes differ or sets are empty, values are not finite, or
        projections is below 1.
    """
    if first.shape != second.shape or first.ndim < 2 or first.size == 0:
        raise ValueError(
            "first and second must have one shape (n, ...), not empty, got "
            f"{first.shape} and {second.shape}; take as many of each"
        )
    # Sorting each set's own rows, not their difference, makes equal sets give zero.
    x, y = (_flat(pictures) for pictures in (first, second))
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError(
            "first and second must be finite, got NaN or infinite values; the "
            "generator has diverged, score an earlier checkpoint"
        )
    units = directions(projections, x.shape[1], seed=seed)
    gap = np.sort(x @ units, axis=0) - np.sort(y @ units, axis=0)
    return float(np.sqrt(np.mean(np.square(gap, dtype=np.float64))))


def _flat(pictures: np.ndarray) -> np.ndarray:
    is_bytes = pictures.dtype == np.uint8
    values = to_signed(pictures) if is_bytes else np.asarray(pictures, np.float32)
    return values.reshape(len(pictures), -1)
