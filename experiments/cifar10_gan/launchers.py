"""Processes that a launcher has started: how many, which this is, where they meet.

What a launcher says is read by JAX's own detection, that of
`jax.distributed.initialize()` without arguments. Here stands what is checked before,
since JAX believes the variables it finds.
"""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax._src import clusters

AUTO = "auto"


class Launcher(NamedTuple):
    """A launcher of processes.

    Attributes:
        title: in words.
        cluster: JAX's reader of what it says.
        size: the variable with the number of processes; "" where none has it.
        rank: the variable with the number of this one.
        needed: the variables without which JAX does not see the launcher.
        way_out: where one of them is missing.
    """

    title: str
    cluster: type[clusters.ClusterEnv]
    size: str
    rank: str
    needed: tuple[str, ...]
    way_out: str


LAUNCHERS: Mapping[str, Launcher] = {
    "ompi": Launcher(
        "mpirun of Open MPI",
        clusters.OmpiCluster,
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        (
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            "OMPI_MCA_orte_hnp_uri",
        ),
        "Open MPI 5 does not say where process 0 is: install mpi4py and pass "
        "--processes=mpi4py",
    ),
    "slurm": Launcher(
        "srun of Slurm",
        clusters.SlurmCluster,
        "SLURM_NTASKS",
        "SLURM_PROCID",
        (
            "SLURM_JOB_ID",
            "SLURM_NTASKS",
            "SLURM_PROCID",
            "SLURM_LOCALID",
            "SLURM_STEP_NODELIST",
        ),
        "start the program by srun: a batch script is one process, for all its tasks",
    ),
    "k8s": Launcher(
        "a Job or JobSet of Kubernetes",
        clusters.K8sCluster,
        "",
        "JOB_COMPLETION_INDEX",
        ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"),
        "give the Job completionMode: Indexed",
    ),
    "mpi4py": Launcher(
        "an MPI that mpi4py knows",
        clusters.Mpi4pyCluster,
        "",
        "",
        (),
        "pip install mpi4py",
    ),
}
"""By the names that --processes takes, in the order in which `auto` tries them."""

_STARTS = {
    "ompi": ("OMPI_COMM_WORLD_RANK", "OMPI_MCA_orte_hnp_uri"),
    "slurm": ("SLURM_JOB_ID",),
    "k8s": ("KUBERNETES_SERVICE_HOST",),
    "mpi4py": ("PMIX_RANK", "PMI_RANK", "MPI_LOCALRANKID"),
}
"""Variables one of which says that a launcher is there at all."""


