"""The GAN program's smallest run, which ends in seconds, and what runs can share."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.data import sources
from experiments.cifar10_gan.data.pictures import draw_pictures
from tests.lib.helpers import compiling_plainly

TINY = Config(
    iterations=4,
    batch_size=2,
    width=4,
    latent=16,
    log_every=2,
    score_every=2,
    score_samples=8,
    checkpoint_every=2,
    tensorboard=False,
)


@functools.cache
def draw_once(*args, **settings):
    pictures = draw_pictures(*args, **settings)
    pictures.flags.writeable = False
    return pictures


@contextlib.contextmanager
def preparing_once(folder):
    """Each run compiles the same programs, and longer than it runs them.

    And draws the same 20,000 pictures, which data/test_pictures.py compares.
    """
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: jax.config.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    with compiling_plainly(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "draw_pictures", draw_once)
        yield
    for name, value in before.items():
        jax.config.update(name, value)


def last_checkpoint(workdir):
    """Its iteration and its arrays, as Orbax alone reads them."""
    with ocp.CheckpointManager((workdir / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
        arrays = ocp.args.Composite(arrays=ocp.args.StandardRestore())
        restored = manager.restore(step, args=arrays)
    leaves = jax.tree.leaves(restored.arrays)
    typed = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return step, [
        np.asarray(jax.random.key_data(leaf) if t else leaf)
        for leaf, t in zip(leaves, typed, strict=True)
    ]
