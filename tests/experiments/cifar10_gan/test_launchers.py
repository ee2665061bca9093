"""What launchers say of their processes; mpirun and srun for real are in launch/."""

import os
import sys
import types

import jax
import pytest

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.launchers import LAUNCHERS, placed
from experiments.cifar10_gan.resuming import PLACEMENT, recorded, resumed

pytestmark = pytest.mark.quick

OMPI = {
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1276510208.0;tcp://10.0.0.1:58843",
    "PMIX_RANK": "1",
}
"""As Open MPI 4.1 sets them: a job is a multiple of 2^12, this one 311648."""
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "node[001-003],far7",
    "SLURM_STEP_NUM_TASKS": "3",
}
SBATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "3", "SLURM_PROCID": "0"}
"""In a batch script, outside of srun, as Slurm 22.05 sets them."""
K8S = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "2"}
EPHEMERAL = 65535 - 2**12 + 1
"""The first port that JAX takes, plus the job's number modulo 2^12."""


@pytest.fixture
def environment(monkeypatch):
    """Of no launcher, to be updated with one's variables."""
    for name in list(os.environ):
        if name.startswith(("OMPI_", "SLURM_", "PMI", "KUBERNETES_", "JAX_COORD")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)

    def update(*kinds, **variables):
        for kind in (*kinds, variables):
            for name, value in kind.items():
                monkeypatch.setenv(name, value)

    return update


@pytest.fixture
def cluster(monkeypatch):
    """The client of a Kubernetes cluster that holds one JobSet of three processes."""

    class Api:
        def __init__(self):
            labels = {"job-name": "gan-workers-0"}
            owner = types.SimpleNamespace(controller=True, kind="Job")
            self.pod = types.SimpleNamespace(
                metadata=types.SimpleNamespace(
                    labels=labels, owner_references=[owner], name="gan-workers-0-2"
                ),
                spec=types.SimpleNamespace(subdomain="gan"),
            )
            self.job = types.SimpleNamespace(
                metadata=types.SimpleNamespace(
                    name="gan-workers-0",
                    labels={"jobset.sigs.k8s.io/jobset-name": "gan"},
                ),
                spec=types.SimpleNamespace(parallelism=3),
            )

    api = Api()
    read = LAUNCHERS["k8s"].cluster
    client = types.SimpleNamespace(
        CoreV1Api=Api,
        BatchV1Api=Api,
        exceptions=types.SimpleNamespace(ApiException=RuntimeError),
    )
    module = types.ModuleType("kubernetes")
    monkeypatch.setattr(module, "client", client, raising=False)
    config = types.SimpleNamespace(load_incluster_config=lambda: None)
    monkeypatch.setattr(module, "config", config, raising=False)
    monkeypatch.setitem(sys.modules, "kubernetes", module)
    monkeypatch.setattr(read, "_pod", lambda: api.pod)
    monkeypatch.setattr(read, "_job", lambda: api.job)
    monkeypatch.setattr(
        read, "_controller", lambda: api.pod.metadata.owner_references[0]
    )
    monkeypatch.setattr("socket.gethostbyname", lambda name: "10.0.0.7")
    return api


AUTO = {"processes": "auto", "bits": 8}


@pytest.mark.parametrize(
    ("variables", "process", "coordinator"),
    [
        (OMPI, 1, f"10.0.0.1:{EPHEMERAL + 311648 % 2**12}"),
        (SLURM, 2, f"node001:{EPHEMERAL + 7}"),
        ({**OMPI, **SLURM, "SLURM_PROCID": "1"}, 1, None),
        ({**OMPI, **SBATCH}, 1, None),
        ({**SLURM, "PMI_RANK": "2"}, 2, None),
    ],
    ids=["mpirun", "srun", "both agree", "mpirun in a batch script", "srun by PMI"],
)
def test_launchers_say_what_they_have_launched(
    environment, variables, process, coordinator
):
    environment(variables)
    found = placed(AUTO)
    coordinator = coordinator or found["coordinator"]
    assert found == {
        "processes": 3,
        "process": process,
        "coordinator": coordinator,
        "bits": 8,
    }
    Config(**found).validate()


def test_a_jobset_says_it_by_the_api(environment, cluster):
    environment(K8S)
    expected = {
        "processes": 3,
        "process": 2,
        "coordinator": "gan-workers-0-0.gan:55527",
        "bits": 8,
    }
    assert placed(AUTO) == placed({**AUTO, "processes": "k8s"}) == expected
    cluster.job.spec = None
    with pytest.raises(ValueError, match=r"processes=auto|processes=k8s must be told"):
        placed(AUTO)