def placed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are given, with a launcher's in place of its name.

    Args:
        given: fields of a configuration; `processes` is a number, "auto", or the name
            of a launcher.

    Returns:
        The fields with numbers in `processes` and `process`, and `coordinator`: that
        which is given, else JAX_COORDINATOR_ADDRESS, else the launcher's. Of a single
        process `processes` alone.

    Raises:
        ValueError: if there is no launcher, what it says is incomplete or contradicts
            itself or another one, or `process` is given beside it.
    """
    name = given.get("processes", 1)
    if isinstance(name, int):
        return dict(given)
    if "process" in given:
        raise ValueError(
            f"process must be left out with processes={name}, got {given['process']}: "
            "the launcher has numbered the processes"
        )
    name = _find() if name == AUTO else _known(name)
    processes, process = _place(name)
    rest = {key: value for key, value in given.items() if key != "coordinator"}
    if processes == 1:
        return {**rest, "processes": 1}
    where = given.get("coordinator") or os.environ.get("JAX_COORDINATOR_ADDRESS")
    return {
        **rest,
        "processes": processes,
        "process": process,
        "coordinator": where or _coordinator(name),
    }


def _find() -> str:
    """The launcher that started this process.

    Raises:
        ValueError: if there is none, or two that differ.
    """
    begun = [name for name in LAUNCHERS if any(map(_has, _STARTS[name]))]
    whole = [name for name in begun if not _missing(name) and LAUNCHERS[name].needed]
    counted = [name for name in whole if LAUNCHERS[name].size]
    places = {name: _numbers(LAUNCHERS[name]) for name in counted}
    if len(set(places.values())) > 1:
        told = ", ".join(
            f"{LAUNCHERS[name].title} process {process} of {processes}"
            for name, (processes, process) in places.items()
        )
        names = " or ".join(f"--processes={name}" for name in places)
        raise ValueError(
            f"processes=auto must find launchers that agree, got {told}; name the one "
            f"that started the program, by {names}"
        )
    if whole:
        return whole[0]
    if "mpi4py" in begun and importlib.util.find_spec("mpi4py"):
        return "mpi4py"
    if begun:
        _known(begun[0])
    raise ValueError(
        "processes=auto must be in the environment of mpirun, srun or a Kubernetes "
        "Job, got none of their variables; start the program by one of them, or pass "
        "--processes, --process and --coordinator"
    )


def _known(name: str) -> str:
    """The launcher of a name, all of whose variables are there.

    Raises:
        ValueError: if it is unknown, or one is missing.
    """
    if name not in LAUNCHERS:
        raise ValueError(
            f"processes must be a number, auto, or one of {tuple(LAUNCHERS)}, got "
            f"{name!r}"
        )
    launcher = LAUNCHERS[name]
    if missing := _missing(name):
        raise ValueError(
            f"processes={name} must be in the environment of {launcher.title}, got no "
            f"{missing[0]}; {launcher.way_out}, or pass --processes, --process and "
            "--coordinator"
        )
    return name


def _place(name: str) -> tuple[int, int]:
    """How many processes there are, and which this is.

    Raises:
        ValueError: if JAX cannot tell, or has another answer than the variables.
    """
    launcher = LAUNCHERS[name]
    if launcher.size:  # before JAX believes them
        _numbers(launcher)
    try:
        present = launcher.cluster.is_env_present()
        if present:
            processes = launcher.cluster.get_process_count()
            return processes, launcher.cluster.get_process_id()
    # of the packages that ask a cluster, which raise errors of many kinds
    except Exception as error:
        raise ValueError(_untold(name, error)) from error
    package = {"k8s": "jax[k8s]"}.get(name, name)
    raise ValueError(
        f"processes={name} needs a package that is not there; pip install "
        f"'{package}', or pass --processes, --process and --coordinator"
    )


def _coordinator(name: str) -> str:
    """Where process 0 is, or will be.

    Raises:
        ValueError: if JAX cannot tell.
    """
    port = os.environ.get("JAX_COORDINATOR_PORT")
    try:
        return LAUNCHERS[name].cluster.get_coordinator_address(60, port)
    except Exception as error:
        raise ValueError(_untold(name, error)) from error


def _untold(name: str, error: Exception) -> str:
    what = " ".join(str(error).split())[:300]
    return (
        f"processes={name} must be told its place by {LAUNCHERS[name].title}, got "
        f"{type(error).__name__}: {what}; pass --processes, --process and "
        "--coordinator instead"
    )


def _numbers(launcher: Launcher) -> tuple[int, int]:
    """The number of processes and that of this one, as the variables say.

    Raises:
        ValueError: if they are no such numbers, or Slurm's step has another number of
            tasks.
    """
    values = []
    for variable in (launcher.size, launcher.rank):
        text = os.environ[variable]
        if not text.isdecimal():
            raise ValueError(
                f"{variable} must be a whole number, got {text!r}; start the program "
                f"by {launcher.title}, and leave its variables as they are"
            )
        values.append(int(text))
    size, rank = values
    if not rank < size:
        raise ValueError(
            f"{launcher.rank} must be below {launcher.size}, got {rank} and {size}; "
            f"start the program by {launcher.title}, and leave its variables as they "
            "are"
        )
    step = os.environ.get("SLURM_STEP_NUM_TASKS", str(size))
    if launcher.size == "SLURM_NTASKS" and step != str(size):
        raise ValueError(
            f"SLURM_NTASKS must be the tasks of the step, got {size} beside "
            f"SLURM_STEP_NUM_TASKS={step}; leave both as srun sets them"
        )
    return size, rank


def _has(variable: str) -> bool:
    return variable in os.environ


def _missing(name: str) -> list[str]:
    return [v for v in LAUNCHERS[name].needed if not _has(v)]
