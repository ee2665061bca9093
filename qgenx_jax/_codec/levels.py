"""Levels 0 = l_0 < l_1 < ... < l_s < l_{s+1} = 1 that magnitudes are rounded to."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from qgenx_jax._checks import floating_leaves, refuse
from qgenx_jax._types import Array

SIGNIFICANT_BITS = 12
"""Of a level, and of a norm that multiplies it: the product is exact in float32."""

LEAST_LEVEL = 2.0**-50
"""The lowest level there may be: products with norms stay off float32's end."""


def steps_of(bits: int) -> int:
    """s + 1 = 2^(bits - 1) - 1: the levels above zero that b bits can tell apart."""
    return 2 ** (bits - 1) - 1


def bits_for(levels: int) -> int:
    """The fewest bits, sign included, for this many levels above zero."""
    return math.ceil(math.log2(2 * levels + 1))


def exponential_levels(bits: int, base: float) -> tuple[float, ...]:
    """l_1, ..., l_{s+1} = 1 with l_j = base^(s+1-j), to SIGNIFICANT_BITS bits.

    With base 1/2 and 8 bits the lowest would be 2^-126; they stop at LEAST_LEVEL, and
    lower ones repeat that one.
    """
    count = steps_of(bits)
    exact = [max(base ** (count - j), LEAST_LEVEL) for j in range(1, count + 1)]
    return tuple(float(value) for value in round_to_bits(np.array(exact)))


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """User levels l_1 < ... < l_{s+1} = 1, rounded to SIGNIFICANT_BITS bits.

    Args:
        levels: increasing numbers in (0, 1]; a leading 0 is allowed and dropped, a 1
            at the end is needed.

    Raises:
        ValueError: if they are not finite, not increasing, outside [0, 1], do not end
            in 1, start below 2^-50, are more than 127, or are too near each other to
            tell apart in SIGNIFICANT_BITS bits.
    """
    try:
        values = np.asarray(levels, np.float64)
    except (TypeError, ValueError):  # no numbers; a TracerArrayConversionError is one
        values = np.zeros(0)
    if values.ndim == 1 and values.size and values[0] == 0:
        values = values[1:]
    wrong = (
        values.ndim != 1
        or not values.size
        or not np.isfinite(values).all()
        or values[0] <= 0
        or values[-1] != 1
        or (np.diff(values) <= 0).any()
    )
    if wrong:
        raise refuse(
            "levels",
            "must be increasing numbers in (0, 1] that end in 1",
            levels,
            "zero is a level always, and negative values mirror positive ones",
        )
    if values[0] < LEAST_LEVEL:
        raise refuse(
            "levels",
            "must be at least 2^-50, below which a norm times a level underflows",
            levels,
            "drop it, zero is a level always",
        )
    if values.size > steps_of(8):
        raise refuse(
            "levels",
            f"must be at most {steps_of(8)}, which 8 bits can tell apart",
            f"{values.size} levels",
            "drop some",
        )
    rounded = np.asarray(round_to_bits(values))
    if (np.diff(rounded) <= 0).any():
        raise refuse(
            "levels",
            f"must differ in their first {SIGNIFICANT_BITS} significant bits",
            levels,
            "drop one of the two nearest",
        )
    return tuple(map(float, rounded))


def round_to_bits(values: np.ndarray) -> np.ndarray:
    """To the nearest numbers of SIGNIFICANT_BITS significant bits."""
    fraction, exponent = np.frexp(values)
    scale = 2.0**SIGNIFICANT_BITS
    return np.ldexp(np.round(fraction * scale) / scale, exponent)


def given(levels: Any, count: int) -> Array:
    """Levels given in place of a quantizer's own, to SIGNIFICANT_BITS bits, downward.

    Args:
        levels: not decreasing, in [0, 1], the last one 1.
        count: how many there have to be.

    Returns:
        Array (count,), float32. Where the levels are traced and break the rule it is
        all NaN, and so is all that is rounded to them.

    Raises:
        ValueError: for another shape or dtype, and for concrete levels that break the
            rule.
    """
    floating_leaves("levels", levels)
    table = jnp.asarray(levels, jnp.float32)
    if table.shape != (count,):
        raise refuse(
            "levels",
            f"must have the shape {(count,)} of the quantizer's own",
            table.shape,
            "make another quantizer for another number of levels",
        )
    fits = (table[0] >= 0) & (jnp.diff(table) >= 0).all() & (table[-1] == 1)
    if not isinstance(fits, Tracer) and not fits:
        raise refuse(
            "levels",
            "must not decrease, lie in [0, 1] and end in 1",
            levels,
            "sort them and divide by the largest",
        )
    return jnp.where(fits, truncate(table), jnp.nan)


def truncate(levels: Array) -> Array:
    """A float32 array to SIGNIFICANT_BITS bits, downward."""
    drop = jnp.uint32(2 ** (24 - SIGNIFICANT_BITS) - 1)
    as_bits = lax.bitcast_convert_type(levels, jnp.uint32)
    return lax.bitcast_convert_type(as_bits & ~drop, jnp.float32)


def neighbours(
    magnitude: Array, levels: Array, scale: Array
) -> tuple[Array, Array, Array]:
    """The levels around magnitudes, by a binary search without branches or loads.

    The next threshold to compare with is selected from all that are possible, by the
    outcomes so far: about as many selections as there are levels. Loads at computed
    places would be fewer, but XLA does them one by one on CPUs.

    Args:
        magnitude: (rows, n), at most `scale`.
        levels: l_1 <= ... <= l_{s+1} = 1, of magnitude's dtype.
        scale: (rows, 1), which multiplies levels, exactly.

    Returns:
        How many of l_1, ..., l_s times scale are at most the magnitude, the level of
        that number (0, or l_tau times scale), and the next one: (rows, n) each.
    """
    count = levels.size
    beyond = jnp.asarray(jnp.inf, levels.dtype)  # that no magnitude reaches
    below = jnp.zeros(magnitude.shape, jnp.int32)
    low = jnp.zeros_like(magnitude)
    high = jnp.broadcast_to(levels[-1] * scale, magnitude.shape)
    outcomes: list[Array] = []  # of the comparisons so far, the first one first

    def selected(numbers: list[int], outcomes: list[Array]) -> Array:
        if numbers[0] >= count:
            return beyond
        if not outcomes:
            return levels[numbers[0] - 1]
        half = len(numbers) // 2
        lower = selected(numbers[:half], outcomes[1:])
        upper = selected(numbers[half:], outcomes[1:])
        return jnp.where(outcomes[0], upper, lower)

    stride = 1 << (count - 1).bit_length()
    while stride := stride // 2:
        numbers = [prefix * 2 * stride + stride for prefix in range(2 ** len(outcomes))]
        threshold = selected(numbers, outcomes) * scale
        reached = magnitude >= threshold
        below += jnp.where(reached, stride, 0)
        low = jnp.where(reached, threshold, low)
        high = jnp.where(reached, high, jnp.minimum(high, threshold))
        outcomes.append(reached)
    return below, low, high


FEW = 16
"""Entries that are selected from; of more, one is loaded, which XLA does not vectorize
on CPUs.
"""


def lookup(table: Array, index: Array) -> Array:
    """table[index], for indices that are in bounds."""
    if table.size > FEW:
        return table.at[index].get(mode="promise_in_bounds")
    value = jnp.broadcast_to(table[0], index.shape)
    for entry in range(1, table.size):
        value = jnp.where(index >= entry, table[entry], value)
    return value
