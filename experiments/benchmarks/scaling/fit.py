"""The cost model's numbers, from measured exchanges, and how well they predict others.

Linear in its unknowns, so fitted by least squares over numbers that are at least 0. An
error is relative to what was measured: a millisecond at 1 Gbit/s counts like a second
at 10 Mbit/s.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import qgenx_jax as qgenx

Amounts = dict[str, float]
"""How much of each unknown an observation has."""

MODELS = ("link", "collectives")
WHOLE = "whole"
LATENCY, ENCODE, DECODE = "latency", "encode", "decode"
LINK_TIME, FREE_BYTES, BETWEEN = "link time", "unlimited bytes", "between phases"


class Observation(NamedTuple):
    """Seconds that were measured, of an exchange or of a part of it.

    Attributes:
        nodes: K.
        coordinates: of the vector.
        rate: of the links, as it was named.
        bits: per coordinate, or "exact".
        collective: of the exchange.
        part: "whole", "encode", "wire" or "decode".
        seconds: measured.
        amounts: messages, seconds at the rate of the link, bytes, coordinates.
    """

    nodes: int
    coordinates: int
    rate: str
    bits: str
    collective: str
    part: str
    seconds: float
    amounts: Amounts


HOLD: dict[str, Callable[[Observation], tuple]] = {
    "configuration": lambda o: (o.nodes, o.coordinates, o.rate, o.bits),
    "rate": lambda o: (o.rate,),
    "bits": lambda o: (o.bits,),
}
"""What is left out of a fit together: all collectives of a configuration, or more."""


def nonnegative_least_squares(matrix: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The x >= 0 of least |matrix x - goal|.

    Some solution has linearly independent columns where x > 0, and solves the least
    squares of these alone; so all sets of columns are tried. For a few columns.

    Raises:
        ValueError: for more than 12 columns.
    """
    columns = matrix.shape[1]
    if columns > 12:
        raise ValueError(
            f"matrix must have at most 12 columns, got {columns}; all 2^{columns} sets "
            "of them would be tried"
        )
    # of like size, whatever the units
    scale = np.abs(matrix).max(axis=0, initial=0)
    scale[scale == 0] = 1
    best, least = np.zeros(columns), float(goal @ goal)
    for count in range(1, columns + 1):
        for chosen in itertools.combinations(range(columns), count):
            some = list(chosen)
            found = np.linalg.lstsq((matrix / scale)[:, some], goal, rcond=None)[0]
            if (found < 0).any():
                continue
            x = np.zeros(columns)
            x[some] = found / scale[some]
            residual = matrix @ x - goal
            if residual @ residual < least * (1 - 1e-12):
                best, least = x, float(residual @ residual)
    return best


def traffic_of(row: Mapping[str, str]) -> qgenx.Traffic:
    """What the exchange of a measured row sends.

    Raises:
        ValueError: if the row says other bytes.
    """
    is_exact = row["bits"] == "exact"
    quantizer = None if is_exact else qgenx.uniform(int(row["bits"]))
    exchange = qgenx.exchange("data", quantizer, collective=row["collective"])
    vector = jax.ShapeDtypeStruct((int(row["coordinates"]),), "float32")
    found = exchange.traffic(vector, int(row["nodes"]))
    if found.sent_bytes != int(row["sent bytes"]):
        raise ValueError(
            f"sent bytes must be {found.sent_bytes}, what an exchange of "
            f"{row['coordinates']} coordinates at {row['bits']} bits by "
            f"{row['collective']} sends, got {row['sent bytes']}; measure again by "
            "python -m experiments.benchmarks.network"
        )
    return found


def amounts_of(
    traffic: qgenx.Traffic, bytes_per_second: float | None, model: str
) -> Amounts:
    """How much of each unknown an exchange has.

    Of "link" these are the numbers of `qgenx.Link`, its rate as the rate that a link is
    known to have, None for unlimited, times an efficiency. "collectives" knows of each
    collective how much longer it takes than its bytes at that rate, and seconds a
    coordinate between two phases (copies), which a `Link` cannot say.
    """
    found: Amounts = {}

    def add(name: str, amount: float) -> None:
        if amount:
            found[name] = found.get(name, 0.0) + amount

    for phase in traffic.phases:
        rounds = 2 if phase.collective == "all_reduce" else 1
        add(LATENCY, rounds * (phase.workers - 1))
        add(ENCODE, phase.encoded)
        add(DECODE, phase.decoded)
        if bytes_per_second is None:
            add(FREE_BYTES, phase.sent_bytes)
            continue
        of = "" if model == "link" else f" of {phase.collective}"
        add(LINK_TIME + of, phase.sent_bytes / bytes_per_second)
    if model == "collectives":
        add(BETWEEN, traffic.coordinates * (len(traffic.phases) - 1))
    return found


COLUMNS = {"framework", "nodes", "rate bit/s", "seconds whole", "seconds encode"}
"""That tell measurements from other tables."""


