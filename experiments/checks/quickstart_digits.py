"""Whether a run on digits has come to digits that can be read.

    python -m experiments.checks.quickstart_digits runs/quickstart --least=0.25

draws 1,000 samples by the moving average of G's weights, from the last checkpoint, and
measures them by `experiments.cifar10_gan.reporting.legible`, beside held-out real ones
and beside samples of the weights that training began with. Exits with 1 if fewer than
`--least` of them read as digits, or fewer than 8 of the 10 classes are among them. Of
what looks like digits and is none the measure lets pass a quarter at most.
"""

import argparse
import pathlib
import sys

import jax
import numpy as np
from absl import logging

from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.config import Config, key_of
from experiments.cifar10_gan.data.digits import DIGITS, load_digits
from experiments.cifar10_gan.data.pictures import to_bytes
from experiments.cifar10_gan.evaluate import config_of
from experiments.cifar10_gan.reporting.legible import (
    CLASSES,
    SHARE,
    Reader,
    Reading,
)
from experiments.cifar10_gan.run import Run, weights_of
from experiments.cifar10_gan.together.starting import start_processes

SAMPLES = 1000


def digits_run(workdir: pathlib.Path) -> Config:
    """The configuration of the run in a workdir.

    Raises:
        ValueError: if there is none, or it is not of digits.
    """
    config = config_of(workdir)
    if config.source != DIGITS:
        raise ValueError(
            f"run must have the source 'digits', got {config.source!r}; whether other "
            "pictures can be read is not known"
        )
    return config


def read_run(config: Config, samples: int = SAMPLES) -> dict[str, Reading]:
    """What is made of held-out digits, and of samples at the start and the end."""
    workdir = pathlib.Path(config.workdir)
    reader = Reader(*load_digits("train"))
    run = Run(config)
    generate = jax.jit(run.pair.generate)
    latents = jax.random.normal(key_of(config, "reading"), (samples, config.latent))

    def drawn() -> np.ndarray:
        return to_bytes(np.asarray(generate(weights_of(run)["ema"], latents)))

    pictures = {"held-out real ones": load_digits("test")[0], "iteration 0": drawn()}
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        latest = checkpoints.latest()
        if latest is None:
            raise ValueError(
                f"run must have a checkpoint, got none in {str(workdir)!r}; train "
                "longer"
            )
        run.restore(checkpoints, latest)
    pictures[f"iteration {latest}"] = drawn()
    return {name: reader.read(shown) for name, shown in pictures.items()}


def main() -> None:
    """Reads, prints, and tells by the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=pathlib.Path, help="workdir of a run on digits")
    parser.add_argument(
        "--least", type=float, default=SHARE, help="share that has to read as digits"
    )
    options = parser.parse_args()
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what is meant: to read only
    try:
        config = digits_run(options.run)
        start_processes(config)
        readings = read_run(config)
    except (ValueError, ImportError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    for name, reading in readings.items():
        print(f"{name}: {reading}")
    last = list(readings.values())[-1]
    if last.share < options.least or len(last.present) < CLASSES:
        sys.exit(
            f"the samples cannot be read as digits: at least {options.least:.0%} of "
            f"them and {CLASSES} classes are wanted"
        )


if __name__ == "__main__":
    main()
