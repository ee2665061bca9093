"""Three processes by mpirun, killed and resumed: the rows of an undisturbed run."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from experiments.common.processes import free_port
from experiments.faults.runs import rows, save_pictures
from tests.lib import launched

pytestmark = pytest.mark.skipif(
    shutil.which("mpirun") is None or not os.path.isdir("/proc"),
    reason="needs mpirun: apt-get install openmpi-bin",
)
ITERATIONS = 100
LOOPBACK = {
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "OMPI_MCA_btl": "self,vader",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}
"""All that listens does so there."""


@pytest.fixture
def start(tmp_path):
    """Starts the program by mpirun; nothing outlives a test that fails."""
    started = []

    def begin(workdir, *arguments, **variables):
        variables = {**LOOPBACK, "JAX_COORDINATOR_PORT": str(free_port()), **variables}
        command = ["mpirun", "--oversubscribe", "-n", "3", launched.START]
        process = subprocess.Popen(
            [*command, str(workdir), *arguments],
            env=launched.environment(tmp_path / "cache", **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()  # its processes end with it
        process.communicate()


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    source = save_pictures(tmp_path_factory.mktemp("pictures") / "pictures.npz")
    return source, *launched.TINY, f"--iterations={ITERATIONS}"


def test_a_killed_rank_ends_all_and_they_resume_to_the_bit(tmp_path, start, flags):
    """Codes: 137 by mpirun, 75 after SIGTERM, 1 if refused, 0 at the end."""
    workdir = tmp_path / "run"
    killed = start(workdir, *flags)
    launched.wait_for_row(workdir, 7, killed)
    launched.send(signal.SIGKILL, workdir, ("OMPI_COMM_WORLD_RANK", "1"))
    output = killed.communicate(timeout=400)[0]
    assert killed.returncode == 137, output
    assert launched.processes_of(workdir) == [], "all have ended"

    refused = start(workdir, *flags, "--bits=8")
    output = refused.communicate(timeout=400)[0]
    assert refused.returncode == 1, output
    assert "bits must be 4 as in the run to resume, got 8" in output

    stopped = start(workdir, *flags)
    launched.wait_for_row(workdir, 17, stopped)
    launched.send(signal.SIGTERM, workdir, ("OMPI_COMM_WORLD_RANK", "2"))
    output = stopped.communicate(timeout=400)[0]
    assert stopped.returncode == 75, output
    assert "and saved it; go on by --resume" in output

    last = start(workdir, "--preset=quickstart", *flags)
    output = last.communicate(timeout=400)[0]
    assert last.returncode == 0, output
    assert "3 cpu devices of 3 processes" in output

    launched.run_undisturbed(tmp_path / "whole", flags, tmp_path / "cache")
    assert len(rows(workdir)) == ITERATIONS + 1
    assert rows(workdir) == rows(tmp_path / "whole")


ASK = """
from experiments.cifar10_gan.launchers import placed
found = placed({"processes": "mpi4py"})
print(found["process"], found["processes"], found["coordinator"])
"""


def test_mpi4py_counts_the_processes_of_any_mpi(tmp_path):
    pytest.importorskip("mpi4py")
    variables = {**LOOPBACK, "JAX_COORDINATOR_PORT": "7"}
    done = subprocess.run(
        ["mpirun", "--oversubscribe", "-n", "3", sys.executable, "-c", ASK],
        env=launched.environment(tmp_path / "cache", **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in sorted(done.stdout.splitlines())]
    assert [line[:2] for line in told] == [["0", "3"], ["1", "3"], ["2", "3"]]
    (where,) = {line[2] for line in told}
    assert where.endswith(":7"), "all are told the same"
