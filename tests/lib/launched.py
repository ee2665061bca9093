"""Runs of the GAN program by a launcher: flags, and the processes of one."""

import os
import pathlib
import subprocess
import sys
import time

from experiments.common.processes import free_port
from experiments.faults.runs import last_row
from tests.lib.helpers import plainly_compiled

ROOT = pathlib.Path(__file__).parents[2]
START = str(ROOT / "experiments" / "launch" / "start_or_resume.sh")
TINY = (
    "--batch_size=2",
    "--width=4",
    "--latent=16",
    "--log_every=1",
    "--score_every=100",
    "--score_samples=8",
    "--checkpoint_every=5",
    "--notensorboard",
)


def environment(cache, **variables):
    """Of a launcher's processes; what one start compiles, the next ones do not."""
    return plainly_compiled(
        PYTHONPATH=str(ROOT),
        PYTHON=sys.executable,
        JAX_COMPILATION_CACHE_DIR=str(cache),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        **variables,
    )


def run_undisturbed(workdir, flags, cache):
    """By three processes, without a launcher: their numbers and address are flags."""
    where = f"--coordinator=127.0.0.1:{free_port()}"
    program = [sys.executable, "-m", "experiments.cifar10_gan", *flags, where]
    program += [f"--workdir={workdir}", "--processes=3"]
    started = [
        subprocess.Popen(
            [*program, f"--process={process}"],
            env=environment(cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(3)
    ]
    try:
        outputs = [process.communicate(timeout=400)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output


def wait_for_row(workdir, iteration, process, seconds=400):
    """Returns when the run's table has the row of an iteration."""
    until = time.monotonic() + seconds
    while last_row(workdir) < iteration:
        assert process.poll() is None, "it has ended before"
        assert time.monotonic() < until, f"no row {iteration} in {seconds} s"
        time.sleep(0.02)


def processes_of(workdir, rank=None):
    """The ids of a run's processes that are there; `rank` is ("VARIABLE", "1")."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile, or is another user's
            continue
        if b"experiments.cifar10_gan" not in words:
            continue
        if f"--workdir={workdir}".encode() not in words:
            continue
        if rank is None or f"{rank[0]}={rank[1]}".encode() in variables:
            found.append(int(path.name))
    return found


def send(number, workdir, rank):
    """Sends a signal to one process of a run."""
    (process,) = processes_of(workdir, rank)
    os.kill(process, number)
