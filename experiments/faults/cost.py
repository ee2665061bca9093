"""What it costs that nothing hangs: a table of runs with and without what watches.

    alone       three processes by JAX alone: no handshake, no watchdog, no votes
    together    as the program runs them
    replicas    the same with --check_replicas_every=100

In turn, each once in every round. An iteration is the median over rounds of what rows
say, without compiling, saving and scoring; the start is from the start of the processes
to the first row. What an iteration notes, and a check of the replicas, are measured
apart, too, in one process: they are less than the rounds differ by.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import jax

from experiments.common import tables
from experiments.faults.runs import SMALL, save_pictures
from experiments.faults.starts import Start

WAYS = {
    "alone": (),
    "together": (),
    "replicas": ("--check_replicas_every=100",),
}


def seconds_of(
    workdir: pathlib.Path, way: str, flags: list[str], processes: int
) -> tuple[float, float]:
    """Seconds of an iteration, and from the start to the first row.

    Raises:
        RuntimeError: if the run does not end well.
    """
    module = "experiments.cifar10_gan"
    if way == "alone":
        module = "experiments.faults.cost"  # this file, as a program
    more = WAYS[way]
    start = Start(workdir, flags, processes=processes, more=more, module=module)
    try:
        while start.runs_on() and start.rows_done() < 1:
            time.sleep(0.005)
        began = time.monotonic() - start.began
        start.wait(3600)
    finally:
        start.end()
    if any(start.codes()):
        raise RuntimeError(f"ended with {start.codes()}:\n{start.said()[-4000:]}")
    table = tables.read_csv(workdir / "metrics.csv")
    first, last = table[max(len(table) // 4, 1)], table[-1]  # the first are slower
    seconds = float(last["seconds"]) - float(first["seconds"])
    return seconds / (int(last["iteration"]) - int(first["iteration"])), began


def cost(
    folder: pathlib.Path, *, rounds: int, iterations: int, processes: int, width: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of `seconds_of`, by way, for each round."""
    source = save_pictures(folder / "pictures.npz")
    flags = [*SMALL, source, f"--iterations={iterations}", f"--width={width}"]
    flags += ["--log_every=100", "--checkpoint_every=100000", "--score_every=100000"]
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way, each in found.items():
            workdir = folder / f"{way}{number}" / "run"
            workdir.parent.mkdir()
            each.append(seconds_of(workdir, way, flags, processes))
    return {way: each[1:] for way, each in found.items()}  # the first round compiles


def notes(times: int = 100_000) -> float:
    """Seconds of what an iteration notes for the watchdog."""
    from experiments.cifar10_gan.together.crew import Crew

    members = Crew(0, 1, 300, {})
    began = time.perf_counter()
    for iteration in range(times):
        members.progress.enter("data", iteration)
        members.progress.enter("step", iteration)
        members.progress.hand(iteration, None)
        members.stops(iteration)
    return (time.perf_counter() - began) / times


def check(width: int, times: int = 20) -> float:
    """Seconds of one check of the replicas of three simulated devices."""
    import dataclasses

    from experiments.cifar10_gan.digests import digests
    from experiments.cifar10_gan.run import Run
    from experiments.cifar10_gan.train import check_replicas
    from experiments.faults.flip_bits import SMALL as CONFIG

    run = Run(dataclasses.replace(CONFIG, width=width, workers=3, optimizer="sgd"))
    jax.block_until_ready(run.training)
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        digests(run.training)
        check_replicas(run)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the command line."""
    parser.add_argument("--rounds", type=int, default=5, help="of each way")
    parser.add_argument("--iterations", type=int, default=1000, help="of a run")
    parser.add_argument("--processes", type=int, default=3, help="of a run")
    parser.add_argument("--width", type=int, default=4, help="of its networks")


def main(**options: int) -> bool:
    """Measures, and prints the table."""
    jax.config.update("jax_num_cpu_devices", 3)  # a worker on each
    with tempfile.TemporaryDirectory() as folder:
        found = cost(pathlib.Path(folder), **options)
    base = statistics.median(seconds for seconds, _ in found["alone"])
    print(f"{'':10s} {'ms an iteration':>22s} {'beside alone':>14s} {'start, s':>18s}")
    for way, each in found.items():
        iteration, start = ([x[i] for x in each] for i in range(2))
        middle = statistics.median(iteration)
        print(
            f"{way:10s} {1e3 * middle:8.2f} "
            f"({1e3 * min(iteration):5.2f}..{1e3 * max(iteration):5.2f}) "
            f"{100 * (middle / base - 1):+13.1f} % "
            f"{statistics.median(start):7.1f} ({min(start):.1f}..{max(start):.1f})"
        )
    noted, checked = notes(), check(options["width"])
    print(
        f"an iteration's notes: {1e6 * noted:.1f} us, {100 * noted / base:.3f} % of it"
        f"\na check of the replicas: {1e3 * checked:.1f} ms, {checked / base:.2f} % of "
        "100 iterations"
    )
    return True


def alone(flags: list[str]) -> None:
    """The program without what holds its processes together."""
    from absl import app

    from experiments.cifar10_gan import __main__ as program
    from experiments.cifar10_gan.together import starting

    starting.join = lambda config, *, resume=False: None
    app.run(program.main, [sys.argv[0], *flags])


if __name__ == "__main__":
    alone(sys.argv[1:])