def observations(rows: Iterable[Mapping[str, str]], model: str) -> list[Observation]:
    """Of the rows of network_exchange.csv that are ours: the whole, and its parts.

    Parts tell encoding from decoding, which wholes at few K cannot.

    Raises:
        ValueError: if there are none, or columns are missing.
    """
    found = []
    for row in rows:
        if missing := COLUMNS - row.keys():
            raise ValueError(
                "measurements must have the columns of network_exchange.csv, got none "
                f"of {sorted(missing)}; measure by experiments.benchmarks.network"
            )
        if row["framework"] != "qgenx_jax":
            continue
        rate = float(row["rate bit/s"]) / 8 if row["rate bit/s"] else None
        traffic = traffic_of(row)
        amounts = amounts_of(traffic, rate, model)
        # what is decoded between two phases is encoded in the same pass
        between = float(sum(phase.decoded for phase in traffic.phases[:-1]))
        parts = {
            WHOLE: amounts,
            "encode": {ENCODE: amounts.get(ENCODE, 0.0), DECODE: between},
            "wire": {
                name: amount
                for name, amount in amounts.items()
                if name not in (ENCODE, DECODE, BETWEEN)
            },
            "decode": {DECODE: amounts.get(DECODE, 0.0) - between},
        }
        found += [
            Observation(
                int(row["nodes"]),
                int(row["coordinates"]),
                row["rate"],
                row["bits"],
                row["collective"],
                part,
                float(row[f"seconds {part}"]),
                of_part,
            )
            for part, of_part in parts.items()
            if row[f"seconds {part}"]
        ]
    if not found:
        raise ValueError(
            "measurements must have rows of the framework qgenx_jax, got none; measure "
            "by python -m experiments.benchmarks.network"
        )
    return found


def fit(measured: Sequence[Observation]) -> Amounts:
    """The unknowns that have the least relative errors."""
    names = sorted(set().union(*(each.amounts for each in measured)))
    matrix = np.array(
        [[o.amounts.get(name, 0.0) / o.seconds for name in names] for o in measured]
    )
    found = nonnegative_least_squares(matrix, np.ones(len(measured)))
    return dict(zip(names, map(float, found), strict=True))


def predict(unknowns: Amounts, amounts: Amounts) -> float | None:
    """Seconds; None where an unknown that they take was never fitted."""
    if not amounts.keys() <= unknowns.keys():
        return None
    return math.fsum(unknowns[name] * amount for name, amount in amounts.items())


def held_out(
    measured: Sequence[Observation], hold: str, model: str
) -> list[dict[str, Any]]:
    """A row for each whole exchange: its seconds as predicted from the others."""
    rows = []
    for key in dict.fromkeys(map(HOLD[hold], measured)):
        left_out = [o for o in measured if HOLD[hold](o) == key]
        others = [o for o in measured if HOLD[hold](o) != key]
        unknowns = fit(others) if others else {}
        for o in left_out:
            if o.part != WHOLE:
                continue
            predicted = predict(unknowns, o.amounts)
            known = predicted is not None
            rows.append(
                {
                    "model": model,
                    "rate": o.rate,
                    "bits": o.bits,
                    "collective": o.collective,
                    "coordinates": o.coordinates,
                    "nodes": o.nodes,
                    "measured ms": 1e3 * o.seconds,
                    "predicted ms": 1e3 * predicted if known else "",
                    "error %": 100 * (predicted / o.seconds - 1) if known else "",
                }
            )
    return rows


def summary(rows: Sequence[Mapping[str, Any]], limit: float) -> dict[str, Any]:
    """Of rows of `held_out`: the median and the worst error, and how many exceed."""
    errors = np.abs([row["error %"] for row in rows if row["error %"] != ""])
    return {
        "model": rows[0]["model"],
        "predicted": len(errors),
        "of": len(rows),
        "median error %": float(np.median(errors)) if len(errors) else "",
        "worst error %": float(errors.max()) if len(errors) else "",
        f"above {limit:g} %": int((errors > limit).sum()),
    }


def link_of(unknowns: Amounts, bytes_per_second: float) -> qgenx.Link:
    """The fitted "link" model at a rate that is limited.

    Raises:
        ValueError: if it was fitted without limited links.
    """
    if not unknowns.get(LINK_TIME):
        raise ValueError(
            "measurements must have limited links, which say what share of a rate is "
            "reached, got none; pass network's --rates=100mbit,1gbit"
        )
    return qgenx.Link(
        latency=unknowns.get(LATENCY, 0.0),
        bytes_per_second=bytes_per_second / unknowns[LINK_TIME],
        encode=unknowns.get(ENCODE, 0.0),
        decode=unknowns.get(DECODE, 0.0),
    )


def choices(
    rows: Iterable[Mapping[str, str]], unknowns: Amounts, model: str
) -> tuple[int, int]:
    """How often a model finds the collective that was measured to be faster.

    Returns:
        How often, and of how many pairs of measurements.
    """
    pairs: dict[tuple, dict[str, Observation]] = {}
    for o in observations(rows, model):
        if o.part == WHOLE and o.bits != "exact":
            pairs.setdefault(HOLD["configuration"](o), {})[o.collective] = o
    right = of = 0
    for pair in pairs.values():
        said = {way: predict(unknowns, o.amounts) or 0.0 for way, o in pair.items()}
        if len(pair) == 2:
            of += 1
            measured = min(pair, key=lambda way: pair[way].seconds)
            right += measured == min(said, key=lambda way: said[way])
    return right, of
