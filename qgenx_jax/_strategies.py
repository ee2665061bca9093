"""Which collective an exchange goes by, and the one door to all of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qgenx_jax import (
    _checks,
    _collectives,
    _cost,
    _hierarchical,
    _reduce_scatter,
    _traffic,
    _wire,
    _workers,
)
from qgenx_jax._quantize import Quantizer
from qgenx_jax._types import Array, AxisName

COLLECTIVES = ("auto", "exact", "all_gather", "reduce_scatter", "hierarchical")


def check(
    collective: str | _cost.Link | None,
    axis_name: AxisName,
    quantizers: Mapping[str, Quantizer | None],
    second: Any,
) -> None:
    """Checks that a collective is one, and goes with the axis and the quantizers.

    Raises:
        ValueError: if it does not.
    """
    if collective is not None and not isinstance(collective, _cost.Link):
        if isinstance(collective, type):
            rule = f"must be one of {list(COLLECTIVES)}, or a qgenx_jax.Link"
            way_out = "call it: Link(latency=..., bytes_per_second=...)"
            raise _checks.refuse("collective", rule, collective, way_out)
        _checks.one_of("collective", collective, COLLECTIVES)
    given = [quantizer for quantizer in quantizers.values() if quantizer is not None]
    if collective == "exact" and given:
        raise _checks.refuse(
            "collective",
            "must not be 'exact' where a quantizer is given",
            given[0],
            "pass quantizer=None for an exact exchange",
        )
    if second is not None and collective in (None, "exact", "all_gather"):
        raise _checks.refuse(
            "second",
            f"must be left out with {collective!r}, where no mean is encoded again",
            second,
            "pass collective='reduce_scatter', or 'auto'",
        )
    axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    if collective == "hierarchical" and len(axes) < 2:
        rule = "must be a tuple, slow axes and last the fast one, for 'hierarchical'"
        way_out = 'pass for instance ("host", "chip"), or choose another collective'
        raise _checks.refuse("axis_name", rule, axis_name, way_out)


def choose(
    collective: str | _cost.Link | None,
    parts: Sequence[_wire.Part],
    quantizers: Mapping[str, Quantizer | None],
    workers: int,
) -> str:
    """What None (one quantization), "auto" and a link (the fastest) stand for."""
    if collective == "auto":
        collective = _cost.DEFAULT
    if isinstance(collective, str):
        return collective
    if not any(quantizers.values()):
        return "exact"
    if collective is None:
        return "all_gather"
    return _cost.faster(parts, workers, collective)


def mean(
    strategy: str,
    parts: Sequence[_wire.Part],
    vectors: Sequence[Array],
    keys: Sequence[Array],
    number_of: _collectives.NumberOf | None,
    axis_name: AxisName,
) -> tuple[list[Array], list[Array] | None, Array | None]:
    """Mean, own vectors and numbers as `all_gather_mean`, by a quantized collective.

    Raises:
        ValueError: for `number_of` where no worker's own vector is quantized.
    """
    if strategy == "hierarchical":
        if number_of is not None:
            raise _refuse_own("scalar=")
        return _hierarchical.hierarchical_mean(parts, vectors, keys, axis_name)
    run = _collectives.all_gather_mean
    if strategy == "reduce_scatter":
        run = _reduce_scatter.reduce_scatter_mean
    return run(parts, vectors, keys, number_of, axis_name)


def own(
    strategy: str,
    parts: Sequence[_wire.Part],
    vectors: Sequence[Array],
    keys: Sequence[Array],
    axis_name: AxisName,
) -> list[Array]:
    """This worker's own decoded vectors, without a collective.

    Raises:
        ValueError: where no worker's own vector is quantized.
    """
    if strategy == "hierarchical":
        raise _refuse_own("quantize")
    if strategy == "all_gather":
        return _collectives.encode_whole(parts, vectors, keys)[1]
    workers = _workers.axis_size(axis_name)
    return _reduce_scatter.encode_chunks(parts, vectors, keys, workers)[1]


def joints(strategy: str, parts: Sequence[_wire.Part]) -> list[int | None]:
    """Where in a part's means or own vectors short buckets begin, decoded apart.

    None where all buckets are full, and where vectors are put together in any case.
    """
    if strategy != "all_gather":
        return [None] * len(parts)
    lengths = [part.coder.bucket or part.size for part in parts]
    return [
        part.size - part.size % max(length, 1)
        for part, length in zip(parts, lengths, strict=True)
    ]


def phases(
    strategy: str, parts: Sequence[_wire.Part], sizes: Sequence[int], scalar_bytes: int
) -> tuple[_traffic.Phase, ...]:
    """The collectives and their bytes.

    Raises:
        ValueError: if the hierarchical one is not given the sizes of its axes.
    """
    if strategy == "hierarchical":
        if len(sizes) < 2:
            rule = (
                "must be the sizes of the axes, the fast one last, for 'hierarchical'"
            )
            way_out = "pass for instance workers=(4, 8)"
            raise _checks.refuse("workers", rule, tuple(sizes), way_out)
        if scalar_bytes:
            raise _refuse_own("scalar=")
        slow, fast = math.prod(sizes[:-1]), sizes[-1]
        way = _cost.faster(_traffic.pieces(parts, fast), slow, _cost.DEFAULT)
        return _traffic.hierarchical(parts, slow, fast, way)
    count: dict[str, Any] = {"exact": _traffic.all_reduce, **_traffic.TWO_WAYS}
    return count[strategy](parts, math.prod(sizes), scalar_bytes)


def _refuse_own(what: str) -> ValueError:
    return _checks.refuse(
        "collective",
        f"must not be 'hierarchical' for {what}, which needs each worker's own "
        "quantized vector: quantized is the mean over the fast axis",
        "hierarchical",
        "choose 'reduce_scatter' or 'all_gather'",
    )
