"""Disturbs a run for an hour, as a cluster does, under a supervisor.

At random moments, by exponential waiting, one of the processes

    is killed                       SIGKILL
    freezes for good                SIGSTOP, until all others have ended
    stalls, for less than T         SIGSTOP and SIGCONT; the run has to go on
    is asked to stop                SIGTERM; all save, and end

and the supervisor starts all again with --resume. After --seconds the run is let come
to its end, and another one, which nothing disturbs, to the same iteration. The last
checkpoints must have the same bits, the CSV files the same rows, and nothing may be
left: no process, port, or file. Printed is the goodput, the time of the iterations that
count, as the undisturbed run has it, over all time. Exits with 1 if anything is
otherwise.
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

from experiments.common import tables
from experiments.faults import leftovers
from experiments.faults.kills import NOBODY_COMES, WAIT_SECONDS
from experiments.faults.runs import SMALL, compare_ends, last_row, save_pictures
from experiments.faults.starts import NOT_JOINED, STOPPED, Start, finish

KILL, FREEZE, STALL, TERM = "kill", "freeze", "stall", "SIGTERM"
CODES = {
    KILL: {STOPPED, -signal.SIGKILL},
    # one that wakes after process 0 is gone may find JAX's abort first
    FREEZE: {STOPPED, -signal.SIGABRT},
    STALL: set(),
    TERM: {STOPPED},
}
"""By fault, how processes may end."""
SAVING = 60
"""Seconds in which a run that is asked to stop has saved, also while it compiles."""
_SOON = 5
"""Seconds within which a process hears of another's end at the least."""


class Fault(NamedTuple):
    """One fault, and what came of it.

    Attributes:
        kind: of CODES.
        seconds: until all had ended; of a stall, how long it was.
        codes: of all processes.
        problem: what was otherwise than promised, or "".
    """

    kind: str
    seconds: float
    codes: list[int | None]
    problem: str


def strike(start: Start, chance: random.Random, timeout: float) -> Fault:
    """One fault to one process, and what comes of it."""
    kind, victim = chance.choice([*CODES]), chance.randrange(len(start.processes))
    if kind == STALL:
        seconds = chance.uniform(0.5, timeout / 2)
        start.send(signal.SIGSTOP, victim)
        time.sleep(seconds)
        start.send(signal.SIGCONT, victim)
        time.sleep(_SOON)
        codes = start.codes()
        went_on = set(codes) == {None}
        problem = "" if went_on else f"did not go on: {start.said()[-500:]}"
        return Fault(kind, seconds, codes, problem)
    number = {KILL: signal.SIGKILL, FREEZE: signal.SIGSTOP, TERM: signal.SIGTERM}[kind]
    start.send(number, victim)
    but = victim if kind == FREEZE else None
    start.others_have_come(victim)
    seconds = start.wait(SAVING + WAIT_SECONDS + 120, but)
    start.send(signal.SIGCONT, victim)
    start.wait(60)
    codes, problems = start.codes(), []
    limit, allowed = (SAVING if kind == TERM else timeout) + 2, CODES[kind]
    if NOT_JOINED in start.said():  # nobody knew yet who should be there
        limit = NOBODY_COMES
        allowed = allowed | {1}
    if kind == TERM and start.rows_done() <= 0:  # before Python hears of signals
        allowed = allowed | {-signal.SIGTERM}
    if not set(codes) <= allowed:
        problems.append(f"codes {codes}: {start.said()[-500:]}")
    if seconds > limit:
        problems.append(f"ended after {seconds:.1f} s, not {limit:.0f}")
    return Fault(kind, seconds, codes, "; ".join(problems))


