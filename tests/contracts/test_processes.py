"""Processes joined by sockets: the bits of simulated devices, identical replicas."""

import os
import pathlib
import sys
import time

import numpy as np
import pytest

from tests.lib import process_worker
from tests.lib.helpers import mesh_of
from tests.lib.processes import free_port, run_together

plainly = pytest.mark.plainly
TIMEOUT = 120  # seconds


def results_of_processes(count, folder):
    """{name: array} of every process."""
    coordinator = f"127.0.0.1:{free_port()}"
    files = [folder / f"process_{process}.npz" for process in range(count)]
    program = str(pathlib.Path(process_worker.__file__))
    arguments = [
        [coordinator, str(count), str(process), str(file)]
        for process, file in enumerate(files)
    ]
    processes = run_together(
        [[sys.executable, program, *each] for each in arguments], folder, TIMEOUT
    )
    assert all(p.poll() is not None for p in processes), "left running"
    found = []
    for file in files:
        with np.load(file) as arrays:
            found.append(dict(arrays))
    return found


def as_bytes(array):
    """Every bit, of NaNs and signed zeros too."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=plainly)])
def test_processes_get_the_bits_of_simulated_devices(count, tmp_path):
    """One worker per process, its data known to itself only."""
    found = results_of_processes(count, tmp_path)
    of_exchanges = process_worker.exchanges_of(count)
    variants = process_worker.variants_of(count)
    simulated = {
        name: np.asarray(array)
        for name, array in process_worker.results(mesh_of(count)).items()
    }
    exchanges = trajectories = 0
    for process, arrays in enumerate(found):
        assert arrays.keys() == simulated.keys(), "other results than simulated"
        for name, array in arrays.items():
            of_worker = process_worker.is_per_worker(name)
            expected = simulated[name]
            if of_worker:
                expected = expected[process : process + 1]
            else:
                np.testing.assert_array_equal(
                    as_bytes(array),
                    as_bytes(found[0][name]),
                    err_msg=f"replica {process} differs from replica 0 in {name}",
                )
            assert array.shape == expected.shape, name
            assert array.dtype == expected.dtype, name
            where = f"{name} of process {process} differs from the simulated device's"
            if name.startswith("['exchange']"):
                exchanges += 1
                np.testing.assert_array_equal(
                    as_bytes(array), as_bytes(expected), err_msg=where
                )
            elif array.dtype == np.float32:
                trajectories += 1
                np.testing.assert_allclose(
                    array, expected, rtol=1e-5, atol=1e-5, err_msg=where
                )
            else:  # keys and counters
                np.testing.assert_array_equal(array, expected, err_msg=where)
    # of each process: mean, own vector, numbers and key of each exchange
    assert exchanges == count * 4 * len(of_exchanges)
    assert trajectories >= count * 6 * len(variants)
    for variant in variants:
        moved = np.abs(found[0][f"['q_genx']['{variant}']['x']['x']"]).max()
        assert moved > 0.01, f"{variant} went nowhere"
    for how in of_exchanges:
        own = [arrays[f"['exchange'][{how}]['own']"] for arrays in found]
        assert not np.array_equal(own[0], own[1]), "workers have the same data"
        if "reduce_scatter" in how:
            continue  # rounds the mean once more
        mean = np.mean(np.stack(own).astype(np.float64), axis=(0, 1))
        np.testing.assert_allclose(
            found[0][f"['exchange'][{how}]['mean']"],
            mean,
            atol=1e-6,
            err_msg="the mean is not that of the processes' own vectors",
        )


def test_the_timeout_ends_all_processes_and_shows_their_output(tmp_path):
    """The harness itself: nothing hangs, and nothing is left running."""
    sleep = "import os, time; print('process', os.getpid(), flush=True); time.sleep(60)"
    fail = "import time; time.sleep(0.2); raise SystemExit('lost')"
    commands = [[sys.executable, "-c", sleep]] * 2
    with pytest.raises(AssertionError, match=r"within 2 s(.|\n)*process \d+") as caught:
        run_together(commands, tmp_path, timeout=2)
    printed = [line.split() for line in str(caught.value).splitlines()]
    pids = [int(words[1]) for words in printed if words[:1] == ["process"]]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    begin = time.monotonic()
    commands = [[sys.executable, "-c", sleep], [sys.executable, "-c", fail]]
    with pytest.raises(AssertionError, match=r"one failed(.|\n)*lost"):
        run_together(commands, tmp_path, timeout=60)
    assert time.monotonic() - begin < 30, "waited for a process that had lost another"
