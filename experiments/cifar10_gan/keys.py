"""Random keys of a run, one for each purpose, so that no two share a stream."""

import zlib

import jax
import numpy as np

from experiments.cifar10_gan.config import Config


def key_of(config: Config, purpose: str) -> jax.Array:
    """The key of the run's seed for a purpose, such as "latents"."""
    root = jax.random.key(np.uint32(config.seed))
    return jax.random.fold_in(root, np.uint32(zlib.crc32(purpose.encode())))
