"""The exchange benchmark: command, bytes, columns, processes; nothing is timed."""

import fcntl
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.benchmarks import exchange_calls, exchange_table, processes, tables
from experiments.benchmarks.exchange_calls import BFLOAT16, EXACT, Case
from tests.lib.helpers import mesh_of, plainly_compiled


def test_the_command_measures_on_devices_and_on_processes(tmp_path):
    folder = tmp_path / "folder"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.benchmarks.exchange",
            "--workers=2",
            "--collectives=reduce_scatter,hierarchical",
            "--bits=4",
            "--exponents=10",
            "--rounds=2",
            f"--output={folder}",
        ],
        env=plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "hierarchical is left out at the prime K = 2" in done.stdout
    rows = tables.read_csv(folder / "exchange.csv")
    found = [(row["where"], row["collective"], row["sent bytes"]) for row in rows]
    # of K = 2: exact sends a vector, of 1024 * 4 bytes; reduce_scatter twice half a
    # payload, of 512 / 2 + 4 bytes with its norm
    by_case = [("exact", "4096"), ("bf16", "2048"), ("reduce_scatter", "520")]
    assert found == [(w, *case) for w in ("devices", "processes") for case in by_case]
    for row in rows:
        assert float(row["ms"]) >= float(row["ms, best"]) > 0
        bound = 4096 / int(row["sent bytes"])
        assert float(row["volume bound"]) == pytest.approx(bound)
        reached = float(row["speed-up"]) / bound
        assert float(row["efficiency"]) == pytest.approx(reached)
    assert "efficiency" in done.stdout
    assert (folder / "exchange.png").read_bytes().startswith(b"\x89PNG")


def test_cases_and_their_bytes():
    names = exchange_calls.COLLECTIVES
    assert [exchange_calls.grid(k) for k in (2, 3, 4, 6, 9)] == [
        None,
        None,
        (2, 2),
        (3, 2),
        (3, 3),
    ]
    of_three = exchange_calls.create_cases(3, names, [8])
    assert [x.collective for x in of_three] == [
        "exact",
        "bf16",
        "all_gather",
        "reduce_scatter",
    ]
    assert exchange_calls.create_cases(4, names, [8])[-1] == Case("hierarchical", 8)
    # K = 4 and 2^13 coordinates: rings send 2 * 3/4 of a vector; a payload at 8 bits is
    # 2^13 bytes of codes and 8 norms; chips exchange half a vector each way, hosts a
    # payload of the other half
    sent = {
        case.collective: exchange_calls.sent_bytes(case, 2**13, 4)
        for case in exchange_calls.create_cases(4, names, [8])
    }
    assert sent == {
        "exact": 3 * 2**14,
        "bf16": 3 * 2**13,
        "all_gather": 3 * (2**13 + 32),
        "reduce_scatter": 2 * 3 * (2**11 + 8),
        "hierarchical": 2 * 2**14 + 2**12 + 16,
    }


@pytest.mark.usefixtures("compiled_plainly")
def test_what_is_timed_is_the_mean_of_the_workers():
    size, cases = 64, [EXACT, BFLOAT16, Case("hierarchical", 8)]
    calls = exchange_calls.create_calls(cases, size, list(mesh_of(4).devices.flat))
    rows = [np.random.default_rng([0, k]).normal(size=size) for k in range(4)]
    exact, bf16, quantized = (np.asarray(call()) for call in calls.values())
    np.testing.assert_allclose(exact, np.mean(rows, axis=0), atol=1e-6)
    np.testing.assert_allclose(bf16, exact, atol=2**-8 * np.abs(rows).max())
    assert not np.array_equal(bf16, exact)
    np.testing.assert_allclose(quantized, exact, atol=np.abs(rows).max() / 127)
    assert not np.array_equal(quantized, exact)
    assert list(calls) == ["exact, 32 bits", "bf16, 16 bits", "hierarchical, 8 bits"]


def test_columns_by_hand():
    seconds = exchange_table.slowest([[[2.0, 6, 1]], [[4.0, 1, 8]]])
    np.testing.assert_array_equal(seconds, [[4, 6, 8]])
    row = exchange_table.columns(seconds[0], np.array([12.0, 15, 10]), 50, 200)
    assert row == {
        "sent bytes": 50,
        "volume bound": 4,
        "ms": 6000,
        "speed-up": 2,  # medians 12 and 6
        "efficiency": 0.5,
        "ms, best": 4000,
        "speed-up, best": 2.5,  # minima 10 and 4
        "efficiency, best": 0.625,
    }


# Writes that it runs, holding a lock, and waits for ever.
WAITING = """
import fcntl, pathlib, sys, time
from experiments.benchmarks import processes
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
        "from experiments.benchmarks import processes\n"
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
