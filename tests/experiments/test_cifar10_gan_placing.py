"""Which workers belong to a process, and their rows on the right devices."""

import pathlib
import socket
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from experiments.cifar10_gan.placing import local_workers_of, place_batch

ROOT = pathlib.Path(__file__).parents[2]
BATCH = np.arange(8 * 2 * 3, dtype=np.float32).reshape(8, 2, 3)


def mesh_of(shape, names, order=None):
    devices = np.array(jax.devices()[:8])
    devices = devices if order is None else devices[order]
    return Mesh(devices[: np.prod(shape)].reshape(shape), names)


def check(array, mesh, axes, workers):
    """Every device holds the row of the worker that it belongs to."""
    assert np.array_equal(array, BATCH[:workers])
    rows = {shard.device: np.asarray(shard.data) for shard in array.addressable_shards}
    assert len(rows) == mesh.size
    for place, device in np.ndenumerate(mesh.devices):
        worker = 0
        for axis in axes:
            where = mesh.axis_names.index(axis)
            worker = worker * mesh.devices.shape[where] + place[where]
        assert np.array_equal(rows[device], BATCH[worker : worker + 1]), place


@pytest.mark.parametrize(
    ("shape", "names", "axis"),
    [
        ((8,), ("data",), "data"),
        ((3,), ("data",), "data"),
        ((1,), ("data",), "data"),
        ((4, 2), ("data", "model"), "data"),
        ((2, 4), ("model", "data"), "data"),
        ((2, 4), ("a", "b"), ("a", "b")),
        ((2, 4), ("a", "b"), ("b", "a")),
        ((2, 2, 2), ("a", "model", "b"), ("b", "a")),
    ],
)
def test_rows_lie_where_their_workers_are(shape, names, axis):
    mesh = mesh_of(shape, names, order=[5, 2, 7, 0, 1, 6, 3, 4])
    axes = (axis,) if isinstance(axis, str) else axis
    workers = int(np.prod([mesh.shape[name] for name in axes]))
    assert local_workers_of(mesh, axis) == list(range(workers))
    array = place_batch(BATCH[:workers], mesh, axis)
    check(array, mesh, axes, workers)


def test_workers_of_several_processes(monkeypatch):
    """By the processes of devices alone, as a mesh over machines has them."""

    def mesh(processes, names):
        make = np.frompyfunc(lambda index: SimpleNamespace(process_index=index), 1, 1)
        return SimpleNamespace(devices=make(np.array(processes)), axis_names=names)

    for here, apart, rows in [(0, [0, 1, 4], [0, 1]), (1, [2, 3, 5], [0, 1])]:
        monkeypatch.setattr(jax, "process_index", lambda here=here: here)
        line = mesh([0, 0, 1, 1, 0, 1, 2], ("data",))
        assert local_workers_of(line, "data") == apart
        # workers along the columns: each has a device in both processes
        grid = mesh([[0, 0], [1, 1]], ("model", "data"))
        assert local_workers_of(grid, "data") == rows
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    assert local_workers_of(line, "data") == []


def test_errors():
    mesh = mesh_of((4,), ("data",))
    text = r"axis must name axes of the mesh, \('data',\), got 'model'; pass"
    with pytest.raises(ValueError, match=text):
        local_workers_of(mesh, "model")
    with pytest.raises(ValueError, match=r"axis must name axes .* got \(\)"):
        place_batch(BATCH[:4], mesh, ())
    with pytest.raises(ValueError, match=r"process's 4 workers, got shape \(3, 2, 3\)"):
        place_batch(BATCH[:3], mesh, "data")


PROGRAM = """
import sys
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from experiments.cifar10_gan.data import *

first, second, third, fourth = jax.devices()
mesh = Mesh(np.array([first, third, second, fourth]), ("data",))
local = local_workers_of(mesh, "data")
assert local == [[0, 2], [1, 3]][jax.process_index()], local
pictures = load_pictures("embedded", size=24)
given = dict(batch_size=2, workers=4, seed=3, draws=2)
batches = Batches(pictures, local_workers=local, **given)
with Prefetched(batches, place=lambda x: place_batch(x, mesh, "data")) as ahead:
    for expected, _ in zip(Batches(pictures, **given), range(4)):
        got = multihost_utils.process_allgather(next(ahead), tiled=True)
        assert np.array_equal(got, expected)
"""


def test_two_processes_make_one_batch():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, str(index)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, printed, strict=True):
        assert process.returncode == 0, text
