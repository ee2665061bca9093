"""Processes that work together end together."""

import fcntl
import json
import signal
import subprocess
import sys
import time

import pytest

from experiments.common import processes

# Writes that it runs, holding a lock, and waits for ever.
WAITING = """
import fcntl, pathlib, sys, time
from experiments.common import processes
processes.end_with_parent()
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
pathlib.Path(sys.argv[1] + ".held").touch()
time.sleep(600)
"""


def wait_until(holds, what):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        time.sleep(0.02)


def is_free(path):
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_failing_process_ends_the_others_and_shows_what_was_printed(tmp_path):
    lock = tmp_path / "lock"
    held = f"{lock}.held"
    fail = (
        "import os, sys, time\n"
        f"while not os.path.exists({held!r}): time.sleep(0.02)\n"
        "sys.exit('lost')"
    )
    commands = [
        [sys.executable, "-c", WAITING, str(lock)],
        [sys.executable, "-c", fail],
    ]
    with pytest.raises(RuntimeError, match=r"exit codes \[None, 1\](.|\n)*lost"):
        processes.run_together(commands, tmp_path)
    assert is_free(lock), "a process outlived one that failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(number, tmp_path):
    lock = tmp_path / "lock"
    commands = [[sys.executable, "-c", WAITING, str(lock)]]
    start = (
        "import json, pathlib, signal, sys\n"
        "from experiments.common import processes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "commands = json.loads(sys.argv[1])\n"
        "processes.run_together(commands, pathlib.Path(sys.argv[2]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", start, json.dumps(commands), str(tmp_path)],
        cwd=processes.ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until((tmp_path / "lock.held").exists, "the process runs")
        assert not is_free(lock)
        parent.send_signal(number)
        assert parent.wait(60) != 0
        wait_until(lambda: is_free(lock), "the process ends")
    finally:
        parent.kill()
        parent.wait()
