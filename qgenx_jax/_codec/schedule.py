"""When levels are fitted anew to what is sent, and how."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array

MILESTONES = (0, 200, 1000, 5000)
"""The exchanges before which the paper's program refreshes, and then every EVERY."""

EVERY = 10_000

METHODS = ("newton", "coordinate", "gradient", "amq")
"""What levels may be fitted by."""


class Refresh(NamedTuple):
    """How an adaptive quantizer's levels are fitted.

    Attributes:
        at: numbers of exchanges that are done before one with new levels.
        every: and every so many; 0 for no more.
        method: "newton", "coordinate", "gradient" or "amq".
        law: "histogram" or "normal".
    """

    at: tuple[int, ...] = MILESTONES
    every: int = EVERY
    method: str = "newton"
    law: str = "histogram"

    def is_due(self, count: Array) -> Array:
        """Whether the exchange after `count` others gets new levels."""
        due = jnp.any(count == jnp.asarray(self.at, jnp.int32))
        return due | (count % self.every == 0) if self.every else due


def refresh(adapt: Any, method: Any, law: Any) -> Refresh:
    """What a user says of refreshes, checked.

    Args:
        adapt: None for MILESTONES and every EVERY, a number for every so many
            exchanges, or a sequence of numbers of exchanges.
        method: see `Refresh`.
        law: see `Refresh`.

    Raises:
        ValueError: for anything else.
    """
    _checks.one_of("method", method, METHODS)
    _checks.one_of("law", law, ("histogram", "normal"))
    if adapt is None:
        return Refresh(method=method, law=law)
    if isinstance(adapt, np.ndarray) and adapt.ndim == 1:
        adapt = adapt.tolist()
    if isinstance(adapt, Sequence) and not isinstance(adapt, str):
        at = [_checks.whole_number("adapt", x, 0, 2**31 - 1) for x in adapt]
        if not at:
            raise _checks.refuse(
                "adapt",
                "must name an exchange before which levels are fitted",
                adapt,
                "pass for instance (0, 200), or make user_levels, which stay",
            )
        return Refresh(tuple(sorted(set(at))), 0, method, law)
    every = _checks.whole_number("adapt", adapt, 1, 2**31 - 1)
    return Refresh((), every, method, law)