def soak(
    folder: pathlib.Path,
    *,
    seconds: float,
    mean_between: float,
    processes: int = 3,
    timeout: int = 10,
    seed: int = 0,
) -> list[Fault]:
    """Disturbs one run, and compares it with one that nothing disturbs.

    Args:
        folder: an empty one.
        seconds: for which it is disturbed.
        mean_between: mean seconds from one fault to the next.
        processes: of the run.
        timeout: T, --timeout of the run.
        seed: of faults and moments.

    Raises:
        RuntimeError: if a process outlives all limits.
        AssertionError: if the ends differ, or anything is left behind.
    """
    chance = random.Random(seed)
    limits = (f"--timeout={timeout}", f"--wait_seconds={WAIT_SECONDS}")
    source = save_pictures(folder / "pictures.npz")
    flags = [*SMALL, source, "--iterations=10000000", *limits]
    disturbed, whole = folder / "disturbed" / "run", folder / "whole" / "run"
    for workdir in (disturbed, whole):
        workdir.parent.mkdir()
    shared, began, used = leftovers.shared_memory(), time.monotonic(), []
    found: list[Fault] = []
    memory: list[tuple[int, int]] = []  # iterations of a start, and bytes more
    starts, due = 0, began + chance.expovariate(1 / mean_between)
    while time.monotonic() < began + seconds:
        start = Start(disturbed, flags, processes=processes, more=limits)
        used.append(start.coordinator)
        starts += 1
        first = 0
        try:
            faults = len(found)
            while start.runs_on() and time.monotonic() < began + seconds:
                if not first and start.rows_done() > 50:
                    first = start.memory()
                if time.monotonic() < due:
                    time.sleep(0.05)
                    continue
                if first:
                    memory.append((start.rows_done(), start.memory() - first))
                found.append(strike(start, chance, timeout))
                due = time.monotonic() + chance.expovariate(1 / mean_between)
                _print(time.monotonic() - began, last_row(disturbed), found[-1])
            if not start.runs_on() and len(found) == faults:
                print(f"ended by itself: {start.codes()}, {start.said()[-300:]}")
            if start.runs_on():  # the time is over
                start.send(signal.SIGTERM, 0)
                start.wait(SAVING + 120)
        finally:
            start.end()
    done = last_row(disturbed)
    end = f"--iterations={done + 20 - done % 20}"
    finish(disturbed, flags, processes, *limits, end)
    took = time.monotonic() - began
    finish(whole, [*flags[:-3], end], processes, *limits)
    arrays = compare_ends(disturbed, whole)
    *_, last = tables.read_csv(whole / "metrics.csv")
    useful = float(last["seconds"])
    print(
        f"{arrays} arrays and {last['iteration']} iterations are equal bit for bit\n"
        f"{starts} starts, {len(found)} faults in {took:.0f} s; the iterations take "
        f"{useful:.0f} s undisturbed: goodput {100 * useful / took:.0f} %"
    )
    left = {
        "processes": leftovers.processes(disturbed),
        "ports": leftovers.ports(used),
        "files": leftovers.files(disturbed, whole),
        "temporary files": leftovers.temporary(disturbed.parent / "tmp"),
        "shared memory": sorted(leftovers.shared_memory() - shared),
    }
    print("left behind: " + ", ".join(f"{k} {len(x)}" for k, x in left.items()))
    if memory:
        iterations, more = max(memory)
        print(
            f"memory of all processes after {iterations} iterations without a fault: "
            f"{more / 2**20:+.0f} MiB"
        )
    assert not any(left.values()), left
    return found


def _print(seconds: float, row: int, fault: Fault) -> None:
    print(
        f"{seconds:5.0f} s, row {row}: {fault.kind}, codes {fault.codes} after "
        f"{fault.seconds:.1f} s" + (f"; BUT {fault.problem}" if fault.problem else ""),
        flush=True,
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the command line."""
    parser.add_argument("--seconds", type=float, default=3600, help="of faults")
    parser.add_argument("--mean_between", type=float, default=45, help="seconds")
    parser.add_argument("--processes", type=int, default=3, help="of the run")
    parser.add_argument("--timeout", type=int, default=10, help="T of the run")
    parser.add_argument("--seed", type=int, default=0, help="of faults and moments")


def main(**options: float) -> bool:
    """Disturbs, compares, and sums up; whether all is as promised."""
    logging.set_verbosity(logging.ERROR)  # Orbax tells of each look at a checkpoint
    jax.config.update("jax_num_cpu_devices", 3)  # a worker on each
    with tempfile.TemporaryDirectory() as folder:
        found = soak(pathlib.Path(folder), **options)  # type: ignore[arg-type]
    seconds = collections.defaultdict(list)
    for fault in found:
        seconds[fault.kind].append(fault.seconds)
    for kind, each in sorted(seconds.items()):
        print(f"{kind}: {len(each)}, {max(each):.1f} s at most")
    wrong = [fault for fault in found if fault.problem]
    print(f"{len(found)} faults: {len(wrong)} otherwise than documented")
    return not wrong
