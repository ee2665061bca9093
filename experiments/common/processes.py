"""Processes of one machine that work together, and end together."""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """This process's, by which others find the repository's modules from any folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_parent() -> None:
    """Ends this process, wherever it waits, as soon as its standard input does.

    That is with the process that holds it open, for instance in `run_together`, however
    that one ends.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def run_together(commands: Sequence[Sequence[str]], folder: pathlib.Path) -> None:
    """Runs all commands at once, and waits for them; none outlives this call.

    When one fails, or this is interrupted, the others are killed. Where they call
    `end_with_parent`, they also end when this process is killed.

    Args:
        commands: as for `subprocess.Popen`; the repository's modules can be imported.
        folder: for what they print.

    Raises:
        RuntimeError: unless all exit with 0, with what each of them printed.
    """
    logs = [folder / f"output_{number}.txt" for number in range(len(commands))]
    started: list[subprocess.Popen] = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as output:
                started.append(
                    subprocess.Popen(
                        command,
                        env=environment(),
                        stdin=subprocess.PIPE,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        codes: list[int | None] = [None]
        while None in codes and not any(codes):  # without one the others would wait
            time.sleep(0.05)
            codes = [process.poll() for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
    if any(codes):
        printed = "\n".join(
            f"--- process {number}:\n{log.read_text(errors='replace')}"
            for number, log in enumerate(logs)
        )
        raise RuntimeError(f"a process failed, of exit codes {codes}\n{printed}")


def run_numbered(module: str, count: int) -> None:
    """Runs `python -m MODULE NUMBER HOST:PORT` for each number, and prints it all.

    Args:
        module: an example of several processes, say.
        count: how many run at once; the port is one that nobody listens to.

    Raises:
        RuntimeError: as `run_together`.
    """
    program = [sys.executable, "-m", module]
    coordinator = f"127.0.0.1:{free_port()}"
    commands = [[*program, str(number), coordinator] for number in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run_together(commands, folder)
        for path in sorted(folder.iterdir()):
            lines = path.read_text().splitlines()
            print(*(line for line in lines if not line.startswith("[Gloo]")), sep="\n")
