"""Kills a run at random moments, resumes it, and compares the end to the bit.

SIGKILL to one of its processes: while they start, find each other and compile, between
two iterations and in one, while a checkpoint is written. Then all have to end in time
by a documented code, and the last checkpoint has to be whole. In the end the last
checkpoint must have the bits of an undisturbed run's, and the CSV file the same rows
but for the seconds. Exits with 1 if anything is otherwise.
"""

import argparse
import collections
import pathlib
import random
import signal
import tempfile
import time
from typing import NamedTuple

import jax
from absl import logging

from experiments.cifar10_gan.digests import Damaged
from experiments.cifar10_gan.run import Run
from experiments.faults import leftovers
from experiments.faults.runs import (
    SMALL,
    compare_ends,
    last_bits,
    opened,
    save_pictures,
)
from experiments.faults.starts import NOT_JOINED, STOPPED, Start, finish

WAIT_SECONDS = 30
"""For processes to find each other, of which one may be killed before."""
NOBODY_COMES = WAIT_SECONDS + 10
"""By when they have ended then, on a machine with other work: Python ends as always."""


class Kill(NamedTuple):
    """One kill.

    Attributes:
        when: "starting", before the first row of this start, or "running".
        row: the last row's iteration.
        seconds: until all others had ended.
        limit: by when they have to.
        codes: of all processes.
        checkpoint: the last one that is whole, or None.
        problem: what was otherwise than promised, or "".
    """

    when: str
    row: int
    seconds: float
    limit: float
    codes: list[int | None]
    checkpoint: int | None
    problem: str


def strike(start: Start, chance: random.Random, usual: float) -> int | None:
    """Kills one of the processes at a random moment.

    Args:
        start: of the run.
        chance: of moment and process.
        usual: seconds from a start to its first row.

    Returns:
        Which; None where the run ended before.
    """
    if chance.random() < 0.25:  # while they start
        until = start.began + chance.uniform(0, usual)
        while start.runs_on() and time.monotonic() < until:
            time.sleep(0.01)
    else:
        row = chance.randrange(1, 10)
        while start.runs_on() and start.rows_done() < row:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
    if not start.runs_on():
        return None
    victim = chance.randrange(len(start.processes))
    start.send(signal.SIGKILL, victim)
    return victim


def judged(start: Start, victim: int, timeout: float, run: Run | None) -> Kill:
    """What came of a kill."""
    others = start.others_have_come(victim)
    seconds = start.wait(timeout + WAIT_SECONDS + 120)
    codes, row = start.codes(), start.rows_done()
    alone = NOT_JOINED in start.said()
    limit = NOBODY_COMES if alone else timeout + 2
    problems = []
    if seconds > limit:
        problems.append(f"ended after {seconds:.1f} s, not {limit:.0f}")
    if not {codes[k] for k in others} <= ({1} if alone else {STOPPED}):
        problems.append(f"codes {codes}: {start.said()[-300:]}")
    checkpoint = None
    if "must be complete and of this configuration" in start.said():
        problems.append("a checkpoint was unreadable as it started")
    if run is not None:
        try:
            checkpoint, _ = last_bits(start.workdir, run)
        except Damaged as error:
            problems.append(f"unreadable checkpoint: {error}")
    when = "running" if row > 0 else "starting"
    found = when, start.row + row, seconds, limit, codes, checkpoint
    return Kill(*found, "; ".join(problems))


def kills(
    folder: pathlib.Path,
    *,
    times: int,
    iterations: int | None = None,
    processes: int = 3,
    timeout: int = 10,
    seed: int = 0,
) -> list[Kill]:
    """Runs one undisturbed and one that is killed, and compares them.

    Args:
        folder: an empty one.
        times: how many kills.
        iterations: of the run; None for as many as so many kills need.
        processes: of the run.
        timeout: T, --timeout of the run.
        seed: of the moments.

    Raises:
        AssertionError: if the ends differ, or anything is left behind.
        RuntimeError: if a process never ends.
    """
    chance = random.Random(seed)
    iterations = 12 * times + 40 if iterations is None else iterations
    source = save_pictures(folder / "pictures.npz")
    limits = [f"--timeout={timeout}"]
    if processes > 1:
        limits.append(f"--wait_seconds={WAIT_SECONDS}")
    flags = [*SMALL, source, f"--iterations={iterations}", *limits]
    whole, killed = folder / "whole" / "run", folder / "killed" / "run"
    for workdir in (whole, killed):
        workdir.parent.mkdir()
    finish(whole, flags, processes)
    found: list[Kill] = []
    run, usual, used = None, 20.0, []
    while len(found) < times:
        start = Start(killed, flags, processes=processes, more=limits)
        used.append(start.coordinator)
        try:
            victim = strike(start, chance, usual)
            if victim is None:
                assert any(start.codes()), (
                    "the run has come to its end: more iterations"
                )
                print(f"ended by itself: {start.codes()}, {start.said()[-300:]}")
                continue
            if start.rows_done() > 0 and run is None:
                usual, run = time.monotonic() - start.began, opened(killed)
            found.append(judged(start, victim, timeout, run))
        finally:
            start.end()
        _print(len(found), victim, found[-1])
    finish(killed, flags, processes, *limits)
    arrays = compare_ends(killed, whole)
    print(f"{arrays} arrays and {iterations} iterations are equal bit for bit")
    left = leftovers.processes(killed), leftovers.ports(used)
    assert not any(left), f"processes and ports are left: {left}"
    return found


def _print(number: int, victim: int, kill: Kill) -> None:
    print(
        f"kill {number}: process {victim} {kill.when}, row {kill.row}, codes "
        f"{kill.codes} after {kill.seconds:.1f} s, checkpoint {kill.checkpoint}"
        + (f"; BUT {kill.problem}" if kill.problem else ""),
        flush=True,
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the command line."""
    parser.add_argument("--times", type=int, default=10, help="how many kills")
    parser.add_argument("--processes", type=int, default=3, help="of the run")
    parser.add_argument("--iterations", type=int, help="of the run")
    parser.add_argument("--timeout", type=int, default=10, help="T of the run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")


def main(**options: int) -> bool:
    """Kills, compares, and sums up; whether all is as promised."""
    logging.set_verbosity(logging.ERROR)  # Orbax tells of each look at a checkpoint
    jax.config.update("jax_num_cpu_devices", 3)  # a worker on each
    with tempfile.TemporaryDirectory() as folder:
        found = kills(pathlib.Path(folder), **options)
    late = [kill for kill in found if kill.seconds > kill.limit]
    for when in ("starting", "running"):
        some = [kill for kill in found if kill.when == when]
        seconds = sorted(kill.seconds for kill in some) or [0.0]
        codes = collections.Counter(c for kill in some for c in kill.codes)
        print(
            f"{len(some)} kills {when}: ended after {seconds[len(seconds) // 2]:.1f} s "
            f"in the middle, {seconds[-1]:.1f} s at most; codes {dict(codes)}"
        )
    wrong = [kill.problem for kill in found if kill.problem]
    unreadable = sum("readable" in problem for problem in wrong)
    print(
        f"{len(found)} kills: {len(late)} ended later than T + 2 s, {unreadable} "
        f"unreadable checkpoints, {len(wrong)} otherwise than documented"
    )
    return not wrong
