"""Three processes of a run, one of which may have a fault, and how each ended."""

import contextlib
import re
import signal
import subprocess
import sys
import time

from experiments.common.processes import free_port
from tests.lib import launched

SMALL = (
    "--workers=3",
    "--batch_size=2",
    "--width=4",
    "--latent=16",
    "--log_every=1",
    "--score_every=100000",
    "--score_samples=8",
    "--checkpoint_every=5",
    "--notensorboard",
    "--devices=simulated",
    "--optimizer=sgd",  # compiled in a fraction of the time
    "--bits=32",
    "--timeout=10",
    "--iterations=100000",
)


class Rank:
    """One process; `ended` is the moment, on the clock of time.time()."""

    def __init__(self, command, env, log):
        self.log, self.ended = log, None
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def code(self):
        code = self.process.poll()
        if code is not None and self.ended is None:
            self.ended = time.time()
        return code

    @property
    def text(self):
        return self.log.read_text(errors="replace")

    @property
    def last(self):
        return self.text.strip().splitlines()[-1]

    def send(self, number):
        self.process.send_signal(number)


class Ranks(list):
    """All of a run."""

    def wait(self, seconds=240, but=()):
        """Until all have ended, but for some."""
        until = time.monotonic() + seconds
        waited = [rank for i, rank in enumerate(self) if i not in but]
        while None in {rank.code for rank in waited}:
            assert time.monotonic() < until, self.report()
            time.sleep(0.02)
        return self

    def report(self):
        return "\n".join(
            f"--- process {i}, code {rank.code}\n{rank.text[-3000:]}"
            for i, rank in enumerate(self)
        )

    @property
    def codes(self):
        return [rank.code for rank in self]

    @property
    def struck(self):
        """The moment at which the fault came."""
        found = [re.search(r"^FAULT .* at (.*)$", r.text, re.MULTILINE) for r in self]
        return float(next(match[1] for match in found if match))

    def seconds(self, but=()):
        """From the fault to the end of the last one."""
        last = max(rank.ended for i, rank in enumerate(self) if i not in but)
        return last - self.struck


@contextlib.contextmanager
def running(
    folder,
    workdir,
    *flags,
    faults=None,
    each=None,
    through=None,
    count=3,
    resume=False,
):
    """Starts them: faults, own flags and proxies to process 0, by rank."""
    where, started = f"127.0.0.1:{free_port()}", Ranks()
    source = f"--source={folder / 'pictures.npz'}"
    given = ("--resume", "--timeout=10") if resume else (source, *SMALL)
    for number in range(count):
        env = launched.environment(folder / "cache")
        if number in (faults or {}):
            env["FAULT"] = faults[number]
        command = [sys.executable, "-m", "tests.faults.injected", *given]
        command += [f"--workdir={workdir}", f"--processes={count}"]
        command += [f"--coordinator={where}", f"--process={number}", *flags]
        command += (each or {}).get(number, ())
        if number in (through or {}):
            through[number].target = ("127.0.0.1", int(where.rpartition(":")[2]))
            command += [f"--coordinator={through[number].address}"]
        log = folder / f"{workdir.name}-{time.time_ns()}-{number}.txt"
        started.append(Rank(command, env, log))
    try:
        yield started
    finally:
        for rank in started:
            if rank.process.poll() is None:
                rank.send(signal.SIGCONT)
                rank.process.kill()
            rank.process.wait()
