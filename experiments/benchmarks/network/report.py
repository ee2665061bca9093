"""Arithmetic of the network benchmark: what links allow, and what was reached."""

import math
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from experiments.benchmarks.network import links
from experiments.common.processes import ROOT

Row = dict[str, Any]


class Point(NamedTuple):
    """Times of an exact and a quantized exchange of one size at one rate.

    Attributes:
        rate: bits per second; infinity where links are not limited.
        exact: seconds.
        quantized: seconds.
    """

    rate: float
    exact: float
    quantized: float


def link_seconds(sent_bytes: float, rate: float) -> float:
    """How long bytes take at the rate of a link, without headers; 0 if unlimited."""
    return 8 * sent_bytes / rate


def break_even_by_parts(saved_bytes: float, codec_seconds: float) -> float:
    """The rate at which bytes saved are worth the seconds of encoding and decoding.

    Below it compression pays; infinity where the codec takes no time.
    """
    return 8 * saved_bytes / codec_seconds if codec_seconds else math.inf


def break_even_measured(points: Iterable[Point]) -> float | None:
    """The rate at which both took equally long, between the rates measured.

    Seconds are taken as linear in 1 / rate between two rates, as a link has them. The
    highest such rate where there are several, since times have noise.

    Returns:
        0 where compression never paid, infinity where it did even without a limit, None
        where it paid at all rates measured but all were limited, or nothing is known.
    """
    ordered = sorted(points, key=lambda point: -point.rate)
    if not ordered:
        return None
    gains = [point.exact - point.quantized for point in ordered]
    if gains[0] > 0:
        return math.inf if math.isinf(ordered[0].rate) else None
    for index in range(1, len(ordered)):
        if gains[index] > 0:
            fast, slow = 1 / ordered[index - 1].rate, 1 / ordered[index].rate
            share = -gains[index - 1] / (gains[index] - gains[index - 1])
            return (
                math.inf
                if fast + share * (slow - fast) == 0
                else 1 / (fast + share * (slow - fast))
            )
    return 0.0


def fitting_size(coordinates: int, nodes: int, rate: float, seconds: float) -> int:
    """Coordinates, quartered until an exact exchange takes at most some seconds."""
    while coordinates > 4096:
        if link_seconds(8 * (nodes - 1) / nodes * coordinates, rate) <= seconds:
            break
        coordinates //= 4
    return coordinates


def with_speed_ups(row: Row, exact: Mapping[str, Any]) -> Row:
    """A row of iterations with what compute and link allow, beside the exact row.

    An iteration cannot be shorter than its compute and its bytes at the link's rate.
    A slow exact exchange makes what was reached larger than what the links allow, which
    "allowed / whole", of this row alone, does not suffer from.
    """
    allowed = exact["seconds allowed"] / row["seconds allowed"]
    reached = exact["seconds whole"] / row["seconds whole"]
    return row | {
        "speed-up": reached,
        "speed-up allowed": allowed,
        "reached / allowed": reached / allowed,
        "allowed / whole": row["seconds allowed"] / row["seconds whole"],
    }


def break_even_rows(rows: Sequence[Row]) -> list[Row]:
    """A row for each size, collective and number of bits that was quantized."""
    exact = {
        (row["coordinates"], row["rate"]): row
        for row in rows
        if row["collective"] == "exact"  # ours: PyTorch's is exact, too
    }
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["seconds encode"] not in ("", None):
            key = row["coordinates"], row["collective"], row["bits"]
            groups.setdefault(key, []).append(row)
    found = []
    for (coordinates, collective, bits), group in groups.items():
        pairs = [(exact[coordinates, row["rate"]], row) for row in group]
        codec = min(row["seconds encode"] + row["seconds decode"] for row in group)
        saved = pairs[0][0]["sent bytes"] - group[0]["sent bytes"]
        points = [
            Point(
                links.bits_per_second(row["rate"]),
                reference["seconds whole"],
                row["seconds whole"],
            )
            for reference, row in pairs
        ]
        found.append(
            {
                "coordinates": coordinates,
                "collective": collective,
                "bits": bits,
                "bytes saved": saved,
                "codec ms": 1e3 * codec,
                "by parts": rate_text(break_even_by_parts(saved, codec)),
                "measured": rate_text(break_even_measured(points), points),
            }
        )
    return found


def rate_text(rate: float | None, points: Sequence[Point] = ()) -> str:
    """A break-even rate in words."""
    if rate is None:
        highest = max((point.rate for point in points), default=math.nan)
        return f"above {rate_text(highest)}"
    if math.isinf(rate):
        return "pays without a limit"
    if rate == 0:
        lowest = min((point.rate for point in points), default=math.nan)
        return f"below {rate_text(lowest)}"
    unit, name = (1e9, "Gbit/s") if rate >= 1e9 else (1e6, "Mbit/s")
    return f"{rate / unit:.3g} {name}"


def machine(cores: int, load: float) -> str:
    """What measured: one line."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return (
        f"{cores} cores ({platform.machine()}), load {load:.1f} before, "
        f"jax {metadata.version('jax')}, commit {commit or 'unknown'}"
    )


def milliseconds(row: Row, columns: Sequence[str]) -> Row:
    """A row for the screen: some columns, seconds as milliseconds."""
    shown = {}
    for name in columns:
        value = row[name]
        if name.startswith("seconds"):
            value = 1e3 * value if isinstance(value, float) else value
            name = name.removeprefix("seconds ") + " ms"
        shown[name] = value
    return shown
