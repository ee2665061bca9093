"""The main job in two real processes: the rows of one process with two devices."""

import subprocess
import sys

import pytest

from experiments.common.processes import free_port
from experiments.faults.runs import rows, save_pictures
from tests.lib.helpers import plainly_compiled

TINY = (
    "--workers=2",
    "--iterations=2",
    "--batch_size=2",
    "--width=4",
    "--latent=16",
    "--log_every=1",
    "--score_every=2",
    "--score_samples=8",
    "--notensorboard",
)


def start(workdir, *arguments):
    command = [sys.executable, "-m", "experiments.cifar10_gan", *TINY, *arguments]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        env=plainly_compiled(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_write_the_rows_of_one(tmp_path):
    """Each gathers its own worker's pictures; the first alone writes and scores."""
    source = save_pictures(tmp_path / "pictures.npz")
    several = (source, "--processes=2", f"--coordinator=127.0.0.1:{free_port()}")
    running = [
        start(tmp_path / "two", *several, f"--process={process}")
        for process in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output
    assert "2 cpu devices of 2 processes" in outputs[0]
    assert "sliced Wasserstein" in outputs[0]
    assert "sliced Wasserstein" not in outputs[1], "the second process scores too"
    assert "{" not in outputs[0], "the configuration is in config.json"
    assert "2 workers" not in outputs[1], "the second process tells the facts too"
    alone = start(tmp_path / "one", source)
    output = alone.communicate(timeout=300)[0]
    assert alone.returncode == 0, output
    expected = rows(tmp_path / "one")
    assert [row["iteration"] for row in expected] == ["0", "1", "2"]
    assert rows(tmp_path / "two") == expected


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_join_are_named(tmp_path, process):
    """Process 1 has nobody to ask at the port, process 0 has nobody to answer."""
    where = f"127.0.0.1:{free_port()}"
    given = ("--processes=2", f"--process={process}", f"--coordinator={where}")
    alone = start(tmp_path / "run", *given, "--wait_seconds=2")
    output = alone.communicate(timeout=60)[0]
    assert alone.returncode == 1, output
    who = "all 2 processes to join at" if process == 0 else "process 0 at"
    assert f"process {process} waits for {who} {where}" in output
    assert "for 2 s at most (--wait_seconds)" in output
    assert "TimeoutError: processes must have joined after 2 s" in output
    assert "stack trace" not in output
    assert "Traceback" not in output
