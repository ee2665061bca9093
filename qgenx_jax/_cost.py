"""How long an exchange takes: a model of link and codec, and the choice made by it."""

import dataclasses
from collections.abc import Sequence

from qgenx_jax import _checks, _traffic, _wire


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

    def seconds(self, traffic: _traffic.Traffic, fast: "Link | None" = None) -> float:
        """What the model says of an exchange.

        Args:
            traffic: of the exchange, from `Exchange.traffic`.
            fast: with "hierarchical", the link among the workers of a host, which the
                first and the last phase go over; by default this one.

        Raises:
            ValueError: if it is not given a `Traffic`.
        """
        way_out = "pass exchange.traffic(params, workers=K)"
        _checks.instance_of("traffic", traffic, _traffic.Traffic, way_out)
        total = 0.0
        for index, phase in enumerate(traffic.phases):
            is_inside = traffic.collective == "hierarchical" and index in (
                0,
                len(traffic.phases) - 1,
            )
            link = fast if is_inside and fast is not None else self
            rounds = 2 if phase.collective == "all_reduce" else 1
            total += link.latency * rounds * (phase.workers - 1)
            total += phase.sent_bytes / link.bytes_per_second
            total += self.encode * phase.encoded + self.decode * phase.decoded
        return total


DEFAULT = Link()
"""What "auto" and "hierarchical" choose by: 10 Gbit/s, 30 microseconds."""


def faster(parts: Sequence[_wire.Part], workers: int, link: Link) -> str:
    """Of one and of two phases, what takes less time; all_gather where both take as
    much. A number that rides along costs both the same.
    """

    def seconds(way: str) -> float:
        phases = _traffic.TWO_WAYS[way](parts, workers, 0)
        return link.seconds(_traffic.traffic(way, workers, phases, 0))

    return min(_traffic.TWO_WAYS, key=seconds)
