"""Flips bits in the files of a checkpoint, one at a time, and restores it.

Trains for a moment, and then, for each flip, restores what is left: the values saved, a
refusal, or the checkpoint before with its values. Exits with 1 if anything else comes.
"""

import argparse
import collections
import dataclasses
import pathlib
import random
import shutil
import tempfile

import jax
from absl import logging

from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.digests import Damaged
from experiments.cifar10_gan.train import train
from experiments.faults.runs import bits_of, opened, save_pictures

SMALL = Config(
    iterations=4,
    batch_size=2,
    width=4,
    latent=16,
    log_every=4,
    score_every=1000,
    score_samples=8,
    checkpoint_every=2,
    tensorboard=False,
)


def flip(path: pathlib.Path, place: int, bit: int) -> None:
    """Flips one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """Those of a checkpoint that hold anything."""
    found = sorted(folder.rglob("*"))
    return [path for path in found if path.is_file() and path.stat().st_size]


def flip_bits(
    workdir: pathlib.Path, scratch: pathlib.Path, *, flips: int, seed: int
) -> tuple[collections.Counter, list[str]]:
    """Restores damaged copies of a run's last checkpoint.

    Args:
        workdir: of a run with two checkpoints.
        scratch: a folder for copies.
        flips: how many; shared evenly by the files.
        seed: of the places.

    Returns:
        How often each outcome came, and the flips that gave wrong values.
    """
    run, good = opened(workdir), {}
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        before, last = checkpoints.all()[-2:]
        for iteration in (before, last):
            run.restore(checkpoints, iteration)
            good[iteration] = bits_of(run)
    names = files_of(workdir / "checkpoints" / str(last))
    places = random.Random(seed)
    outcomes: collections.Counter = collections.Counter()
    wrong = []
    for number in range(flips):
        name = names[number % len(names)].relative_to(workdir / "checkpoints")
        copy = scratch / "checkpoints"
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(workdir / "checkpoints", copy)
        place = places.randrange((copy / name).stat().st_size), places.randrange(8)
        flip(copy / name, *place)
        try:
            with Checkpoints(copy, read_only=True) as checkpoints:
                latest = checkpoints.latest()
                assert latest is not None
                run.restore(checkpoints, latest)
        except Damaged:
            outcomes["refused"] += 1
            continue
        same = bits_of(run) == good[latest]
        kind = "the values saved" if latest == last else "the checkpoint before"
        outcomes[kind if same else "WRONG VALUES"] += 1
        if not same:
            wrong.append(f"{name} byte {place[0]} bit {place[1]}")
    return outcomes, wrong


def arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the command line."""
    parser.add_argument("--flips", type=int, default=500, help="how many")
    parser.add_argument(
        "--workdir", type=pathlib.Path, help="of a run that is there, which is read"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the places")


def main(*, flips: int, workdir: pathlib.Path | None, seed: int) -> bool:
    """Trains, flips, and says what came of it; whether no wrong value was loaded."""
    jax.config.update("jax_num_cpu_devices", 3)
    logging.set_verbosity(logging.FATAL)  # Orbax tells of each damage, too
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        if workdir is None:
            workdir = here / "run"
            source = save_pictures(here / "pictures.npz").removeprefix("--source=")
            train(dataclasses.replace(SMALL, source=source, workdir=str(workdir)))
        outcomes, wrong = flip_bits(workdir, here / "copy", flips=flips, seed=seed)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6d}  {outcome}")
    print("\n".join(wrong) or f"{flips} flips: no wrong value was loaded")
    return not wrong
