"""A process of a run starts: simulated devices, the other processes, then JAX's own."""

import os

import jax

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.together import wire
from experiments.cifar10_gan.together.crew import Crew
from experiments.cifar10_gan.together.handshake import facts_of
from experiments.cifar10_gan.together.meeting import meet
from experiments.cifar10_gan.together.progress import PATIENCE

_LATER = 60
"""Seconds by which JAX's own limits are above --timeout: its end is an abort."""
_OF_XLA = (
    "xla_cpu_collective_timeout_seconds",
    "xla_cpu_collective_call_terminate_timeout_seconds",
)
"""After which XLA gives a collective up; 40 s, which one busy core may take."""


def join(config: Config, *, resume: bool = False) -> Crew | None:
    """Finds the other processes, and compares with them what is to be done.

    Returns:
        The processes, or None where this one is alone.

    Raises:
        ValueError: if they do not agree, in all of them.
        TimeoutError: if they do not come.
    """
    if config.processes == 1:
        return None
    wires = meet(config, facts_of(config, resume=resume))
    return Crew(config.process, config.processes, config.timeout, wires)


def start_processes(config: Config) -> None:
    """Simulates devices where they are asked for, and starts JAX in all processes.

    To be called before JAX is used.
    """
    if config.devices == "simulated":
        jax.config.update("jax_platforms", "cpu")
    if config.devices != "vmap":
        # no effect where there are other devices than CPUs
        jax.config.update("jax_num_cpu_devices", config.workers // config.processes)
    _limit_collectives(config.timeout)
    if config.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        # JAX's handler of SIGTERM would keep it from the run
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            config.coordinator,
            config.processes,
            config.process,
            # else process 0 listens at all addresses of its machine
            coordinator_bind_address=wire.own_address(config.coordinator),
            initialization_timeout=config.timeout + _LATER,
            heartbeat_timeout_seconds=config.timeout + _LATER,
            shutdown_timeout_seconds=PATIENCE * config.timeout + _LATER,
        )


def _limit_collectives(seconds: int) -> None:
    """Gives XLA's CPU collectives --timeout, unless the environment says otherwise."""
    given = os.environ.get("XLA_FLAGS", "")
    if jax.__version_info__ >= (0, 11):  # XLA ends the process at a flag it forgot
        return
    limit = PATIENCE * seconds + _LATER  # others may be compiling, or drawing pictures
    flags = [f"--{name}={limit}" for name in _OF_XLA if name not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *flags]).strip()
