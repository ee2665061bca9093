"""Disturbs a run of three processes again and again, and compares its end to the bit.

    python -m experiments.checks.soak --faults=100

Kills, freezes and stops (SIGKILL, SIGSTOP, SIGTERM) one of the processes at random
moments, waits for all to end, and starts them again with --resume, as a supervisor
does. Exits with 1 if one outlives the limit, ends by an undocumented code, or the last
checkpoint is not that of a run that nothing disturbed.
"""

import argparse
import collections
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax

from experiments.checks.flip_bits import bits_of
from experiments.checks.kill_and_resume import (
    QUICKLY,
    SMALL,
    last_row,
    rows,
    save_pictures,
)
from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.resuming import resumed
from experiments.cifar10_gan.run import Run
from experiments.cifar10_gan.workdirs import read_config
from experiments.common.processes import environment, free_port

PROCESSES = 3
GIVEN = ("--workers=3", "--devices=simulated", "--optimizer=sgd", "--bits=4")
CODES = {
    signal.SIGKILL: {75, -signal.SIGKILL, 0},
    # one that wakes after process 0 is gone may find JAX's abort first
    signal.SIGSTOP: {75, -signal.SIGABRT, 0},
    signal.SIGTERM: {75, 0},
}
"""By fault, how processes may end; 0: it came after the last iteration."""


class Start:
    """One start of all processes; `flags` are those of the run."""

    def __init__(
        self, workdir: pathlib.Path, cache: pathlib.Path, flags: list[str]
    ) -> None:
        """Resumed, where there is something to resume."""
        is_there = (workdir / "config.json").exists()
        given = ["--resume"] if is_there else [*flags, *SMALL, *GIVEN]
        given += [f"--workdir={workdir}", f"--processes={PROCESSES}", "--stop_code=75"]
        given += [f"--coordinator=127.0.0.1:{free_port()}"]
        variables = {
            **environment(),
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        program = [sys.executable, "-m", "experiments.cifar10_gan", *given]
        self.log = workdir.parent / "last_start.txt"
        with self.log.open("wb") as output:
            self.processes = [
                subprocess.Popen(
                    [*program, f"--process={number}"],
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
                for number in range(PROCESSES)
            ]

    def codes(self) -> list[int | None]:
        """How each has ended; None: it has not."""
        return [process.poll() for process in self.processes]

    def wait(self, seconds: float, but: int | None = None) -> float:
        """Seconds until all have ended, but for one.

        Raises:
            RuntimeError: if they have not in time.
        """
        began = time.monotonic()
        while None in [c for k, c in enumerate(self.codes()) if k != but]:
            if time.monotonic() - began > seconds:
                raise RuntimeError(
                    f"processes must end in {seconds:.0f} s, got codes {self.codes()}\n"
                    + self.log.read_text(errors="replace")[-4000:]
                )
            time.sleep(0.01)
        return time.monotonic() - began

    def end(self) -> None:
        """Kills what is left."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


def soak(
    folder: pathlib.Path, *, faults: int, iterations: int, timeout: int, seed: int
) -> dict[str, list[float]]:
    """Disturbs one run, and compares it with one that nothing disturbs.

    Returns:
        Seconds from each fault to the end of the last process, by the fault's name.

    Raises:
        RuntimeError: if a process outlives its limit.
        AssertionError: if one ends by another code, or the ends differ.
    """
    chance = random.Random(seed)
    flags = [f"--iterations={iterations}", f"--timeout={timeout}"]
    flags += [save_pictures(folder / "pictures.npz")]
    cache, disturbed = folder / "cache", folder / "disturbed" / "run"
    whole = folder / "whole" / "run"
    for workdir in (disturbed, whole):
        workdir.parent.mkdir()
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    for _ in range(faults):
        start = Start(disturbed, cache, flags)
        try:
            row = last_row(disturbed) + chance.randrange(2, 12)
            in_compiling = chance.random() < 0.2
            while None in start.codes() and last_row(disturbed) < row:
                if in_compiling and b"compiling" in start.log.read_bytes():
                    break
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))
            victim, number = chance.randrange(PROCESSES), chance.choice([*CODES])
            start.processes[victim].send_signal(number)
            frozen = victim if number == signal.SIGSTOP else None
            limit = 30 if number == signal.SIGTERM else timeout + 2
            took = start.wait(limit + 10, frozen)  # the machine has other work
            start.processes[victim].send_signal(signal.SIGCONT)
            start.wait(30)
        finally:
            start.end()
        assert set(start.codes()) <= CODES[number], (number, start.codes())
        seconds[signal.Signals(number).name].append(took)
        print(
            f"{signal.Signals(number).name} to process {victim} at row "
            f"{last_row(disturbed)}: codes {start.codes()} after {took:.1f} s",
            flush=True,
        )
    for workdir in (disturbed, whole):
        start = Start(workdir, cache, flags)
        try:
            start.wait(3600)
        finally:
            start.end()
        assert start.codes() == [0] * PROCESSES, start.log.read_text()[-4000:]
    ends = [_end_of(workdir) for workdir in (disturbed, whole)]
    assert ends[0][0] == ends[1][0] == iterations
    assert ends[0][1] == ends[1][1], "the last checkpoints differ"
    assert rows(disturbed) == rows(whole), "the CSV files differ"
    return seconds


def _end_of(workdir: pathlib.Path) -> tuple[int | None, list[bytes]]:
    """The last checkpoint's iteration and bits, read by one process."""
    config = resumed(read_config(workdir) or {}, {"workdir": str(workdir)})
    run = Run(config)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        latest = checkpoints.latest()
        assert latest is not None
        run.restore(checkpoints, latest)
    return latest, bits_of(run)


def main() -> None:
    """Disturbs, compares, and says how long the ends took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--timeout", type=int, default=10, help="T of the run")
    parser.add_argument("--seed", type=int, default=0, help="of faults and moments")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", PROCESSES)
    with tempfile.TemporaryDirectory() as folder:
        seconds = soak(pathlib.Path(folder), **vars(options))
    for name, found in sorted(seconds.items()):
        print(f"{name}: {len(found)}, ended after {max(found):.1f} s at most")
    print("the last checkpoints are equal bit for bit")


if __name__ == "__main__":
    main()
