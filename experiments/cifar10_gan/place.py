"""Where the workers of a run are: devices of this machine, of several, or lanes."""

import contextlib
import math
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

from experiments.cifar10_gan.config import Config

T = TypeVar("T")

AXIS = "data"
LANE = "local"

LOST = 75
"""Exit code where another process is gone: EX_TEMPFAIL, start all again and resume."""
_OF_THE_CONNECTION = re.compile(
    r"gloo|nccl|UNAVAILABLE|heartbeat|coordination service"
    r"|connection (reset|closed|refused)|broken pipe|socket closed",
    re.IGNORECASE,
)
_OF_ALL = "the other processes know, and end too"
_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\]):\d+")


class Place(NamedTuple):
    """What `qgenx_jax.map_workers` and `qgenx_jax.init` need to know.

    Attributes:
        axis_name: the axis over workers, for collectives.
        mesh: the devices; None where all workers are on one by vmap.
        workers: K; None where each device of the mesh has one worker.
    """

    axis_name: Any
    mesh: Mesh | None
    workers: int | None

    def replicate(self, tree: Any) -> Any:
        """Puts arrays on every device."""
        if self.mesh is None:
            return jax.tree.map(jax.numpy.asarray, tree)
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def replicated_shapes(self, tree: Any) -> Any:
        """Shapes of arrays that are to be on every device, to restore into."""
        if self.mesh is None:
            everywhere: Any = SingleDeviceSharding(jax.devices()[0])
        else:
            everywhere = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), tree
        )

    def local_workers(self, workers: int) -> list[int]:
        """Which of the K workers have their device in this process."""
        if self.mesh is None:
            return list(range(workers))
        each = workers // self.mesh.size
        return [
            index * each + lane
            for index, device in enumerate(self.mesh.devices.flat)
            if device.process_index == jax.process_index()
            for lane in range(each)
        ]

    def place_batch(self, batch: Any) -> Any:
        """Makes arrays over all workers, (K, ...), of this process's workers' share."""
        mesh = self.mesh
        if mesh is None:
            return jax.tree.map(jax.numpy.asarray, batch)
        sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, x), batch
        )

    def describe(self) -> str:
        """In words, for the line that announces a run."""
        if self.mesh is None:
            return f"one {jax.devices()[0].platform} device by vmap"
        kind = f"{self.mesh.size} {self.mesh.devices.flat[0].platform} devices"
        count = jax.process_count()
        return kind if count == 1 else f"{kind} of {count} processes"


class AnotherProcessFailed(RuntimeError):
    """Raised where a process has nothing wrong but cannot go on without another."""


def anywhere(flag: bool) -> bool:
    """Whether a flag is set in any process; all of them call it together."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def together(action: Callable[[], T]) -> T:
    """Does what may fail in one process alone; then all processes end, and none waits.

    Raises:
        Exception: what the action raised in this process.
        AnotherProcessFailed: if it failed only elsewhere.
    """
    failure, result = None, None
    try:
        result = action()
    except Exception as error:
        failure = error
    if not anywhere(failure is not None):
        return cast(T, result)
    if failure is None:
        raise AnotherProcessFailed("another process has failed, see its output")
    failure.add_note(_OF_ALL)
    raise failure


@contextlib.contextmanager
def leaving_none_behind(config: Config) -> Iterator[None]:
    """Ends this process at once where it cannot go on with the others.

    As Python ends, JAX waits for all processes; one that waits for this one then does
    so for minutes, and aborts. Errors that all processes have pass.
    """
    try:
        yield
    except (SystemExit, AnotherProcessFailed):
        raise
    except BaseException as error:
        if config.processes == 1 or _OF_ALL in getattr(error, "__notes__", ()):
            raise
        if _OF_THE_CONNECTION.search(str(error)):
            what = " ".join(str(error).split())[:200]
            print(
                f"process {config.process} of {config.processes} has lost another one "
                f"({what}); see their outputs, and go on by starting all of them with "
                "--resume",
                file=sys.stderr,
            )
            _end(LOST)
        if isinstance(error, (ValueError, ImportError, FloatingPointError)):
            raise  # of the configuration, or of numbers that all have
        traceback.print_exc()
        _end(130 if isinstance(error, KeyboardInterrupt) else 1)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start_processes(config: Config) -> None:
    """Simulates devices where they are asked for, and joins the other processes.

    To be called before JAX is used.
    """
    if config.devices == "simulated":
        jax.config.update("jax_platforms", "cpu")
    if config.devices != "vmap":
        # no effect where there are other devices than CPUs
        jax.config.update("jax_num_cpu_devices", config.workers // config.processes)
    if config.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        is_local = bool(_LOOPBACK.fullmatch(config.coordinator))
        with _waiting_for_processes(config):
            jax.distributed.initialize(
                config.coordinator,
                config.processes,
                config.process,
                # else process 0 listens at all addresses of its machine
                coordinator_bind_address=config.coordinator if is_local else None,
                # JAX's own end is an abort with a stack trace: it must not come first
                initialization_timeout=config.wait_seconds + 60,
            )


@contextlib.contextmanager
def _waiting_for_processes(config: Config) -> Iterator[None]:
    """Says what is waited for, and ends this process where it does not come.

    From a thread: the wait itself is within JAX, and ends only with the process.
    """
    what = f"all {config.processes} processes to join at {config.coordinator}"
    if config.process != 0:
        what = (
            f"process 0 at {config.coordinator}, and for all {config.processes} to join"
        )
    print(
        f"process {config.process} waits for {what}, for {config.wait_seconds} s at "
        "most (--wait_seconds)",
        file=sys.stderr,
        flush=True,
    )

    def end() -> None:
        print(
            f"TimeoutError: processes must have joined after {config.wait_seconds} s, "
            f"process {config.process} still waits for {what}; start all of them, "
            "check --coordinator, --processes and --process, or raise --wait_seconds",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    timer = threading.Timer(config.wait_seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def create_place(config: Config) -> Place:
    """Puts K workers on the devices there are.

    Raises:
        ValueError: if they cannot be shared out evenly.
    """
    if config.devices == "vmap":
        return Place(AXIS, None, config.workers)
    devices = jax.devices()
    if jax.process_count() > 1 and len(devices) < config.workers:
        raise ValueError(
            f"workers of several processes must be at most their {len(devices)} "
            f"devices, got {config.workers}; start more processes"
        )
    if len(devices) >= config.workers:
        count = config.workers
    else:
        count = math.gcd(len(devices), config.workers)
    per_process = count // jax.process_count()
    chosen = [
        device
        for process in range(jax.process_count())
        for device in [d for d in devices if d.process_index == process][:per_process]
    ]
    if len(chosen) < count:
        raise ValueError(
            f"workers must be shared evenly by the {jax.process_count()} processes, "
            f"got {config.workers} for {len(devices)} devices; start one process for "
            "each machine, with as many devices"
        )
    mesh = jax.make_mesh((count,), (AXIS,), (AxisType.Auto,), devices=chosen)
    if count == config.workers:
        return Place(AXIS, mesh, None)
    return Place((AXIS, LANE), mesh, config.workers)
