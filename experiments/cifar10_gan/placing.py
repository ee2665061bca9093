"""Which workers are this process's own, and its batches on their devices."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Axis = str | tuple[str, ...]


def local_workers_of(mesh: Mesh, axis: Axis) -> list[int]:
    """The workers of a mesh axis that have a device in this process.

    A worker whose devices lie in several processes (along another axis of the mesh)
    belongs to each of them, and each loads its batch.

    Args:
      mesh: the mesh of the run, the same in all processes.
      axis: the axis over workers, or a tuple of axes, the first one slowest.

    Returns:
      Their numbers, ascending, as `Batches` takes them; maybe none.

    Raises:
      ValueError: if the mesh has no such axis.
    """
    here = jax.process_index()
    return [
        worker
        for worker, devices in enumerate(_devices_of_workers(mesh, axis))
        if any(device.process_index == here for device in devices)
    ]


def place_batch(local: np.ndarray, mesh: Mesh, axis: Axis) -> jax.Array:
    """The batch of all workers, of which this process has and places its own rows.

    No process sends anything to another one, and none needs to wait for it.

    Args:
      local: (local workers, ...), in the order of `local_workers_of`.
      mesh: the mesh of the run, the same in all processes.
      axis: the axis over workers, or a tuple of axes.

    Returns:
      A global array (K, ...), sharded over workers and replicated along the other axes
      of the mesh. `qgenx_jax.map_workers` takes it as it lies.

    Raises:
      ValueError: if the mesh has no such axis, or local another number of workers.
    """
    workers = len(_devices_of_workers(mesh, axis))
    row_of = {worker: row for row, worker in enumerate(local_workers_of(mesh, axis))}
    if len(local) != len(row_of):
        raise ValueError(
            f"local must have a row for each of this process's {len(row_of)} workers, "
            f"got shape {local.shape}; make Batches with "
            "local_workers=local_workers_of(mesh, axis)"
        )

    def shard(index: Any) -> np.ndarray:
        row = row_of[index[0].start or 0]  # of a single worker the slice is open
        return local[row : row + 1]

    sharding = NamedSharding(mesh, PartitionSpec(axis))
    return jax.make_array_from_callback((workers, *local.shape[1:]), sharding, shard)


def _devices_of_workers(mesh: Mesh, axis: Axis) -> np.ndarray:
    """(K, devices of a worker)."""
    names = (axis,) if isinstance(axis, str) else tuple(axis)
    missing = [name for name in names if name not in mesh.axis_names]
    if missing or not names:
        raise ValueError(
            f"axis must name axes of the mesh, {mesh.axis_names}, got {axis!r}; pass "
            "the axis over workers"
        )
    places = [mesh.axis_names.index(name) for name in names]
    devices = np.moveaxis(mesh.devices, places, range(len(places)))
    workers = int(np.prod(devices.shape[: len(places)]))
    return devices.reshape(workers, -1)
