"""The columns of the benchmark of the exchange."""

from typing import Any

import numpy as np

Row = dict[str, Any]

BEST = ", best"


def slowest(of_processes: Any) -> np.ndarray:
    """Seconds (cases, rounds) of (processes, cases, rounds): all wait for the last."""
    return np.max(np.asarray(of_processes, np.float64), axis=0)


def columns(
    seconds: np.ndarray, exact_seconds: np.ndarray, sent: int, exact_sent: int
) -> Row:
    """A case beside the exact exchange.

    Args:
        seconds: of the rounds.
        exact_seconds: likewise.
        sent: bytes that a worker sends.
        exact_sent: likewise.

    Returns:
        Milliseconds; the speed-up over the exact exchange; what it is bounded by where
        nothing but bytes on a wire takes time; the quotient of these two.
    """
    bound = exact_sent / sent
    row: Row = {"sent bytes": sent, "volume bound": bound}
    for ending, of in (("", np.median), (BEST, np.min)):
        mine, exact = float(of(seconds)), float(of(exact_seconds))
        row[f"ms{ending}"] = 1e3 * mine
        row[f"speed-up{ending}"] = exact / mine
        row[f"efficiency{ending}"] = exact / mine / bound
    return row
