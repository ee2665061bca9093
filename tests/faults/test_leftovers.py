"""What is left behind is found; and the programs say what they can be told."""

import socket
import subprocess
import sys

import pytest

from experiments.common.processes import environment
from experiments.faults import leftovers, runs

pytestmark = pytest.mark.quick


def test_processes_ports_and_files_that_are_left(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    command = "import sys; print(1, flush=True); sys.stdin.read()"
    flag = f"--workdir={one}"
    with subprocess.Popen(
        [sys.executable, "-c", command, flag],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert leftovers.processes(one) == [process.pid]
        assert leftovers.processes(other) == []
        process.communicate()
    assert leftovers.processes(one) == []

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert leftovers.ports([address]) == [address]
    assert leftovers.ports([address]) == []

    for folder in (one, other):
        (folder / "checkpoints" / "5").mkdir(parents=True)
        (folder / "metrics.csv").touch()
        (folder / "checkpoints" / "5" / str(folder.name)).touch()
    assert leftovers.files(one, other) == []
    (one / "checkpoints" / "6.tmp").mkdir()
    (one / "checkpoints" / "6.tmp" / "data").touch()
    assert leftovers.files(one, other) == ["checkpoints/6.tmp"]


def test_rows_are_read_without_their_seconds_and_a_half_row_not(tmp_path):
    path = tmp_path / "metrics.csv"
    assert runs.last_row(tmp_path) == -1
    path.write_text("iteration,seconds,seconds_in_all,loss\n2,0.1,0.2,3\n4,0.3,")
    assert runs.last_row(tmp_path) == 2
    path.write_text("iteration,seconds,seconds_in_all,loss\n2,0.1,0.2,3\n")
    (row,) = runs.rows(tmp_path)
    assert row == {"iteration": "2", "seconds": "", "seconds_in_all": "", "loss": "3"}


def test_the_programs_say_what_they_can_be_told():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.faults", "soak", "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--mean_between" in done.stdout
