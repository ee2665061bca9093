"""Scores of a generator while it trains."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.data.pictures import to_signed
from experiments.cifar10_gan.data.sources import load_pictures
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.reporting import score


class Scorer(NamedTuple):
    """Draws pictures from fixed latents, and their distance from held-out ones.

    Attributes:
        generate: (generator's params, latents) to pictures.
        latents: (score_samples, latent).
        real: (score_samples, 32, 32, 3) in [-1, 1].
    """

    generate: Callable[..., jax.Array]
    latents: jax.Array
    real: np.ndarray

    def samples(self, params: Any) -> np.ndarray:
        """Pictures in [-1, 1], (score_samples, 32, 32, 3), in parts of 100."""
        parts = [
            np.asarray(self.generate(params, self.latents[start : start + 100]))
            for start in range(0, len(self.latents), 100)
        ]
        return np.concatenate(parts)

    def distance(self, samples: np.ndarray) -> float:
        """Sliced Wasserstein distance of samples from the real pictures."""
        return float(score.sliced_wasserstein(samples, self.real))


def create_scorer(config: Config, pair: models.Pair, key: jax.Array) -> Scorer:
    """A scorer against pictures of the test split, the same for every precision."""
    pictures = load_pictures(
        config.source, "test", data_dir=config.data_dir or None, seed=config.seed
    )
    rng = np.random.default_rng(config.seed)
    count = min(config.score_samples, len(pictures))
    chosen = rng.choice(len(pictures), count, replace=False)
    latents = jax.random.normal(key, (count, config.latent))
    real = to_signed(pictures[chosen])
    return Scorer(jax.jit(pair.generate), latents, real)
