"""Which strategies there are, and which one an exchange goes by."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qgenx_jax import _checks
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange import shards
from qgenx_jax._exchange.parts import Part, shares
from qgenx_jax._exchange.strategies.all_gather import AllGather
from qgenx_jax._exchange.strategies.all_reduce import AllReduce
from qgenx_jax._exchange.strategies.hierarchical import Hierarchical
from qgenx_jax._exchange.strategies.reduce_scatter import ReduceScatter
from qgenx_jax._exchange.strategy import Strategy
from qgenx_jax._exchange.traffic import Link, traffic
from qgenx_jax._types import AxisName

QUANTIZING = (AllGather(), ReduceScatter())
"""Those that a link chooses between."""
ONE_AXIS: dict[str, Strategy] = {x.name: x for x in (AllReduce(), *QUANTIZING)}
COLLECTIVES = ("once", "auto", *ONE_AXIS, "hierarchical")
ENCODES_AGAIN = ("auto", "reduce_scatter", "hierarchical")
"""Those that may encode a mean again, by `second`."""


def check(
    collective: Any,
    link: Link | None,
    axis_name: AxisName,
    quantizers: Mapping[str, Quantizer | None],
    second: Any,
    checksum: Any = False,
) -> None:
    """Checks that a collective is one, and goes with the axis and the quantizers.

    Raises:
        ValueError: if it does not.
    """
    if isinstance(collective, type):
        rule = f"must be one of {list(COLLECTIVES)}, or a qgenx_jax.Link"
        way_out = "call it: Link(latency=..., bytes_per_second=...)"
        raise _checks.refuse("collective", rule, collective, way_out)
    _checks.one_of("collective", collective, COLLECTIVES)
    if link is not None:
        way_out = "make one: qgenx_jax.Link(latency=..., bytes_per_second=...)"
        _checks.instance_of("link", link, Link, way_out)
        if collective not in ("auto", "hierarchical"):
            rule = f"must be left out with {collective!r}, which chooses nothing by it"
            way_out = "pass collective='auto', or 'hierarchical'"
            raise _checks.refuse("link", rule, link, way_out)
    given = [quantizer for quantizer in quantizers.values() if quantizer is not None]
    if collective == "exact" and given:
        raise _checks.refuse(
            "collective",
            "must not be 'exact' where a quantizer is given",
            given[0],
            "pass quantizer=None for an exact exchange",
        )
    if second is not None and collective not in ENCODES_AGAIN:
        raise _checks.refuse(
            "second",
            f"must be left out with {collective!r}, where no mean is encoded again",
            second,
            "pass collective='reduce_scatter', or 'auto'",
        )
    _checks.instance_of("checksum", checksum, bool, "pass True or False")
    is_sum = collective in ("exact", "hierarchical")
    if checksum and (is_sum or not (given or collective in ONE_AXIS)):
        raise _checks.refuse(
            "checksum",
            "must be False where sums are made on the way, in which nobody can tell "
            f"one worker's bytes: with {collective!r}"
            + ("" if is_sum else " and no quantizer"),
            checksum,
            "pass collective='all_gather' or 'reduce_scatter', which send bytes, also "
            "without a quantizer",
        )
    axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    if collective == "hierarchical" and len(axes) < 2:
        rule = "must be a tuple, slow axes and last the fast one, for 'hierarchical'"
        way_out = 'pass for instance ("host", "chip"), or choose another collective'
        raise _checks.refuse("axis_name", rule, axis_name, way_out)


def choose(
    collective: str,
    link: Link,
    parts: Sequence[Part],
    is_exact: bool,
    sizes: Sequence[int] | None,
    checksum: bool = False,
) -> Strategy:
    """The strategy that a name stands for.

    Where nothing leaves a worker ("auto", K = 1), or a host ("hierarchical", one host),
    nothing is rounded: there is no byte to save. Of "reduce_scatter" with K = 1 there
    is no second phase: the mean has been encoded.

    Args:
        collective: the name.
        link: what "auto" and the inner way of "hierarchical" are chosen by.
        parts: how the vectors travel.
        is_exact: whether nothing is to be quantized.
        sizes: of the axes over workers; None for one worker without an axis, which
            quantizes all the same.
        checksum: whether messages have one.

    Raises:
        ValueError: for "hierarchical" on one axis.
    """
    exact = ONE_AXIS["exact"]
    if collective == "hierarchical":
        if sizes is None or len(sizes) < 2:
            rule = (
                "must be the sizes of the axes, the fast one last, for 'hierarchical'"
            )
            way_out = "pass for instance workers=(4, 8)"
            raise _checks.refuse("workers", rule, tuple(sizes or ()), way_out)
        slow, fast = math.prod(sizes[:-1]), sizes[-1]
        if slow == 1:
            return Hierarchical(exact, fast)
        return Hierarchical(faster(shares(parts, fast), slow, link), fast)
    workers = 1 if sizes is None else math.prod(sizes)
    if collective == "reduce_scatter" and workers == 1:
        collective = "all_gather"
    if collective == "once":
        collective = "exact" if is_exact else "all_gather"
    is_alone = sizes is not None and workers == 1
    if collective == "exact" or (collective == "auto" and (is_exact or is_alone)):
        return exact
    quantizing = [x._replace(checksum=checksum) for x in QUANTIZING]
    if collective == "auto":
        return faster(parts, workers, link, quantizing)
    return next(x for x in quantizing if x.name == collective)


def faster(
    parts: Sequence[Part],
    workers: int,
    link: Link,
    ways: Sequence[AllGather | ReduceScatter] = QUANTIZING,
) -> AllGather | ReduceScatter:
    """What takes less time by a link; all_gather where both take as much.

    Numbers that ride along cost both the same.
    """

    def seconds(strategy: AllGather | ReduceScatter) -> float:
        phases = shards.by_axes(strategy, parts).phases(parts, workers, 0)
        return link.seconds(traffic(strategy.name, workers, phases, 0))

    return min(ways, key=seconds)
