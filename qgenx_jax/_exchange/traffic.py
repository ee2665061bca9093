"""Bytes of an exchange, counted before it runs, and how long a link takes for them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from qgenx_jax import _checks
from qgenx_jax._exchange.parts import Part


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
        sent_scalar: those of the numbers that ride along.
        sent_checksum: those of checksums, and of what workers tell each other of them.
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
    sent_checksum: int = 0


class Traffic(NamedTuple):
    """What one worker sends and receives, counted before it runs.

    In one exchange, or in an iteration of a method, which may be several.

    Attributes:
        collective: what the exchange goes by: "all_gather", "reduce_scatter",
            "hierarchical", or "exact", an all-reduce.
        workers: K.
        coordinates: of the whole tree, times the exchanges.
        payload_bytes: of the buffers that a worker contributes, all phases together;
            for "exact", of the tree in float32 at least, and K numbers.
        sent_bytes: (K - 1) payloads for all_gather, (K - 1) / K of the first and
            (K - 1) times the second buffer for reduce_scatter, 2 (K - 1) / K of the
            tree for "exact", as a ring all-reduce sends. With checksum=True 8 (K - 1)
            more, 12 (K - 1) for reduce_scatter.
        received_bytes: the same number here.
        bits_per_coordinate: 8 payload_bytes / coordinates.
        phases: the collectives, in order.
        exchanges: how many these are.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
        >>> exchange.traffic(jnp.zeros((1024, 1024)), workers=3)  # doctest: +ELLIPSIS
        Traffic('all_gather', 3 workers: each sends 1,056,768 bytes, 5.3 times fewer ...
    """

    collective: str
    workers: int
    coordinates: int
    payload_bytes: int
    sent_bytes: int
    received_bytes: int
    bits_per_coordinate: float
    phases: tuple[Phase, ...]
    exchanges: int = 1

    @property
    def times_fewer(self) -> float:
        """Bytes that all-reduces of float32 would send, over those that are sent.

        A ring all-reduce sends 2 (K - 1) / K of the tree. Infinite where none is sent.
        """
        exact = 2 * (self.workers - 1) / self.workers * 4 * self.coordinates
        return exact / self.sent_bytes if self.sent_bytes else math.inf

    def __repr__(self) -> str:
        """In words; the fields are there by name."""
        bits = f"{self.bits_per_coordinate:.2f} bits per coordinate in the buffers"
        times = f"{self.times_fewer:.1f} times fewer than float32's all-reduce"
        sent = f"each sends {self.sent_bytes:,} bytes, {times}; {bits}"
        how = f"{len(self.phases)} collective(s), {self.exchanges} exchange(s)"
        return f"Traffic({self.collective!r}, {self.workers} workers: {sent}; {how})"


def traffic(
    collective: str, workers: int, phases: Sequence[Phase], coordinates: int
) -> Traffic:
    """The sums over phases of one exchange."""
    payload = sum(phase.payload_bytes for phase in phases)
    sent = sum(phase.sent_bytes for phase in phases)
    received = sum(phase.received_bytes for phase in phases)
    bits = 8 * payload / coordinates if coordinates else 0.0
    return Traffic(
        collective, workers, coordinates, payload, sent, received, bits, tuple(phases)
    )


def together(several: Sequence[Traffic]) -> Traffic:
    """The sums over exchanges of one kind between the same workers; at least one."""
    first = several[0]
    phases = [phase for each in several for phase in each.phases]
    coordinates = sum(each.coordinates for each in several)
    exchanges = sum(each.exchanges for each in several)
    total = traffic(first.collective, first.workers, phases, coordinates)
    return total._replace(exchanges=exchanges)


def phase(
    collective: str,
    workers: int,
    parts: Sequence[Part],
    n_bytes: Callable[[Part], int],
    scalar_bytes: int,
    sent_of: Callable[[int], int],
    coded: Callable[[Part], tuple[int, int]] = lambda part: (0, 0),
    *,
    checksum_bytes: int = 0,
) -> Phase:
    """A phase, from the bytes of a part and from what is sent of a buffer.

    `coded` says how many coordinates of a quantized part are encoded and decoded.
    """
    by_group = {
        part.group: sent_of(n_bytes(part)) for part in parts if part.group is not None
    }
    payload = sum(map(n_bytes, parts)) + scalar_bytes + checksum_bytes
    sent, of_scalar = sent_of(payload), sent_of(scalar_bytes)
    of_checksum = sent_of(checksum_bytes)
    of_exact = sent - of_scalar - of_checksum - sum(by_group.values())
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
        of_checksum,
    )


@dataclasses.dataclass(frozen=True)
class Link:
    """An alpha-beta-gamma model of what connects workers, and of their codec.

        seconds = latency * messages + bytes sent / bytes_per_second
                  + encode * coordinates encoded + decode * coordinates decoded

    Messages of a phase are K - 1, and 2 (K - 1) for an all-reduce: one for every other
    worker, or for every step of a ring. Bytes and coordinates are those of `Traffic`; a
    worker's own decoded vector, where one is asked for, is not counted.
    `python -m experiments.benchmarks.scaling` fits the four numbers to measurements. As
    `collective=` it chooses between one phase and two, and never to exchange exactly:
    for that compare `seconds` with that of an exchange without a quantizer.

    Attributes:
        latency: seconds before a message's first byte arrives.
        bytes_per_second: that a worker can send, and receive at the same time.
        encode: seconds for a coordinate of a vector that is encoded.
        decode: seconds for a coordinate of one payload that is decoded.

    Raises:
        ValueError: if a number is negative or not finite, or there is no rate.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> slow = qgenx.Link(latency=1e-4, bytes_per_second=125e6)  # 1 Gbit/s
        >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=8), collective=slow)
        >>> for size in (1_000, 1_000_000):
        ...     traffic = exchange.traffic(jnp.zeros(size), workers=8)
        ...     print(traffic.collective, round(1e3 * slow.seconds(traffic), 1), "ms")
        all_gather 0.8 ms
        reduce_scatter 16.0 ms
    """

    latency: float = 3e-5
    bytes_per_second: float = 1.25e9
    encode: float = 2e-10
    decode: float = 1e-10

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            is_rate = field.name == "bytes_per_second"
            check = _checks.positive if is_rate else _checks.at_least_zero
            way_out = "give seconds, and bytes per second"
            number = check(field.name, getattr(self, field.name), way_out)
            object.__setattr__(self, field.name, float(number))

    def seconds(self, traffic: Traffic, fast: "Link | None" = None) -> float:
        """What the model says of an exchange.

        Args:
            traffic: of the exchange, from `Exchange.traffic`.
            fast: with "hierarchical", the link among the workers of a host, which the
                first and the last phase go over; by default this one.

        Raises:
            ValueError: if it is not given a `Traffic`.
        """
        way_out = "pass exchange.traffic(params, workers=K)"
        _checks.instance_of("traffic", traffic, Traffic, way_out)
        inside = _inside(traffic)
        total = 0.0
        for index, phase in enumerate(traffic.phases):
            link = fast if index in inside and fast is not None else self
            rounds = 2 if phase.collective == "all_reduce" else 1
            total += link.latency * rounds * (phase.workers - 1)
            total += phase.sent_bytes / link.bytes_per_second
            total += self.encode * phase.encoded + self.decode * phase.decoded
        return total


def _inside(traffic: Traffic) -> set[int]:
    """The phases among the workers of a host, of "hierarchical" the first and last.

    Of several exchanges, or of one for each set of axes, each begins with the only
    reduce-scatter that it has.
    """
    if traffic.collective != "hierarchical":
        return set()
    names = [phase.collective for phase in traffic.phases]
    firsts = [i for i, name in enumerate(names) if name == "reduce_scatter"]
    return {*firsts, *(i - 1 for i in firsts[1:]), len(names) - 1}


DEFAULT = Link()
"""What is chosen by where no link is given: 10 Gbit/s, 30 microseconds."""
