"""Where the workers of a run are: devices of this machine, of several, or lanes."""

import math
from typing import Any, NamedTuple

import jax
from jax.sharding import (
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
    SingleDeviceSharding,
)

from experiments.cifar10_gan.config import Config

AXIS = "data"
LANE = "local"


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
