"""Sliced Wasserstein distance between two sets of pictures, in NumPy.

A cheap, seeded score that needs no trained network: a sanity check during training,
not a replacement for FID and not comparable with it.
"""

from __future__ import annotations

import numpy as np

from experiments.cifar10_gan.pictures import to_signed


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


def patch_distances(
    first: np.ndarray,
    second: np.ndarray,
    *,
    levels: int = 3,
    patches: int = 8,
    size: int = 7,
    projections: int = 128,
    seed: int = 0,
) -> dict[int, float]:
    """Sliced Wasserstein distances of patches of Laplacian pyramids, by resolution.

    A level of the pyramid is the picture minus its 2 x 2 mean (the last level the mean
    itself), so coarse structure and texture are scored apart, as Karras et al.
    (Progressive Growing of GANs, 2018, section 5) do with Gaussian filters. Both sets
    use the same patch positions.

    Args:
      first: (n, h, w, c), uint8 or floating.
      second: of the same shape.
      levels: of the pyramid, 1 or more.
      patches: drawn per picture and level.
      size: side of a patch in pixels, at most that of the coarsest level.
      projections: as in `sliced_wasserstein`.
      seed: of positions and unit vectors.

    Returns:
      height of the level in pixels to distance.

    Raises:
      ValueError: if shapes differ, or sides cannot be halved levels - 1 times to at
        least `size`.
    """
    if first.shape != second.shape or first.ndim != 4:
        raise ValueError(
            "first and second must have one shape (n, h, w, c), got "
            f"{first.shape} and {second.shape}; take as many of each"
        )
    n, h, w, _ = first.shape
    step = 2 ** (levels - 1) if levels > 0 else 0
    if step == 0 or h % step or w % step or size < 1 or min(h, w) // step < size:
        raise ValueError(
            f"levels must be at least 1 and halve sides {(h, w)} to no less than size "
            f"{size}, got {levels}; lower levels or size"
        )
    rng = np.random.default_rng(seed)
    scores = {}
    pair = [_floating(pictures) for pictures in (first, second)]
    for level in range(levels):
        coarse = [_halve(x) for x in pair] if level + 1 < levels else pair
        band = (
            [x - _double(y) for x, y in zip(pair, coarse, strict=True)]
            if level + 1 < levels
            else pair
        )
        height, width = pair[0].shape[1:3]
        top = rng.integers(0, height - size + 1, (n, patches))
        left = rng.integers(0, width - size + 1, (n, patches))
        cut = [_patches(x, top, left, size) for x in band]
        scores[height] = sliced_wasserstein(*cut, projections=projections, seed=seed)
        pair = coarse
    return scores


def _floating(pictures: np.ndarray) -> np.ndarray:
    if pictures.dtype == np.uint8:
        return to_signed(pictures)
    return np.asarray(pictures, np.float32)


def _flat(pictures: np.ndarray) -> np.ndarray:
    return _floating(pictures).reshape(len(pictures), -1)


def _halve(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def _double(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _patches(x: np.ndarray, top: np.ndarray, left: np.ndarray, size: int) -> np.ndarray:
    """Patches with corners (top, left), each (n, p): (n p, size, size, c)."""
    n, p = top.shape
    rows = top[..., None, None] + np.arange(size)[:, None]
    columns = left[..., None, None] + np.arange(size)[None, :]
    picture = np.arange(n)[:, None, None, None]
    return x[picture, rows, columns].reshape(n * p, size, size, x.shape[-1])
