"""The processes of a run: started, watched and ended, as a supervisor does."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from experiments.common.processes import environment, free_port
from experiments.faults.runs import QUICKLY, last_row

STOPPED = 75
"""By which a run ends that is to be started again."""
NOT_JOINED = "processes must have joined after"
"""Of those that wait at the start for one that does not come."""


class Start:
    """One start of all processes of a run, resumed where there is what to resume.

    Attributes:
        began: the moment, by time.monotonic().
        coordinator: where they meet.
        log: what all of them print.
        processes: the processes, by number.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        flags: Sequence[str],
        *,
        processes: int,
        more: Sequence[str] = (),
        module: str = "experiments.cifar10_gan",
    ) -> None:
        """Starts them: `flags` are those of a new run, `more` of any."""
        self.began, self.workdir = time.monotonic(), workdir
        self.row = last_row(workdir)
        self.coordinator = f"127.0.0.1:{free_port()}"
        is_there = (workdir / "config.json").exists()
        given = ["--resume"] if is_there else list(flags)
        given += [f"--workdir={workdir}", f"--stop_code={STOPPED}", *more]
        if processes > 1:
            given += [f"--processes={processes}", f"--coordinator={self.coordinator}"]
        home = workdir.parent
        (home / "tmp").mkdir(exist_ok=True)
        variables = {
            **environment(),
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}",
            # a start should not compile again what was compiled before
            "JAX_COMPILATION_CACHE_DIR": str(home.parent / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TMPDIR": str(home / "tmp"),
        }
        program = [sys.executable, "-m", module, *given]
        self.log = home / "last_start.txt"
        with self.log.open("wb") as output:
            self.processes = [
                subprocess.Popen(
                    [*program, *([f"--process={k}"] if processes > 1 else [])],
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
                for k in range(processes)
            ]

    def codes(self) -> list[int | None]:
        """How each has ended; None: it has not."""
        return [process.poll() for process in self.processes]

    def said(self) -> str:
        """What they have printed."""
        return self.log.read_text(errors="replace")

    def runs_on(self) -> bool:
        """Whether none has ended."""
        return set(self.codes()) == {None}

    def others_have_come(self, victim: int) -> list[int]:
        """All but one, once they look for each other, or have ended.

        --wait_seconds counts from there.
        """
        others = [k for k in range(len(self.processes)) if k != victim]
        while True:
            said, codes = self.said(), self.codes()
            waits = [f"process {k} waits for " in said for k in others]
            if all(
                w or codes[k] is not None for w, k in zip(waits, others, strict=True)
            ):
                return others
            time.sleep(0.01)

    def rows_done(self) -> int:
        """Iterations of rows since this start."""
        return last_row(self.workdir) - self.row

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
                    + self.said()[-4000:]
                )
            time.sleep(0.01)
        return time.monotonic() - began

    def send(self, number: int, process: int) -> None:
        """Sends a signal to one of them, which may have ended."""
        self.processes[process].send_signal(number)

    def end(self) -> None:
        """Kills what is left."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def memory(self) -> int:
        """Bytes of memory that the processes hold together."""
        total = 0
        for process in self.processes:
            try:
                text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                continue
            kept = [x.split()[1] for x in text.split("\n") if x.startswith("VmRSS:")]
            total += 1024 * int(kept[0]) if kept else 0
        return total


def finish(
    workdir: pathlib.Path, flags: Sequence[str], processes: int, *more: str
) -> Start:
    """Runs to the end, undisturbed.

    Raises:
        RuntimeError: if it does not end well.
    """
    start = Start(workdir, flags, processes=processes, more=more)
    try:
        start.wait(24 * 3600)
    finally:
        start.end()
    if any(start.codes()):
        raise RuntimeError(f"ended with {start.codes()}:\n{start.said()[-4000:]}")
    return start
