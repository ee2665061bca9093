"""Bytes counted before an exchange runs are those that the compiled program moves."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of
from tests.lib.hlo import collectives

pytestmark = pytest.mark.usefixtures("compiled_plainly")

BITS = qgenx.uniform(4, bucket_size=64)
TREE = {
    "conv": jax.ShapeDtypeStruct((30, 41), "float32"),
    "dense": jax.ShapeDtypeStruct((55, 11), "bfloat16"),
    "bias": jax.ShapeDtypeStruct((23,), "float32"),
    "half": jax.ShapeDtypeStruct((5,), "bfloat16"),
}
GROUPS = {
    "quantizer": {"conv": BITS, "dense": qgenx.min_max(3), "small": None},
    "labels": {"conv": "conv", "dense": "dense", "bias": "small", "half": "small"},
    "second": {"conv": qgenx.uniform(8)},
}


def moved(exchange, mesh, axis_name, scalar=None):
    """{(operation, dtype): elements} of the compiled program, per device."""
    trees = jax.tree.map(lambda x: jnp.zeros((mesh.size, *x.shape), x.dtype), TREE)

    def run(trees):
        tree = jax.tree.map(lambda x: x[0], trees)
        return exchange.send(tree, exchange.init(), scalar=scalar)[0][::2]

    mapped = jax.shard_map(run, mesh=mesh, in_specs=P(axis_name), out_specs=P())
    found = {}
    for op, dtype, size in collectives(
        jax.jit(mapped).lower(trees).compile().as_text()
    ):
        found[op, dtype] = found.get((op, dtype), 0) + size
    return found


@pytest.mark.quick
def test_reduce_scatter_is_one_all_to_all_and_one_all_gather():
    """Of bytes; and each phase's are the sum over groups, exact leaves and number."""
    exchange = qgenx.exchange(AXIS, collective="reduce_scatter", **GROUPS)
    found = moved(exchange, mesh_of(3), AXIS, lambda own: own["bias"][0])
    traffic = exchange.traffic(TREE, 3, scalar_bytes=4)
    first, second = traffic.phases
    assert found == {
        ("all-to-all", "u8"): first.payload_bytes,
        ("all-gather", "u8"): 3 * second.payload_bytes,
    }
    assert first.sent_bytes == first.payload_bytes * 2 // 3
    assert second.sent_bytes == 2 * second.payload_bytes
    for phase in traffic.phases:
        groups = sum(phase.sent_by_group.values())
        assert groups + phase.sent_exact + phase.sent_scalar == phase.sent_bytes
        assert phase.received_bytes == phase.sent_bytes
    # chunks of 410 and 202 coordinates: codes, and a norm or two for each bucket
    conv, dense = 410 // 2 + 7 * 4, -(-202 // 8) * 3 + 8
    assert first.sent_by_group == {"conv": 2 * conv, "dense": 2 * dense}
    assert second.sent_by_group == {"conv": 2 * (410 + 4), "dense": 2 * dense}
    # 8 of the bias and 2 of the halves, whose mean is in float32
    assert first.sent_exact == 2 * (8 * 4 + 2 * 2)
    assert second.sent_exact == 2 * (8 * 4 + 2 * 4)
    assert (first.sent_scalar, second.sent_scalar) == (0, 2 * 4)
    assert traffic.sent_bytes == first.sent_bytes + second.sent_bytes


@pytest.mark.parametrize(("slow", "fast"), [(2, 3), (3, 2)])
def test_hierarchical_moves_floats_over_the_fast_axis_only(slow, fast):
    only_bytes = qgenx.Link(0, 1e9, 0, 0)  # few of them count
    devices = jax.devices()[: slow * fast]
    axes = ("host", "chip")
    mesh = jax.make_mesh((slow, fast), axes, (AxisType.Auto,) * 2, devices=devices)
    settings = {"collective": "hierarchical", "link": only_bytes, **GROUPS}
    exchange = qgenx.exchange(axes, **settings)
    found = moved(exchange, mesh, axes)
    traffic = exchange.traffic(TREE, (slow, fast))
    first, *between, last = traffic.phases
    names = [phase.collective for phase in between]
    assert names == (["all_gather"] if slow == 2 else ["all_to_all", "all_gather"])
    expected = {
        ("reduce-scatter", "f32"): first.payload_bytes // 4 // fast,
        ("all-gather", "f32"): last.payload_bytes // 4 * fast,
        ("all-gather", "u8"): between[-1].payload_bytes * slow,
    }
    if slow > 2:
        expected["all-to-all", "u8"] = between[0].payload_bytes
    assert found == expected
    assert traffic.workers == slow * fast
    assert first.workers == last.workers == fast
    assert all(phase.workers == slow for phase in between)
    assert first.sent_bytes == first.payload_bytes * (fast - 1) // fast
    assert last.sent_bytes == last.payload_bytes * (fast - 1)


def test_exact_traffic_is_what_the_program_shows():
    """bfloat16 is added up in float32, and each worker's number takes a slot of K."""
    tree = {"a": jnp.zeros((3, 8, 8), jnp.bfloat16), "b": jnp.zeros((3, 5))}
    exchange = qgenx.exchange(AXIS, None)

    def run(tree):
        tree = jax.tree.map(lambda x: x[0], tree)
        (mean, _, numbers), _ = exchange.send(
            tree, exchange.init(), scalar=lambda own: own["b"][0]
        )
        return mean, numbers

    mapped = jax.shard_map(run, mesh=mesh_of(3), in_specs=P(AXIS), out_specs=P())
    hlo = jax.jit(mapped).lower(tree).compile().as_text()
    moved = sum(4 * size for op, _, size in collectives(hlo) if op == "all-reduce")
    local = jax.tree.map(lambda x: x[0], tree)
    traffic = exchange.traffic(local, workers=3, scalar_bytes=4)
    assert moved == traffic.payload_bytes == 4 * (64 + 5 + 3)
