"""Bytes of an exchange, counted before it runs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from qgenx_jax import _wire


class Phase(NamedTuple):
    """What one worker sends and receives in one collective of an exchange.

    Attributes:
        collective: "all_gather", "all_to_all", "reduce_scatter" or "all_reduce".
        workers: that take part in it: K, or those along one axis of `hierarchical`.
        payload_bytes: of the buffer that a worker contributes.
        sent_bytes: of it; what stays on the worker is not counted.
        received_bytes: the same number in all of these.
        sent_by_group: the sent bytes of each group of quantized leaves.
        sent_exact: those of the leaves that travel exact.
        sent_scalar: those of the number that rides along.
        encoded: quantized coordinates that the worker encodes for it.
        decoded: those that it decodes afterwards, of each payload.
    """

    collective: str
    workers: int
    payload_bytes: int
    sent_bytes: int
    received_bytes: int
    sent_by_group: dict[str, int]
    sent_exact: int
    sent_scalar: int
    encoded: int = 0
    decoded: int = 0


class Traffic(NamedTuple):
    """What one worker sends and receives in one exchange, counted before it runs.

    Attributes:
        collective: what the exchange goes by: "all_gather", "reduce_scatter",
            "hierarchical", or "exact", an all-reduce.
        workers: K.
        coordinates: of the whole tree.
        payload_bytes: of the buffers that a worker contributes, all phases together;
            for "exact", of the tree in float32 at least, and K numbers.
        sent_bytes: (K - 1) payloads for all_gather, (K - 1) / K of the first and
            (K - 1) times the second buffer for reduce_scatter, 2 (K - 1) / K of the
            tree for "exact", as a ring all-reduce sends.
        received_bytes: the same number here.
        bits_per_coordinate: 8 payload_bytes / coordinates.
        phases: the collectives, in order.
    """

    collective: str
    workers: int
    coordinates: int
    payload_bytes: int
    sent_bytes: int
    received_bytes: int
    bits_per_coordinate: float
    phases: tuple[Phase, ...]


def traffic(
    collective: str, workers: int, phases: Sequence[Phase], coordinates: int
) -> Traffic:
    """The sums over phases."""
    payload = sum(phase.payload_bytes for phase in phases)
    sent = sum(phase.sent_bytes for phase in phases)
    received = sum(phase.received_bytes for phase in phases)
    bits = 8 * payload / coordinates if coordinates else 0.0
    return Traffic(
        collective, workers, coordinates, payload, sent, received, bits, tuple(phases)
    )


def all_reduce(
    parts: Sequence[_wire.Part], workers: int, scalar_bytes: int
) -> tuple[Phase, ...]:
    """Of the exact collective: a ring's, with a slot for the number of each worker."""
    return (
        _phase(
            "all_reduce",
            workers,
            parts,
            lambda part: _wire.Raw(part.dtype).n_bytes(part.size),
            workers * scalar_bytes,
            lambda n: -(-2 * (workers - 1) * n // workers),
        ),
    )


def all_gather(
    parts: Sequence[_wire.Part], workers: int, scalar_bytes: int
) -> tuple[Phase, ...]:
    """Of one all-gather of whole vectors."""
    return (
        _phase(
            "all_gather",
            workers,
            parts,
            lambda part: part.coder.n_bytes(part.size),
            scalar_bytes,
            lambda n: (workers - 1) * n,
            lambda part: (part.size, workers * part.size),
        ),
    )


def reduce_scatter(
    parts: Sequence[_wire.Part], workers: int, scalar_bytes: int
) -> tuple[Phase, ...]:
    """Of an all-to-all of chunks and an all-gather of their means."""
    return (
        _phase(
            "all_to_all",
            workers,
            parts,
            lambda part: workers * part.coder.n_bytes(part.chunk(workers)),
            0,
            lambda n: n // workers * (workers - 1),
            lambda part: (workers * part.chunk(workers), workers * part.chunk(workers)),
        ),
        _phase(
            "all_gather",
            workers,
            parts,
            lambda part: part.second.n_bytes(part.chunk(workers)),
            scalar_bytes,
            lambda n: (workers - 1) * n,
            lambda part: (part.chunk(workers), workers * part.chunk(workers)),
        ),
    )


def hierarchical(
    parts: Sequence[_wire.Part], slow: int, fast: int, way: str
) -> tuple[Phase, ...]:
    """Of a float reduce-scatter, the quantized mean of pieces, a float all-gather.

    `way` is one of `TWO_WAYS`, that the mean of pieces goes.
    """
    shared = pieces(parts, fast)

    def n_bytes(part: _wire.Part) -> int:
        return _wire.Raw(part.dtype).n_bytes(part.size)

    first = _phase(
        "reduce_scatter",
        fast,
        shared,
        lambda part: fast * n_bytes(part),
        0,
        lambda n: n // fast * (fast - 1),
    )
    between = TWO_WAYS[way](shared, slow, 0)
    last = _phase("all_gather", fast, shared, n_bytes, 0, lambda n: (fast - 1) * n)
    return (first, *between, last)


TWO_WAYS = {"all_gather": all_gather, "reduce_scatter": reduce_scatter}


def pieces(parts: Sequence[_wire.Part], count: int) -> tuple[_wire.Part, ...]:
    """Parts of what each of `count` workers has after a reduce-scatter in full."""
    return tuple(
        part._replace(
            size=part.chunk(count),
            coder=part.second if part.group is None else part.coder,
        )
        for part in parts
    )


def _phase(
    collective: str,
    workers: int,
    parts: Sequence[_wire.Part],
    n_bytes: Callable[[_wire.Part], int],
    scalar_bytes: int,
    sent_of: Callable[[int], int],
    coded: Callable[[_wire.Part], tuple[int, int]] = lambda part: (0, 0),
) -> Phase:
    """A phase, from the bytes of a part and from what is sent of a buffer.

    `coded` says how many coordinates of a quantized part are encoded and decoded.
    """
    by_group = {
        part.group: sent_of(n_bytes(part)) for part in parts if part.group is not None
    }
    payload = sum(map(n_bytes, parts)) + scalar_bytes
    sent, of_scalar = sent_of(payload), sent_of(scalar_bytes)
    of_exact = sent - of_scalar - sum(by_group.values())
    codings = [coded(part) for part in parts if part.group is not None]
    encoded, decoded = (sum(each[i] for each in codings) for i in range(2))
    return Phase(
        collective,
        workers,
        payload,
        sent,
        sent,
        by_group,
        of_exact,
        of_scalar,
        encoded,
        decoded,
    )
