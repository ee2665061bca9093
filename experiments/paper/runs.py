"""Runs of the GAN program, one after the other, each gone on with where it stopped."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.benchmarks.network.links import Links
from experiments.cifar10_gan.reporting.figures import read_table
from experiments.common.processes import environment
from experiments.common.progress import Progress

PROGRAM = "experiments.cifar10_gan"
PORT = 12379
ARGUMENTS = "arguments.json"
"""In a run's workdir: what it was started with."""


class Planned(NamedTuple):
    """A run that is to be there.

    Attributes:
        name: of the method.
        seed: of everything in it.
        workdir: of the run.
        arguments: of the GAN program, without seed and workdir.
        iterations: when it is done.
    """

    name: str
    seed: int
    workdir: Path
    arguments: Sequence[str]
    iterations: int


class RunFailed(RuntimeError):
    """Raised where the GAN program ends with an error, with its last lines."""


def reached(run: Planned) -> int:
    """The last iteration that a run has logged; 0 for one that is not there."""
    path = run.workdir / "metrics.csv"
    if not path.is_file():
        return 0
    try:
        table = read_table(path)
    except ValueError:  # being written
        return 0
    return max((max(column) for column in table.values() if column), default=0)


def is_done(run: Planned) -> bool:
    """Whether the run has come to its end, and kept it."""
    last = run.workdir / "checkpoints" / str(run.iterations)
    return last.is_dir() and reached(run) >= run.iterations


def check_same(run: Planned) -> None:
    """Checks that a run that is there is the one that is asked for.

    Raises:
        RunFailed: if it was started with other arguments.
    """
    path = run.workdir / ARGUMENTS
    if not path.is_file():
        return
    before = json.loads(path.read_text())
    if before != _fields(run):
        raise RunFailed(
            f"{run.workdir} must hold a run with the arguments {_fields(run)}, got "
            f"{before}; name another --folder, or ask for that run"
        )


def _fields(run: Planned) -> list[str]:
    """The arguments that a run's numbers depend on."""
    apart = (*_OF_PROCESSES, "--iterations")
    return [flag for flag in run.arguments if not flag.startswith(apart)]


def do_all(runs: Sequence[Planned], links: Links | None, every: float = 1.0) -> None:
    """Does what is left of all runs, in order, with progress over all of them.

    Args:
        runs: to be there.
        links: nodes in namespaces, one worker each; None for simulated devices, or
            whatever the arguments say.
        every: seconds between looks at a run.

    Raises:
        RunFailed: if a run ends with an error.
    """
    for run in runs:
        check_same(run)
    total = sum(run.iterations for run in runs)
    before = sum(run.iterations if is_done(run) else reached(run) for run in runs)
    with Progress(total, start=min(before, total), every_seconds=10.0) as progress:
        for place, run in enumerate(runs):
            if is_done(run):
                progress.say(f"{run.name}, seed {run.seed}: done before")
                continue
            done = sum(other.iterations for other in runs[:place])
            later = sum(reached(other) for other in runs[place + 1 :])
            progress.say(f"{run.name}, seed {run.seed}: in {run.workdir}")
            _do(run, links, progress, done + later, every)


def _do(
    run: Planned, links: Links | None, progress: Progress, others: int, every: float
) -> None:
    run.workdir.mkdir(parents=True, exist_ok=True)
    processes = _start(run, links)
    try:
        while None in (codes := [process.poll() for process in processes]):
            if any(codes):
                break  # the others would wait for the one that failed
            time.sleep(every)
            progress.update(min(others + reached(run), others + run.iterations))
    except BaseException:  # an interrupt: the run saves, and can be gone on with
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    if any(process.returncode for process in processes) or not is_done(run):
        log = (run.workdir / "log.txt").read_text(errors="replace")
        raise RunFailed(f"{run.name}, seed {run.seed}, has failed:\n{log[-2000:]}")


def _start(run: Planned, links: Links | None) -> list[subprocess.Popen]:
    resumes = (run.workdir / "config.json").is_file()
    flags = [f"--workdir={run.workdir}"]
    if resumes:
        flags += ["--resume", f"--iterations={run.iterations}"]
        flags += [flag for flag in run.arguments if flag.startswith(_OF_PROCESSES)]
    else:
        flags += [f"--seed={run.seed}", *run.arguments]
        (run.workdir / ARGUMENTS).write_text(json.dumps(_fields(run)))
    command = [sys.executable, "-m", PROGRAM, *flags]
    if links is None:
        return [_process(command, run.workdir / "log.txt")]
    started = []
    for node in range(links.nodes):
        where = [
            f"--processes={links.nodes}",
            f"--process={node}",
            f"--coordinator={links.address(0)}:{PORT}",
        ]
        # gloo finds its address by the host's name, which each node has its own of
        renamed = f'hostname {links.host(node)} && exec "$@"'
        inside = ["unshare", "--uts", "sh", "-c", renamed, "sh", *command, *where]
        log = run.workdir / ("log.txt" if node == 0 else f"log_{node}.txt")
        started.append(_process(links.command(node, *inside), log))
    return started


_OF_PROCESSES = ("--process", "--coordinator", "--wait_seconds", "--data_dir")


def _process(command: Sequence[str], log: Path) -> subprocess.Popen:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
