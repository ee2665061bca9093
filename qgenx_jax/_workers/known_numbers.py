"""What becomes of numbers that are known before a program runs."""

from collections.abc import Callable
from typing import Any

import numpy as np


def number(constant: Any) -> Any:
    """The number of a constant of one entry, or None."""
    try:
        array = np.asarray(constant)
    except TypeError:  # typed PRNG keys
        return None
    return array.item() if array.ndim == 0 and array.dtype.kind in "biuf" else None


def cast(known: Any, aval: Any) -> Any:
    """A known number in another dtype."""
    return np.asarray(known).astype(aval.dtype).item()


def computed(name: str, known: list, aval: Any) -> Any:
    """In the dtype of the operands, in which sums wrap and round as they do there."""
    with np.errstate(all="ignore"):
        numbers = [np.asarray(k).astype(aval.dtype) for k in known]
        return np.asarray(ON_NUMBERS[name](*numbers)).item()


ON_NUMBERS: dict[str, Callable] = {
    "not": lambda a: ~a,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}
NEUTRAL = {"add": 0, "add_any": 0, "sub": 0, "mul": 1}
