"""How far samples of a generator are from held-out pictures: scores while it trains.

The quick look is the sliced Wasserstein distance between two sets of pictures, in
NumPy: cheap, seeded, without a trained network, and fooled by noise of the pictures'
covariance (`python -m experiments.checks.known_pictures`). Frechet's and the kernel
distance, in the features of a trained network, are not.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.data.pictures import to_bytes, to_signed
from experiments.cifar10_gan.data.sources import load_pictures
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.parsing import parse_scores
from experiments.scores.judge import Judge


class Stopped(Exception):
    """Raised where a score is not wanted any more."""


class Scorer(NamedTuple):
    """Draws pictures from fixed latents, and scores them against held-out ones.

    Attributes:
        generate: (generator's params, latents) to pictures.
        latents: (score_samples, latent).
        real: (n, 32, 32, 3) in [-1, 1], n at most score_samples: what the sliced
            distance, which takes as many of each, is measured from.
        judge: of the other scores, against all held-out pictures; None without them.
    """

    generate: Callable[..., jax.Array]
    latents: jax.Array
    real: np.ndarray
    judge: Judge | None = None

    def samples(self, params: Any, stopped: Sequence[int] = ()) -> np.ndarray:
        """Pictures in [-1, 1], (score_samples, 32, 32, 3); see `samples_of`."""
        return samples_of(self.generate, params, self.latents, stopped)

    def scores(self, samples: np.ndarray) -> dict[str, float]:
        """Scores of samples: ``score``, the sliced distance, and those of the judge."""
        sliced = sliced_wasserstein(samples[: len(self.real)], self.real)
        judged = {} if self.judge is None else self.judge.scores(to_bytes(samples))
        return {"score": float(sliced), **judged}


def samples_of(
    generate: Callable[..., jax.Array],
    params: Any,
    latents: jax.Array,
    stopped: Sequence[int] = (),
) -> np.ndarray:
    """Pictures of latents, in [-1, 1], in parts of 100.

    Raises:
        Stopped: as soon as `stopped`, a list of signals, is not empty.
    """
    parts = []
    for start in range(0, len(latents), 100):
        if stopped:
            raise Stopped
        parts.append(np.asarray(generate(params, latents[start : start + 100])))
    return np.concatenate(parts)


def create_scorer(config: Config, pair: models.Pair, key: jax.Array) -> Scorer:
    """A scorer against pictures of the test split, the same for every precision."""
    pictures = held_out(config)
    names = parse_scores(config.scores)
    judge = Judge(pictures, names) if names else None
    latents = jax.random.normal(key, (config.score_samples, config.latent))
    real = chosen_real(config, pictures, config.score_samples)
    return Scorer(jax.jit(pair.generate), latents, real, judge)


def chosen_real(config: Config, pictures: np.ndarray, count: int) -> np.ndarray:
    """Of the pictures at most `count`, from which the sliced distance is measured.

    In [-1, 1]; the seed alone decides.
    """
    rng = np.random.default_rng(config.seed)
    rows = rng.choice(len(pictures), min(count, len(pictures)), replace=False)
    return to_signed(pictures[rows])


def held_out(config: Config) -> np.ndarray:
    """The pictures that scores are against."""
    return load_pictures(
        config.source, "test", data_dir=config.data_dir or None, seed=config.seed
    )


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
        projections: number of unit vectors; the relative error falls as its square
            root.
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
