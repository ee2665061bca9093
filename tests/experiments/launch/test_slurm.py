"""A job of three processes under Slurm's own daemons, on this machine's loopback."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from experiments.common.processes import free_port
from experiments.faults.runs import rows, save_pictures
from tests.lib import launched

pytestmark = pytest.mark.skipif(
    not (shutil.which("slurmctld") and shutil.which("slurmd") and os.geteuid() == 0),
    reason="needs Slurm, and root for it: apt-get install slurmctld slurmd",
)
ITERATIONS = 120
# tasks share the cores there are; a requeued job begins after cred_expire
CONFIGURATION = """
ClusterName=one
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
ReturnToService=2
KillWait=30
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 CPUs=16 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs a command of Slurm's, and returns what it prints."""
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    path = folder / "slurm.conf"
    ports = {"controller": free_port(), "node": free_port()}
    path.write_text(CONFIGURATION.format(folder=folder, **ports))
    variables = {
        "SLURM_CONF": str(path),
        "JAX_COORDINATOR_PORT": str(free_port()),
    }
    environment = launched.environment(tmp_path / "cache", **variables)

    def ask(*command):
        return subprocess.run(
            command,
            env=environment,
            cwd=launched.ROOT,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    daemons = []
    try:
        for name in ("slurmctld", "slurmd"):
            with (folder / f"{name}.out").open("wb") as output:
                daemons.append(
                    subprocess.Popen(
                        [name, "-D", "-f", str(path)],
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        until = time.monotonic() + 60
        while "idle" not in _answer(ask, "sinfo", "--noheader"):
            assert time.monotonic() < until, (folder / "slurmctld.out").read_text()
            time.sleep(0.2)
        yield ask
        _answer(ask, "scancel", "--user=root", "--full")
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=60)


def _answer(ask, *command):
    try:
        return ask(*command)
    except subprocess.CalledProcessError:  # it is not there yet, or has nothing to do
        return ""


def wait_for_row(slurm, job, workdir, iteration, output):
    until = time.monotonic() + 400
    while launched.last_row(workdir) < iteration:
        state = slurm("squeue", "--noheader", f"--jobs={job}", "--format=%T")
        assert state, f"the job is over:\n{output.read_text()}"
        assert time.monotonic() < until, output.read_text()
        time.sleep(0.2)


def test_a_job_is_requeued_and_goes_on_to_the_bit(tmp_path, slurm):
    source = save_pictures(tmp_path / "pictures.npz")
    flags = (source, *launched.TINY, f"--iterations={ITERATIONS}")
    workdir, output = tmp_path / "run", tmp_path / "output.txt"
    job = slurm(
        "sbatch",
        "--parsable",
        "--nodes=1",
        "--ntasks-per-node=3",
        "--cpus-per-task=1",
        f"--output={output}",
        "experiments/launch/slurm.sh",
        str(workdir),
        *flags,
    ).strip()
    wait_for_row(slurm, job, workdir, 7, output)
    slurm("scancel", "--signal=TERM", job)  # as --signal does before the time is over
    wait_for_row(slurm, job, workdir, 60, output)
    launched.send(signal.SIGKILL, workdir, ("SLURM_PROCID", "1"))
    while "COMPLETED" not in (told := slurm("scontrol", "show", "job", job)):
        assert "FAILED" not in told, output.read_text()
        time.sleep(0.5)
    text = output.read_text()
    assert "ended with 75, requeued" in text, text
    assert "ended with 137, requeued" in text, text
    assert "Restarts=2" in told
    assert "3 cpu devices of 3 processes" in text

    launched.run_undisturbed(tmp_path / "whole", flags, tmp_path / "cache")
    assert rows(workdir) == rows(tmp_path / "whole")
