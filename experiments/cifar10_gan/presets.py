"""Presets: fields of a configuration under a name.

Scores are sliced Wasserstein distances of 1,000 samples from as many test pictures,
comparable only with themselves; "peak memory" is the largest resident set.

quickstart
    python -m experiments.cifar10_gan
    Scikit-learn's digits, 3 workers, DCGAN pair of width 16, 4 bits, 1,500 iterations.
    Time: 238 s on 2 CPU cores that had other work to do.
    Score: 0.76 at the start, 0.14 at the end, 0.094 of the moving average; 50 % of its
    samples read as digits, of all ten classes, where 92 % of held-out real ones do
    (`experiments.checks.quickstart_digits`).
    Peak memory: not measured.

cifar10_small
    python -m experiments.cifar10_gan --preset=cifar10_small
    CIFAR-10, 3 workers, DCGAN pair of width 16, 4 bits, 300 iterations.
    Time: a minute or two on 2 CPU cores.
    Score: 0.420 at the start; at the end 0.126 of raw weights, and with --bits=32 (an
    exact exchange) 0.120; means over three seeds.
    Peak memory: not measured.

paper
    python -m experiments.cifar10_gan --preset=paper
    The reference's experiment: CIFAR-10, 3 workers with a GPU each, ResNet pair of
    width 128, batches of 341, 8 bits, 500,000 iterations.
    Never run to its end: time, score and peak memory are not measured.
"""

from collections.abc import Mapping
from typing import Any

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.resuming import replaced

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quickstart": {
        "source": "digits",
        "width": 16,
        "init_deviation": 0.056,
        "latent": 32,
        "learning_rate_generator": 1e-3,
        "learning_rate_discriminator": 2e-3,
        "iterations": 1500,
        "score_every": 300,
        "checkpoint_every": 300,
    },
    "cifar10_small": {
        "source": "cifar10",
        "workdir": "runs/cifar10_small",
        "width": 16,
        "init_deviation": 0.056,
        "iterations": 300,
        "decay_iterations": 300,
        "score_every": 50,
    },
    "paper": {
        "source": "cifar10",
        "workdir": "runs/paper",
        "model": "resnet",
        "width": 128,
        "init_deviation": 0.02,
        "batch_size": 341,
        "bits": 8,
        "family": "min_max",
        "exact_leaves": "none",
        "learning_rate_generator": 5e-5,
        "learning_rate_discriminator": 5e-4,
        "ema_decay": 0.9999,
        "iterations": 500_000,
        "decay_iterations": 500_000,
        "log_every": 50,
        "score_every": 5000,
        "score_samples": 10_000,
        "checkpoint_every": 5000,
    },
}
"""Fields by the name of a preset; the others keep their defaults."""


def from_preset(name: str, given: Mapping[str, Any]) -> Config:
    """The configuration of a preset, with the fields that are given.

    Raises:
        ValueError: for an unknown preset or field.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {tuple(PRESETS)}, got {name!r}")
    return replaced(Config(**PRESETS[name]), given)
