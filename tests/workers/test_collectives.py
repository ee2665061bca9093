"""Collectives by other means, where processes on CPUs run the workers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from qgenx_jax._workers import collectives
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.usefixtures("compiled_plainly")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ({"a": 3}, ("a",)),
        ({"a": 8}, ("a",)),
        ({"a": 2, "b": 4}, ("a", "b")),
        ({"a": 2, "b": 4}, ("b", "a")),
        ({"a": 2, "b": 2, "c": 2}, ("c", "a")),
        ({"a": 2, "b": 2, "c": 2}, ("c", "a", "b")),
    ],
)
def test_permutes_are_an_all_to_all(shape, axes):
    """What processes on CPUs do in its place; with contracts/test_processes.py."""
    names, workers = tuple(shape), math.prod(shape[name] for name in axes)
    mesh = jax.make_mesh(
        tuple(shape.values()),
        names,
        (AxisType.Auto,) * len(names),
        devices=jax.devices()[: math.prod(shape.values())],
    )
    rows = jnp.arange(mesh.size * 2 * workers * 5).reshape(mesh.size, 2, workers, 5)

    def both(rows):
        moved = collectives.permuted(rows[0], axes, 1)
        return moved[None], jax.lax.all_to_all(rows[0], axes, 1, 1)[None]

    mapped = jax.shard_map(both, mesh=mesh, in_specs=P(names), out_specs=P(names))
    found, expected = jax.jit(mapped)(rows)
    np.testing.assert_array_equal(found, expected)
    if axes == names:
        np.testing.assert_array_equal(found, np.swapaxes(rows, 0, 2))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("processes", "workers", "platform", "permutes"),
    [(1, 3, "cpu", 0), (2, 3, "cpu", 2), (2, 3, "cuda", 0), (2, 5, "cpu", 0)],
)
def test_permutes_are_for_processes_on_cpus(
    monkeypatch, processes, workers, platform, permutes
):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(collectives, "MOST_TURNS", 4)
    mapped = jax.shard_map(
        lambda rows: collectives.all_to_all(rows[0], AXIS)[None],
        mesh=mesh_of(workers),
        in_specs=P(AXIS),
        out_specs=P(AXIS),
    )
    rows = jax.ShapeDtypeStruct((workers, workers, 5), jnp.uint8)
    text = jax.jit(mapped).trace(rows).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.collective_permute") == permutes
    assert text.count("stablehlo.all_to_all") == (permutes == 0)


@pytest.mark.quick
def test_extremes_of_unsigned_numbers():
    rows = jnp.asarray([[3, 0], [2**32 - 1, 0], [7, 0]], jnp.uint32)
    run = jax.vmap(lambda x: collectives.extremes(x, AXIS), axis_name=AXIS)
    least, most = run(rows)
    assert least.tolist() == [[3, 0]] * 3
    assert most.tolist() == [[2**32 - 1, 0]] * 3
    alone = collectives.extremes(rows, None)
    assert all((x == rows).all() for x in alone)