def test_an_address_that_is_given_comes_first(environment):
    environment(OMPI, JAX_COORDINATOR_PORT="123")
    assert placed(AUTO)["coordinator"] == "10.0.0.1:123"
    environment(JAX_COORDINATOR_ADDRESS="there:1")
    assert placed(AUTO)["coordinator"] == "there:1"
    assert placed({**AUTO, "coordinator": "here:2"})["coordinator"] == "here:2"


def test_numbers_stay_and_one_process_needs_no_other(environment):
    explicit = {"processes": 3, "process": 1, "coordinator": "host:1"}
    environment(OMPI)
    assert placed(explicit) == explicit, "a launcher is not asked"
    assert placed({"bits": 8}) == {"bits": 8}
    environment(OMPI_COMM_WORLD_SIZE="1", OMPI_COMM_WORLD_RANK="0")
    assert placed({**AUTO, "coordinator": "host:1"}) == {"processes": 1, "bits": 8}


TWICE = {**OMPI, **SLURM}
WRONG = [
    ({}, {}, r"processes=auto must be in the environment of mpirun.*got none"),
    (OMPI, {"process": 1}, r"process must be left out with processes=auto, got 1"),
    (
        TWICE,
        {},
        r"agree, got mpirun of Open MPI process 1 of 3, srun of Slurm process 2 of 3; "
        r"name .*by --processes=ompi or --processes=slurm",
    ),
    (
        {**SLURM, "SLURM_STEP_NUM_TASKS": "2"},
        {},
        r"got 3 beside SLURM_STEP_NUM_TASKS=2",
    ),
    ({**SLURM, "SLURM_PROCID": "3"}, {}, r"SLURM_PROCID must be below SLURM_NTASKS"),
    ({**OMPI, "OMPI_COMM_WORLD_SIZE": "x"}, {}, r"_SIZE must be a whole.*got 'x'"),
    (SBATCH, {}, r"got no SLURM_LOCALID; start the program by srun: a batch script"),
    (
        {k: v for k, v in OMPI.items() if k != "OMPI_MCA_orte_hnp_uri"},
        {"processes": "ompi"},
        r"got no OMPI_MCA_orte_hnp_uri; Open MPI 5 .* pass --processes=mpi4py",
    ),
    ({**OMPI, "OMPI_MCA_orte_hnp_uri": "7.0;x"}, {}, r"got RuntimeError: Could not pa"),
    ({"KUBERNETES_SERVICE_HOST": "x"}, {}, r"got no JOB_COMPLETION_INDEX; give the Jo"),
    ({}, {"processes": "slurm"}, r"processes=slurm must be .*got no SLURM_JOB_ID"),
    ({}, {"processes": "pbs"}, r"processes must be a number, auto, or .*got 'pbs'"),
]


@pytest.mark.parametrize(("variables", "given", "message"), WRONG)
def test_what_launchers_leave_open_is_refused(environment, variables, given, message):
    environment(variables)
    with pytest.raises(ValueError, match=message):
        placed({"processes": "auto", **given})


def test_one_of_two_launchers_can_be_named(environment):
    environment(TWICE)
    assert placed({"processes": "ompi"})["process"] == 1
    assert placed({"processes": "slurm"})["process"] == 2


@pytest.mark.filterwarnings("ignore:.*Kubernetes environment:UserWarning")
def test_a_package_that_is_missing_is_named(environment, monkeypatch):
    environment(K8S)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ValueError, match=r"processes=k8s needs .*'jax\[k8s\]'"):
        placed(AUTO)


def test_jax_takes_what_is_detected_here(environment, monkeypatch):
    """By `initialize()` without arguments, up to where it would connect."""
    environment(OMPI)
    state = jax._src.distributed.State()
    seen = {}

    class Client:
        def connect(self):
            raise ConnectionError

    def client(address, process, **_):
        seen.update(coordinator=address, process=process)
        return Client()

    monkeypatch.setattr(
        "jax._src.lib._jax.get_distributed_runtime_client", client, raising=True
    )
    with pytest.raises(ConnectionError):
        state.initialize()
    found = placed({"processes": "auto"})
    assert {**seen, "processes": state.num_processes} == found


def test_a_run_does_not_keep_its_processes():
    """One that did would wait for them at the next start."""
    config = Config(processes=3, process=1, coordinator="host:1", bits=8)
    kept = recorded(config)
    assert not PLACEMENT & set(kept)
    assert resumed(kept, {}) == Config(bits=8)
    now = {"processes": 3, "process": 2, "coordinator": "other:1"}
    assert resumed(kept, now) == Config(bits=8, **now)
    older = {**kept, "processes": 3, "process": 0, "coordinator": "host:1"}
    assert resumed(older, {}) == Config(bits=8), "as runs have it that kept them"
