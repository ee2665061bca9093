"""Small runs of the GAN program to disturb, and what they leave."""

import pathlib
from typing import Any

import jax
import numpy as np

from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.data.pictures import draw_pictures
from experiments.cifar10_gan.resuming import resumed
from experiments.cifar10_gan.run import Run
from experiments.cifar10_gan.workdirs import read_config
from experiments.common import tables

SMALL = (
    "--width=4",
    "--batch_size=4",
    "--latent=16",
    "--score_samples=16",
    "--log_every=2",
    "--score_every=20",
    "--checkpoint_every=5",
    "--notensorboard",
    "--workers=3",
    "--devices=simulated",
    "--optimizer=sgd",  # compiled in a fraction of the time
    "--bits=4",
)
QUICKLY = "--xla_backend_optimization_level=0"
"""Of XLA: programs that run for a moment are compiled in less time."""
if jax.__version_info__ < (0, 11):  # XLA ends the process at a flag it does not know
    QUICKLY += " --xla_cpu_use_fusion_emitters=false"


def save_pictures(path: pathlib.Path) -> str:
    """A source of few pictures: drawing the embedded ones is most of a short run."""
    train, test = (draw_pictures(256, seed=0, stream=stream) for stream in (0, 1))
    np.savez(path, train=train, test=test)
    return f"--source={path}"


def rows(workdir: pathlib.Path) -> list[dict[str, str]]:
    """Those of the metrics, without their seconds."""
    apart = {"seconds": "", "seconds_in_all": ""}
    return [{**row, **apart} for row in tables.read_csv(workdir / "metrics.csv")]


def last_row(workdir: pathlib.Path) -> int:
    """The iteration of the last whole row; -1 before there is one."""
    path = workdir / "metrics.csv"
    lines = path.read_text().split("\n")[1:-1] if path.exists() else []
    return int(lines[-1].split(",")[0]) if lines else -1


def bits_of(run: Run) -> list[bytes]:
    """All numbers of a run, and where it is in its batches."""
    position = {**run.position, "iteration": run.iteration, "sent": run.sent_bytes}
    leaves = [np.asarray(x) for x in jax.tree.leaves(run.training)]
    return [*(x.tobytes() for x in leaves), repr(sorted(position.items())).encode()]


def opened(workdir: pathlib.Path) -> Run:
    """A run by one process, to read its checkpoints into."""
    return Run(resumed(read_config(workdir) or {}, {"workdir": str(workdir)}))


def last_bits(workdir: pathlib.Path, run: Run) -> tuple[int | None, list[bytes]]:
    """The last checkpoint's iteration and bits; its digests are compared.

    Raises:
        Damaged: if it cannot be read.
    """
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        latest = checkpoints.latest()
        if latest is None:
            return None, []
        run.restore(checkpoints, latest)
    return latest, bits_of(run)


def compare_ends(one: pathlib.Path, other: pathlib.Path) -> int:
    """Checks that two runs have come to the same end, to the bit.

    Returns:
        The number of arrays compared.

    Raises:
        AssertionError: if they have not.
    """
    ends: list[Any] = [last_bits(workdir, opened(workdir)) for workdir in (one, other)]
    assert ends[0][0] == ends[1][0], f"ended at {ends[0][0]} and {ends[1][0]}"
    assert len(ends[0][1]) > 20, "too few arrays"
    assert ends[0][1] == ends[1][1], "the last checkpoints differ"
    assert rows(one) == rows(other), "the CSV files differ"
    return len(ends[0][1])
