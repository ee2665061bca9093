"""Seconds of exchanges that nobody measured, by the cost model: which strategy when."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

import qgenx_jax as qgenx

Row = dict[str, Any]
FLAT = ("all_gather", "reduce_scatter")
HIERARCHICAL = "hierarchical"
EXACT, EXACT_HOSTS = "exact", "exact, hosts"
ONE, TWO = "one exchange", "two exchanges"
STRATEGIES = (EXACT, EXACT_HOSTS, *FLAT, HIERARCHICAL)


class Codec(NamedTuple):
    """What encodes and decodes.

    Attributes:
        name: in tables.
        encode: seconds a coordinate, by the number of bits.
        decode: seconds a coordinate of one payload.
    """

    name: str
    encode: Mapping[int, float]
    decode: Mapping[int, float]


class Network(NamedTuple):
    """What connects workers.

    Attributes:
        rate: that each worker's link has by name, bits per second.
        latency: seconds a message.
        efficiency: the share of the rate that is reached.
        per_host: workers of a host, for strategies that know of hosts.
        fast: the link inside a host.
    """

    rate: float
    latency: float
    efficiency: float
    per_host: int
    fast: qgenx.Link


class Plan(NamedTuple):
    """What to project to.

    Attributes:
        networks: links, all of whose rate is reached until a fit says otherwise.
        exponents: of sizes.
        bits: per coordinate.
        workers: K.
        codecs: by name.
    """

    networks: list[Network]
    exponents: list[int]
    bits: list[int]
    workers: list[int]
    codecs: list[str]


def bandwidth_bound(bits: Iterable[int], bytes_per_second: float) -> Codec:
    """A codec that only moves bytes to and from memory: assumed, not measured.

    Encoding reads a float32 twice, for its bucket's norm and to be rounded, and writes
    b / 8 bytes. Decoding one payload of many reads b / 8 bytes, and reads and writes
    the float32 sum.
    """
    bits = list(bits)
    return Codec(
        f"assumed, {bytes_per_second:g} bytes/s",
        {b: (2 * 4 + b / 8) / bytes_per_second for b in bits},
        {b: (2 * 4 + b / 8) / bytes_per_second for b in bits},
    )


def link_of(network: Network, codec: Codec, bits: int) -> qgenx.Link:
    """The model of the slow links."""
    return qgenx.Link(
        latency=network.latency,
        bytes_per_second=network.efficiency * network.rate / 8,
        encode=codec.encode[bits],
        decode=codec.decode[bits],
    )


@functools.cache
def traffic(
    strategy: str, bits: int, coordinates: int, workers: int, per_host: int
) -> qgenx.Traffic | None:
    """Of one exchange; None where there are no two hosts."""
    vector = jax.ShapeDtypeStruct((coordinates,), "float32")
    quantizer = qgenx.uniform(bits)
    if strategy in FLAT:
        exchange = qgenx.exchange("data", quantizer, collective=strategy)
        return exchange.traffic(vector, workers)
    exact = qgenx.exchange("data", None, collective="exact")
    if strategy == EXACT:
        return exact.traffic(vector, workers)
    if workers % per_host or workers < 2 * per_host or per_host < 2:
        return None
    hosts = workers // per_host
    exchange = qgenx.exchange(("host", "chip"), quantizer, collective=HIERARCHICAL)
    found = exchange.traffic(vector, (hosts, per_host))
    if strategy == HIERARCHICAL:
        return found
    piece = jax.ShapeDtypeStruct((-(-coordinates // per_host),), "float32")
    between = exact.traffic(piece, hosts).phases
    # the same phases inside, around an all-reduce
    return found._replace(phases=(found.phases[0], *between, found.phases[-1]))


def pays_between(
    quantized: tuple[float, float], exact: tuple[float, float]
) -> tuple[float, float] | None:
    """The rates of a link at which a quantized exchange is faster than an exact one.

    Args:
        quantized: seconds at an infinite rate, and seconds times rate that rates add.
        exact: the same.

    Returns:
        The lowest and the highest, 0 and infinity at the ends; None for no rate.
    """
    lost, saved = quantized[0] - exact[0], exact[1] - quantized[1]
    if lost < 0:
        return (0.0, math.inf) if saved >= 0 else (saved / lost, math.inf)
    if saved <= 0:
        return None
    return (0.0, saved / lost if lost else math.inf)


def parts(
    sent: qgenx.Traffic, network: Network, codec: Codec, bits: int
) -> tuple[float, float]:
    """Seconds at an infinite rate, and seconds times rate that rates add."""
    link = link_of(network, codec, bits)
    seconds = link.seconds(sent, fast=network.fast)
    inside = sent.collective == HIERARCHICAL
    phases = sent.phases[1:-1] if inside else sent.phases
    of_rate = sum(phase.sent_bytes for phase in phases) * 8 / network.efficiency
    return max(seconds - of_rate / network.rate, 0.0), of_rate


def rows_of(
    codec: Codec,
    network: Network,
    coordinates: int,
    bits: int,
    workers: int,
    compute: float,
) -> list[Row]:
    """A row for each strategy that there is, the fastest marked.

    Speed-ups are over the faster of the two exact ones. An iteration takes its compute
    and one exchange, or two. Rates between which a quantized exchange pays are beside
    the exact one of its kind, flat or by hosts.
    """
    sent = {
        strategy: found
        for strategy in STRATEGIES
        if (found := traffic(strategy, bits, coordinates, workers, network.per_host))
    }
    link = link_of(network, codec, bits)
    seconds = {name: link.seconds(found, network.fast) for name, found in sent.items()}
    exact = min(seconds[name] for name in (EXACT, EXACT_HOSTS) if name in seconds)
    best = min(seconds, key=lambda name: seconds[name])
    rows = []
    for name, found in sent.items():
        own = parts(found, network, codec, bits)
        other = EXACT_HOSTS if name == HIERARCHICAL else EXACT
        reference = parts(sent[other], network, codec, bits)
        between = None
        if name not in (EXACT, EXACT_HOSTS):
            between = pays_between(own, reference)
        low, high = between or ("", "")
        one, two = (compute + calls * seconds[name] for calls in (1, 2))
        row = {
            "codec": codec.name,
            "Gbit/s": network.rate / 1e9,
            "coordinates": coordinates,
            "bits": bits,
            "workers": workers,
            "strategy": name,
            "fastest": name == best,
            "sent bytes": found.sent_bytes,
            "seconds": seconds[name],
            "speed-up over exact": seconds[EXACT] / seconds[name],
            "speed-up over exact, hosts": seconds[EXACT_HOSTS] / seconds[name]
            if EXACT_HOSTS in seconds
            else "",
            "speed-up": exact / seconds[name],
            "pays above Gbit/s": low / 1e9 if low != "" else "",
            "pays below Gbit/s": high / 1e9 if high != "" else "",
            f"iteration, {ONE}": one,
            f"speed-up, {ONE}": (compute + exact) / one,
            f"iteration, {TWO}": two,
            f"speed-up, {TWO}": (compute + 2 * exact) / two,
        }
        rows.append(row)
    return rows


def when(
    rows: Sequence[Row],
    speed_up: str = "speed-up",
    among: Sequence[str] = STRATEGIES,
) -> list[Row]:
    """A row for each K, a column for each link: the fastest strategy, its speed-up."""
    return _by_workers(
        rows, among, lambda row: f"{row['strategy']} {row[speed_up]:.2g}"
    )


def iterations(rows: Sequence[Row]) -> list[Row]:
    """The same of milliseconds of an iteration of one exchange, and of two."""

    def text(row: Row) -> str:
        both = [row[f"iteration, {calls}"] for calls in (ONE, TWO)]
        return ", ".join(f"{1e3 * seconds:.3g}" for seconds in both)

    return _by_workers(rows, STRATEGIES, text)


def break_even(rows: Sequence[Row]) -> list[Row]:
    """The same of Gbit/s at which the fastest quantized exchange beats the exact one of
    its kind, with the latency of the link.
    """

    def text(row: Row) -> str:
        low, high = (row[f"pays {end} Gbit/s"] for end in ("above", "below"))
        if high == "":
            return f"{row['strategy']} never"
        if low:
            return f"{row['strategy']} > {low:.2g}"
        return f"{row['strategy']} < {high:.3g}"

    return _by_workers(rows, (*FLAT, HIERARCHICAL), text)


def _by_workers(
    rows: Sequence[Row], among: Sequence[str], text: Callable[[Row], str]
) -> list[Row]:
    """The fastest of some strategies as a text, for each K and link."""
    cells: dict[int, dict[str, Row]] = {}
    for row in rows:
        if row["strategy"] in among:
            of_k = cells.setdefault(row["workers"], {})
            link = f"{row['Gbit/s']:g} Gbit/s"
            of_k[link] = min(of_k.get(link, row), row, key=lambda x: x["seconds"])
    return [
        {"K": workers} | {link: text(row) for link, row in of_k.items()}
        for workers, of_k in cells.items()
    ]


def chosen(rows: Sequence[Row], networks: Sequence[Network], codec: Codec) -> Row:
    """What exchanges choose by themselves, beside the fastest flat quantized one.

    A `Link` of the same numbers as the table, and "auto", which knows 10 Gbit/s only.
    """
    links = {network.rate / 1e9: network for network in networks}
    flat: dict[tuple, dict[str, float]] = {}
    for row in rows:
        if row["strategy"] in FLAT:
            key = row["Gbit/s"], row["coordinates"], row["bits"], row["workers"]
            flat.setdefault(key, {})[row["strategy"]] = row["seconds"]
    found: dict[str, list[float]] = {"link": [], "auto": []}
    for (rate, coordinates, bits, workers), seconds in flat.items():
        vector = jax.ShapeDtypeStruct((coordinates,), "float32")
        least = min(seconds.values())
        ways = {"link": link_of(links[rate], codec, bits), "auto": "auto"}
        for name, collective in ways.items():
            exchange = qgenx.exchange(
                "data", qgenx.uniform(bits), collective=collective
            )
            way = exchange.traffic(vector, workers).collective
            found[name].append(seconds[way] / least)
    result: Row = {"codec": codec.name, "cases": len(flat)}
    for name, losses in found.items():
        result[f"{name} right"] = sum(loss == 1 for loss in losses)
        result[f"{name} slower at most"] = max(losses)
    return result
