"""What the benchmark of the exchange times: whole exchanges of a vector per worker.

The same for simulated devices and for processes, each of which makes the same calls.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx

COLLECTIVES = ("all_gather", "reduce_scatter", "hierarchical")
"""Those with a quantizer; beside them go "exact" and "bf16", which are all-reduces."""

AXES = ("host", "chip")


class Case(NamedTuple):
    """An exchange: by which collective, at how many bits per coordinate."""

    collective: str
    bits: int


EXACT = Case("exact", 32)
BFLOAT16 = Case("bf16", 16)


def create_cases(
    workers: int, collectives: Sequence[str], bits: Sequence[int]
) -> list[Case]:
    """Exact first, bfloat16, and what the workers can do of these."""
    possible = [x for x in collectives if x != "hierarchical" or grid(workers)]
    return [EXACT, BFLOAT16] + [Case(x, b) for x in possible for b in bits]


def grid(workers: int) -> tuple[int, int] | None:
    """K as (slow, fast), the fast axis as short as can be; None for a prime K."""
    for fast in range(2, math.isqrt(workers) + 1):
        if workers % fast == 0:
            return workers // fast, fast
    return None


def sent_bytes(case: Case, size: int, workers: int) -> int:
    """What one worker sends of a vector of `size` float32; all-reduces as a ring's."""
    if case == BFLOAT16:
        return -(-2 * (workers - 1) * 2 * size // workers)
    shape = jax.ShapeDtypeStruct((size,), jnp.float32)
    return _exchange(case).traffic(shape, _sizes(case, workers)).sent_bytes


def create_calls(
    cases: Sequence[Case], size: int, devices: Sequence[Any]
) -> dict[str, Callable[[], jax.Array]]:
    """The mean of `size` normal float32 of each device, by each case, in order."""
    rows: dict[Mesh, jax.Array] = {}  # of these a few are enough
    calls = {}
    for case in cases:
        mesh = _create_mesh(case, devices)
        if mesh not in rows:
            rows[mesh] = _create_rows(size, mesh)
        calls[f"{case.collective}, {case.bits} bits"] = _create_call(case, rows[mesh])
    return calls


def create_barrier(devices: Sequence[Any]) -> Callable[[], jax.Array]:
    """A call that ends for no process before all have come to it."""
    return _create_call(EXACT, _create_rows(1, _create_mesh(EXACT, devices)))


def _sizes(case: Case, workers: int) -> tuple[int, ...]:
    sizes = (workers,)
    if case.collective == "hierarchical":
        sizes = grid(workers)
        assert sizes is not None  # create_cases leaves out what a prime cannot do
    return sizes


def _exchange(case: Case) -> qgenx.Exchange:
    if case == EXACT:
        return qgenx.exchange(AXES[0], None)
    axis_name = AXES if case.collective == "hierarchical" else AXES[0]
    quantizer = qgenx.uniform(case.bits)
    return qgenx.exchange(axis_name, quantizer, collective=case.collective)


def _create_mesh(case: Case, devices: Sequence[Any]) -> Mesh:
    sizes = _sizes(case, len(devices))
    axes = AXES[: len(sizes)]
    types = (AxisType.Auto,) * len(axes)
    return Mesh(np.array(devices).reshape(sizes), axes, axis_types=types)


def _create_rows(size: int, mesh: Mesh) -> jax.Array:
    """A row for each worker, which only its own process knows."""
    here = [
        np.random.default_rng([0, worker]).normal(size=size).astype(np.float32)
        for worker, device in enumerate(mesh.devices.flat)
        if device.process_index == jax.process_index()
    ]
    sharding = NamedSharding(mesh, P(mesh.axis_names))
    shape = (mesh.size, size)
    return jax.make_array_from_process_local_data(sharding, np.stack(here), shape)


def _create_call(case: Case, rows: jax.Array) -> Callable[[], jax.Array]:
    assert isinstance(rows.sharding, NamedSharding)
    mesh = rows.sharding.mesh
    axes = mesh.axis_names

    def mean(row: jax.Array) -> jax.Array:
        if case == BFLOAT16:
            total = jax.lax.psum(row[0].astype(jnp.bfloat16), axes)
            return total.astype(jnp.float32) / mesh.size
        exchange = _exchange(case)
        return exchange.send(row[0], exchange.init())[0][0]

    mapped = jax.jit(jax.shard_map(mean, mesh=mesh, in_specs=P(axes), out_specs=P()))
    return lambda: mapped(rows)
