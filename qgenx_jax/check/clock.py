"""How long exchanges take on a mesh, and what connects its devices."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from qgenx_jax import _checks
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.factory import exchange as make_exchange
from qgenx_jax._exchange.traffic import Link
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import collectives
from qgenx_jax._workers.over_mesh import workers_of
from qgenx_jax.check.report import Timed
from qgenx_jax.check.trials import mapped, placed

SIZES = (2**14, 2**18, 2**22)
"""Coordinates of the vectors that are timed."""
BUFFERS = (2**10, 2**14, 2**18, 2**21, 2**23)
"""Bytes of the buffers by which a link is measured."""


def seconds_of(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict:
    """The median seconds of each, called in turn, so that all are slowed alike."""
    for run in functions.values():
        jax.block_until_ready(run())
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            found[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in found.items()}


def timed(
    exchange: Exchange, mesh: Mesh, sizes: Sequence[int] = SIZES, rounds: int = 7
) -> list[Timed]:
    """Seconds of an exchange, and of an exact one, of matrices of 1,024 columns.

    Args:
        exchange: over an axis of the mesh; labels and `exact` of a tree of another
            structure are left out.
        mesh: with that axis.
        sizes: coordinates, multiples of 1,024.
        rounds: of which the median counts.
    """
    name, workers = exchange.axis_name, workers_of(mesh, exchange.axis_name)
    exact, found = make_exchange(name, None), []
    for size in sizes:
        shape = (size // 1024, 1024)
        rows = np.random.default_rng(size).normal(size=(workers, *shape))
        given = placed(rows.astype(np.float32), mesh, name)
        runs = {}
        for label, one in {"exact": exact, "this": exchange}.items():
            step = mapped(_mean_of(one), one, mesh, 1)
            runs[label] = _bound(step, given, one.init())
        seconds = seconds_of(runs, rounds)
        sizes_of = tuple(mesh.shape[n] for n in name) if isinstance(name, tuple) else ()
        among = sizes_of or workers
        sent = exchange.traffic(jnp.zeros(shape), among).sent_bytes
        found.append(Timed(size, seconds["exact"], seconds["this"], sent))
    return found


def _mean_of(exchange: Exchange) -> Callable[..., Array]:
    def run(row: Array, state: Any) -> Array:
        return exchange.mean(row, state)[0]

    return run


def _bound(step: Callable, *arguments: Any) -> Callable[[], Any]:
    return lambda: step(*arguments)


def measure_link(
    mesh: Mesh,
    axis_name: AxisName,
    quantizer: Quantizer,
    *,
    buffers: Sequence[int] = BUFFERS,
    rounds: int = 7,
) -> Link:
    """The `Link` between the workers of a mesh, by timing all-gathers and a codec.

        seconds of a buffer of n bytes = (K - 1) (latency + n / bytes_per_second)

    by least squares of relative errors, over numbers that are at least 0. No rights are
    needed. All processes of a run have to call it.

    Args:
        mesh: whose devices are the workers.
        axis_name: the axis over workers, or a tuple of axes.
        quantizer: whose codec is timed, on one device.
        buffers: bytes of the buffers, of two sizes at least.
        rounds: of which the median counts.

    Raises:
        ValueError: if the mesh has no such axis, or fewer than two workers, or buffers
            are of fewer than two sizes.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
        >>> if mesh.size > 1:
        ...     link = qgenx.check.measure_link(mesh, "data", qgenx.uniform(4))
        ...     exchange = qgenx.quantized_mean("data", qgenx.uniform(4), link=link)
    """
    workers = workers_of(mesh, axis_name)
    if workers < 2:
        rule = f"must have at least two workers along {axis_name!r}"
        way_out = "measure between the devices or processes of a run"
        raise _checks.refuse("mesh", rule, _checks.Text(dict(mesh.shape)), way_out)
    if len(set(buffers)) < 2:
        rule, way_out = "must be of two sizes at least", "for instance 1024 and 2**20"
        raise _checks.refuse("buffers", rule, tuple(buffers), way_out)
    bare = make_exchange(axis_name, None)

    def gather(row: Array) -> Array:
        arrived = collectives.gather(row, axis_name)
        return arrived.sum(axis=0, dtype=jnp.uint8)

    runs = {}
    for n_bytes in buffers:
        rows = np.ones((workers, n_bytes), np.uint8)
        given = placed(rows, mesh, axis_name)
        runs[str(n_bytes)] = _bound(mapped(gather, bare, mesh, 0), given)
    seconds = seconds_of(runs, rounds)
    measured = np.array([seconds[str(n)] for n in buffers]) / (workers - 1)
    latency, per_byte = _fitted(np.array(buffers, float), measured)
    encode, decode = _codec(quantizer, rounds)
    rate = 1 / max(per_byte, 1e-15)
    return Link(*(float(f"{x:.3g}") for x in (latency, rate, encode, decode)))


def _fitted(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """(a, b) >= 0 of least sum of ((a + b n - s) / s)^2."""
    rows = np.stack([np.ones_like(sizes), sizes], axis=1) / seconds[:, None]
    goal = np.ones_like(seconds)
    both = np.linalg.lstsq(rows, goal, rcond=None)[0]
    if (both >= 0).all():
        return float(both[0]), float(both[1])
    alone = [float(column @ goal / (column @ column)) for column in rows.T]
    errors = [((rows[:, i] * x - goal) ** 2).sum() for i, x in enumerate(alone)]
    return (alone[0], 0.0) if errors[0] < errors[1] else (0.0, alone[1])


def _codec(quantizer: Quantizer, rounds: int) -> tuple[float, float]:
    """Seconds for a coordinate to be encoded, and to be decoded of one payload."""
    size = 2**20
    vector = jnp.asarray(np.random.default_rng(0).normal(size=size), jnp.float32)
    one = make_exchange(None, quantizer)
    state = one.init()
    both = jax.jit(lambda x: one.quantize(x, state))
    encode = jax.jit(lambda x: quantizer.encode(0, x).data)
    found = seconds_of(
        {"both": _bound(both, vector), "encode": _bound(encode, vector)}, rounds
    )
    return found["encode"] / size, max(found["both"] - found["encode"], 0.0) / size
