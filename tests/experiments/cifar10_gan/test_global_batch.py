"""Strong scaling: K workers that share a batch compute the dual vector of the whole."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.cifar10_gan import train
from experiments.cifar10_gan.run import Run
from tests.lib.tiny_runs import TINY, preparing_once


@pytest.fixture(scope="module", autouse=True)
def _prepare_once(tmp_path_factory):
    with preparing_once(tmp_path_factory.mktemp("cache")):
        yield


def dual_vector(workers, **changes):
    """Of one iteration, read off a step of plain descent with learning rates of 1."""
    rates = dict.fromkeys(
        ("learning_rate_generator", "learning_rate_discriminator"), 1.0
    )
    config = dataclasses.replace(
        TINY, workers=workers, bits=32, optimizer="sgd", **rates, **changes
    )
    run = Run(config)
    before = jax.device_get(run.training.params)
    pictures = run.place.place_batch(next(run.batches))
    ones = np.ones(workers, np.int32)
    facts = map(run.place.place_batch, (ones, ones > 1))
    training, metrics = run.step(run.training, pictures, *facts)
    after = jax.device_get(training.params)
    return jax.tree.map(np.subtract, before, after), jax.device_get(metrics)


def test_one_worker_and_three_have_the_same_dual_vector():
    """1024 pictures, as the paper's experiment: 341, 341 and 342."""
    one, metrics = dual_vector(1, global_batch=1024)
    three, theirs = dual_vector(3, global_batch=1024)
    norm = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(one)))
    off = jax.tree.leaves(jax.tree.map(np.subtract, one, three))
    assert np.sqrt(sum(np.sum(x**2) for x in off)) < 1e-6 * norm
    for name in ("loss_generator", "loss_discriminator", "penalty", "wasserstein"):
        np.testing.assert_allclose(
            np.mean(theirs[name]), np.mean(metrics[name]), rtol=1e-5, err_msg=name
        )


def test_a_batch_of_each_worker_is_another_vector():
    """The measure can tell: with batches of their own the draws differ."""
    one, _ = dual_vector(1, global_batch=12)
    three, _ = dual_vector(3, batch_size=4)
    leaves = zip(*map(jax.tree.leaves, (one, three)), strict=True)
    assert any(np.abs(a - b).max() > 1e-3 * np.abs(a).max() for a, b in leaves)


def test_a_shared_batch_trains_quantized_and_resumes_with_other_workers(tmp_path):
    config = dataclasses.replace(TINY, global_batch=7, workdir=str(tmp_path / "run"))
    train.train(dataclasses.replace(config, iterations=2))
    train.train(dataclasses.replace(config, workers=2), resume=True)
    run = Run(dataclasses.replace(config, workers=2))
    assert run.batches.steps_per_epoch == len(run.pictures) // 7


def test_too_small_a_batch_is_refused():
    with pytest.raises(ValueError, match="at least the 3 workers, got 2"):
        dataclasses.replace(TINY, global_batch=2).validate()
