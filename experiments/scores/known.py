"""Sets of pictures of known worth, made of real ones: what scores are tried on."""

import itertools
from collections.abc import Iterator

import numpy as np

ORDERED = (
    ("real", "noise 5", "noise 10", "noise 20", "noise 40"),
    ("real", "blurred", "blurred twice"),
    ("real", "noise 5", "noise of the covariance", "noise of each pixel"),
    ("real", "wrong halves", "noise of the covariance"),
    ("real", "ten pictures"),
)
"""Sets of which each is worse than the one before."""


def known_sets(real: np.ndarray, *, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Sets of known worth, made of real pictures: names, and uint8 as `real`."""
    rng = np.random.default_rng(seed)
    yield "real", real
    for deviation in (5, 10, 20, 40):
        noise = deviation * rng.standard_normal(real.shape, np.float32)
        yield f"noise {deviation}", _rounded(real + noise)
    once = blurred(real)
    yield "blurred", once
    yield "blurred twice", blurred(once)
    half = real.shape[1] // 2
    yield (
        "wrong halves",
        np.concatenate([real[:, :half], np.roll(real, 1, 0)[:, half:]], 1),
    )
    yield "ten pictures", real[rng.integers(0, 10, len(real))]
    flat = real.reshape(len(real), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    normal = rng.standard_normal(flat.shape)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    root = vectors * np.sqrt(np.maximum(values, 0))
    yield (
        "noise of the covariance",
        _rounded(mean + normal @ root.T).reshape(real.shape),
    )
    yield (
        "noise of each pixel",
        _rounded(mean + normal * flat.std(0)).reshape(real.shape),
    )


def blurred(pictures: np.ndarray) -> np.ndarray:
    """Each pixel the mean of the 3 x 3 around it, the edges repeated."""
    height, width = pictures.shape[1:3]
    wide = np.pad(
        pictures.astype(np.float32), [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge"
    )
    shifts = [
        wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    ]
    return _rounded(sum(shifts[1:], shifts[0]) / 9)


def out_of_order(values: dict[str, float]) -> list[str]:
    """Where a score has a set no worse than one that is better, in words."""
    return [
        f"{worse} ({values[worse]:.3g}) is not behind {better} ({values[better]:.3g})"
        for names in ORDERED
        for better, worse in itertools.pairwise(names)
        if not values[worse] > values[better]
    ]


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
