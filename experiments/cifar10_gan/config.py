"""The configuration of a run: typed fields, and one check of them all.

The defaults are the quick start: embedded pictures, a small DCGAN pair, three workers
and a 4-bit exchange, a few minutes on two cores. The reference's experiment has the
ResNet pair of `width` 128 and `init_deviation` 0.02, `batch_size` 341 on each of 3
workers, `learning_rate_generator` 5e-5, `learning_rate_discriminator` 5e-4, `bits` 8,
`ema_decay` 0.9999 and 500,000 iterations.
"""

import dataclasses
from typing import Any

from experiments.cifar10_gan.models import NAMES

EXACT = 32
"""The number of bits that stands for an exact float32 exchange."""


def _field(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass
class Config:
    """Everything that a run depends on; each field is a flag of the program."""

    source: str = _field(
        "embedded", "pictures: embedded, a TFDS image set such as cifar10, or an .npz"
    )
    data_dir: str = _field(
        "", "where TFDS data sets are prepared; empty for its default"
    )
    workdir: str = _field("runs/quickstart", "folder for CSV, pictures and figures")
    seed: int = _field(0, "of pictures, weights, batches, latents and rounding")
    workers: int = _field(3, "K; simulated devices on a CPU, else one device each")
    iterations: int = _field(1000, "extra-gradient iterations, two half-steps each")
    batch_size: int = _field(16, "pictures per worker and half-step")
    model: str = _field("dcgan", f"one of {', '.join(NAMES)}")
    width: int = _field(32, "F, filters of the narrowest layers")
    latent: int = _field(128, "size of a latent vector")
    init_deviation: float = _field(
        0.04, "of the initial kernels; 0.02 goes with width 128"
    )
    bits: int = _field(4, f"per coordinate, 2 to 8, or {EXACT} for an exact exchange")
    bucket_size: int = _field(1024, "coordinates that share a norm")
    learning_rate_generator: float = _field(2e-4, "of ExtraAdam for G")
    learning_rate_discriminator: float = _field(1e-3, "of ExtraAdam for D")
    b1: float = _field(0.5, "ExtraAdam's decay of first moments, per half-step")
    b2: float = _field(0.9, "ExtraAdam's decay of second moments, per half-step")
    penalty_weight: float = _field(10.0, "of the gradient penalty")
    ema_decay: float = _field(0.99, "of the moving average of the weights")
    log_every: int = _field(5, "iterations between rows of the CSV")
    score_every: int = _field(100, "iterations between scores and sample grids")
    score_samples: int = _field(1000, "pictures of each kind in a score")

    def validate(self) -> None:
        """Checks every field.

        Raises:
            ValueError: for the first field out of its range.
        """
        at_least = {
            "seed": 0,
            "workers": 1,
            "iterations": 1,
            "batch_size": 1,
            "width": 1,
            "latent": 1,
            "bucket_size": 1,
            "penalty_weight": 0,
            "log_every": 1,
            "score_every": 1,
            "score_samples": 2,
        }
        for name, least in at_least.items():
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        for name in (
            "init_deviation",
            "learning_rate_generator",
            "learning_rate_discriminator",
        ):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("b1", "b2", "ema_decay"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        if self.model not in NAMES:
            raise ValueError(f"model must be one of {NAMES}, got {self.model!r}")
        if self.bits not in (*range(2, 9), EXACT):
            raise ValueError(
                f"bits must be 2 to 8, or {EXACT} for an exact exchange, "
                f"got {self.bits}"
            )
