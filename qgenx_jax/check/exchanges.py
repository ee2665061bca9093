"""All checks of one exchange, on its user's own mesh."""

import math
import platform
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from qgenx_jax import _checks
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.quantized_mean import QuantizedMean
from qgenx_jax._workers.over_mesh import workers_of
from qgenx_jax.check import trials, verdicts
from qgenx_jax.check.clock import timed
from qgenx_jax.check.report import Report
from qgenx_jax.check.verdicts import Verdict

SHAPE = (32, 1024)
"""Of the vectors, where no tree is given: a matrix, which `small_leaves` quantizes."""


def check_exchange(
    exchange: Exchange | QuantizedMean,
    mesh: Mesh | None = None,
    *,
    like: Any = None,
    draws: int = 24,
    seed: int = 0,
    times: bool = True,
) -> Report:
    """Whether an exchange does on this mesh what it is to, and what it is worth.

    In seconds, on the devices that will train: that means are unbiased (to 5 standard
    errors), equal on all workers bit for bit, that workers round by bits of their own,
    that the compiled program moves the bytes that `Traffic` counts and no floats, and
    how long it takes beside an all-reduce, at three sizes.

    Args:
        exchange: an `exchange`, or a `quantized_mean`.
        mesh: with its axis; None for one worker (`axis_name=None`).
        like: the tree to exchange, or its shapes and dtypes; by default one matrix of
            32,768 coordinates.
        draws: exchanges of each kind, at least 4.
        seed: of the vectors and of the keys.
        times: whether to time it.

    Returns:
        A `Report`: `print(report)` is a text to paste into an issue, `report.ok`
        whether all holds, `report.raise_if_failed()` for a test. All processes of a run
        have to call it, and get the same.

    Raises:
        ValueError: if it is no exchange, the mesh has no such axis, or draws are fewer.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> mesh = jax.make_mesh((1,), ("data",))  # as many devices as there are
        >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
        >>> report = qgenx.check_exchange(exchange, mesh, times=False)
        >>> report.ok
        True
        >>> for verdict in report.verdicts:  # None: nothing to see, of one worker
        ...     print(verdict.name, verdict.ok)
        unbiased True
        replicas identical True
        streams apart None
        bytes as predicted None
    """
    one = exchange.exchange if isinstance(exchange, QuantizedMean) else exchange
    way_out = "make one by qgenx_jax.exchange or qgenx_jax.quantized_mean"
    _checks.instance_of("exchange", one, Exchange, way_out)
    draws = _checks.whole_number("draws", draws, 4, None)
    if mesh is None and one.axis_name is not None:
        rule = f"must be given for workers along {one.axis_name!r}"
        raise _checks.refuse("mesh", rule, None, "for instance by jax.make_mesh")
    workers = 1 if mesh is None else workers_of(mesh, one.axis_name)
    if like is None:
        like = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    _checks.floating_leaves("like", like)
    if not jax.tree.leaves(like):
        raise _checks.refuse("like", "must have a leaf", like, "or leave it out")
    unlike = trials.trials(one, mesh, like, draws, seed, equal=False)
    alike = trials.trials(one, mesh, like, draws, seed + 1, equal=True)
    is_rounded = any(one.quantizers.values())
    found = [
        verdicts.unbiased(unlike.errors, unlike.scale),
        verdicts.replicas(unlike.prints),
        _apart(alike, is_rounded),
        _bytes(one, mesh, like, workers, is_rounded),
    ]
    squares = (unlike.errors.astype(float) ** 2).sum(axis=1).mean()
    rows = timed(one, mesh) if times and mesh is not None and workers > 1 else ()
    return Report(_where(mesh), _what(one), found, squares / unlike.scale, rows)


def _apart(alike: trials.Trials, is_rounded: bool) -> Verdict:
    if alike.products is None or not is_rounded:
        return Verdict("streams apart", None, "nothing that two workers round")
    return verdicts.apart(alike.products)


def _bytes(
    exchange: Exchange, mesh: Mesh | None, like: Any, workers: int, is_rounded: bool
) -> Verdict:
    if mesh is None or workers == 1:
        return Verdict("bytes as predicted", None, "one worker sends nothing")
    if exchange.collective == "hierarchical":
        return Verdict("bytes as predicted", None, "of two axes at once: not counted")

    def run(row: Any, state: Any) -> Any:
        mean, _ = exchange.mean(trials.tree_of(row, like), state)
        return jnp.concatenate([x.reshape(-1) for x in jax.tree.leaves(mean)])

    rows = trials.vectors(workers, like, 0, equal=False)
    given = trials.placed(rows, mesh, exchange.axis_name)
    step = trials.mapped(run, exchange, mesh, 1)
    program = step.lower(given, exchange.init()).compile().as_text()
    name = exchange.axis_name
    among = tuple(mesh.shape[n] for n in name) if isinstance(name, tuple) else workers
    predicted = exchange.traffic(like, among).received_bytes
    found = verdicts.moved(program, workers)
    if not is_rounded:
        return verdicts.as_predicted(found, predicted, math.inf)
    # levels that adapt are fitted in a branch, to statistics that do not grow
    fits = any(q is not None and q.refresh for q in exchange.quantizers.values())
    floats = max(rows.shape[1], 2**16) if fits else 0
    return verdicts.as_predicted(found, predicted, floats)


def _where(mesh: Mesh | None) -> str:
    devices = jax.devices() if mesh is None else list(mesh.devices.flat)
    kind, processes = devices[0].device_kind, jax.process_count()
    shape = "no mesh" if mesh is None else f"mesh {dict(mesh.shape)}"
    versions = f"jax {jax.__version__}, Python {platform.python_version()}"
    return f"{versions}; {len(devices)} x {kind}, {processes} process(es), {shape}"


def _what(exchange: Exchange) -> str:
    names = [f"{k}: {q}" for k, q in exchange.quantizers.items()]
    way = f"{exchange.collective!r} over {exchange.axis_name!r}, {exchange.rounding}"
    return f"exchange by {way}; {'; '.join(names)}"
