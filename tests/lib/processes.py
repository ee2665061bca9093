"""Programs that run together, and end together."""

import os
import pathlib
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_together(commands, folder, timeout):
    """Runs all commands at once; kills all when one fails, or at the timeout.

    Returns:
        The processes, all ended.

    Raises:
        AssertionError: unless all exit with 0, with what each of them printed.
    """
    environment = dict(os.environ)
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *([inherited] if inherited else [])]
    )
    logs = [folder / f"output_{index}.txt" for index in range(len(commands))]
    processes = []
    deadline = time.monotonic() + timeout
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        why = f"not all ended within {timeout} s"
        while time.monotonic() < deadline:
            codes = [process.poll() for process in processes]
            if all(code == 0 for code in codes):
                return processes
            if any(codes):  # a number other than 0: the others would wait for it
                why = f"one failed, of exit codes {codes}"
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    printed = "\n".join(
        f"--- process {index}:\n{log.read_text(errors='replace')}"
        for index, log in enumerate(logs)
    )
    raise AssertionError(f"{why}\n{printed}")
