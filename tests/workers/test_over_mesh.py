"""Workers along an axis of a mesh, which nothing maps over yet."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from qgenx_jax._workers.over_mesh import on_workers, workers_of
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.quick


def test_workers_are_the_devices_along_the_axis():
    devices = jax.devices()[:8]
    mesh = jax.make_mesh((4, 2), ("a", "b"), devices=devices)
    assert workers_of(mesh, "a") == 4
    assert workers_of(mesh, ("a", "b")) == 8


@pytest.mark.parametrize(
    ("mesh", "name", "message"),
    [
        (None, AXIS, "mesh must be a jax.sharding.Mesh, got None"),
        (mesh_of(2), "rows", "axis_name must be an axis of the mesh.*'data'.*'rows'"),
    ],
    ids=["no mesh", "another axis"],
)
def test_bad_meshes(mesh, name, message):
    with pytest.raises(ValueError, match=message):
        workers_of(mesh, name)


def test_another_mesh_that_is_set():
    with (
        jax.set_mesh(mesh_of(4)),
        pytest.raises(ValueError, match=r"must be the one that jax.set_mesh has set"),
    ):
        workers_of(mesh_of(2), AXIS)


def test_inside_a_shard_map():
    mesh = mesh_of(2)

    def worker(x):
        workers_of(mesh, AXIS)
        return x

    run = jax.shard_map(worker, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS))
    with pytest.raises(ValueError, match="mesh must be left out where"):
        run(jnp.zeros(2))


def test_each_runs_on_its_own():
    def worker(x, y):
        return x + jax.lax.axis_index(AXIS), y * 2

    run = on_workers(worker, mesh_of(4), AXIS, (P(AXIS), P()), (P(AXIS), P()))
    found = run(jnp.zeros(4), jnp.ones(3))
    assert found[0].tolist() == [0, 1, 2, 3]
    assert found[1].tolist() == [2, 2, 2]
