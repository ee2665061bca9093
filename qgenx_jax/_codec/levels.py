"""Levels that normalised coordinates are rounded to: magnitudes, or signed ones.

- with zero: 0 = l_0 < l_1 < ... < l_{s+1} = 1, mirrored to negative values
- without zero: 0 < l_1 < ... < l_n = 1, mirrored, so that of b bits all codes are used
- signed: -1 = l_0 < ... < l_n = 1, as they are
- over the range: 0 = l_0 < ... < l_n = 1, from a bucket's minimum to its maximum
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Shape(NamedTuple):
    """What a table of levels looks like.

    Attributes:
        signed: from -1 to 1, not mirrored.
        zero: whether zero is a level whatever the table says; not so of signed ones.
        ranged: over the range of a bucket, not its norm: zero stands for the minimum,
            and nothing is mirrored.
    """

    signed: bool = False
    zero: bool = True
    ranged: bool = False

    def most(self, bits: int) -> int:
        """How many levels of a table b bits can tell apart."""
        if self.signed:
            return 2**bits
        if self.ranged:
            return 2**bits - 1
        return steps_of(bits) if self.zero else 2 ** (bits - 1)

    def bits_for(self, count: int) -> int:
        """The fewest bits that tell the codes of so many levels of a table apart."""
        above_and_below = not (self.signed or self.ranged)
        codes = count * (1 + above_and_below) + (self.zero and not self.signed)
        return max(1, (codes - 1).bit_length())

    def equal(self, bits: int) -> tuple[float, ...]:
        """Levels at equal distances, as many as there can be."""
        count = self.most(bits)
        if self.signed:
            return tuple(np.linspace(-1, 1, count).tolist())
        first = 1 if self.zero else 0.5
        last = count if self.zero else count - 0.5
        return tuple(((np.arange(count) + first) / last).tolist())


WITH_ZERO, WITHOUT_ZERO, SIGNED = Shape(), Shape(zero=False), Shape(True, False)
OVER_RANGE = Shape(ranged=True)

RANGE = "range"
"""In place of a norm's order, what levels over the range are given."""


def steps_of(bits: int) -> int:
    """s + 1 = 2^(bits - 1) - 1: the levels above zero that b bits can tell apart."""
    return 2 ** (bits - 1) - 1


def exponential_levels(bits: int, base: float) -> tuple[float, ...]:
    """l_1, ..., l_{s+1} = 1 with l_j = base^(s+1-j), to SIGNIFICANT_BITS bits.

    With base 1/2 and 8 bits the lowest would be 2^-126; they stop at LEAST_LEVEL, and
    lower ones repeat that one.
    """
    count = steps_of(bits)
    exact = [max(base ** (count - j), LEAST_LEVEL) for j in range(1, count + 1)]
    return tuple(float(value) for value in round_to_bits(np.array(exact)))


def check_levels(
    levels: Sequence[float], shape: Shape = WITH_ZERO
) -> tuple[float, ...]:
    """User levels, rounded to SIGNIFICANT_BITS bits.

    Args:
        levels: of magnitudes increasing numbers in (0, 1], where a leading 0 is dropped
            if zero is a level; signed ones in [-1, 1], from -1; with a 1 at the end.
        shape: of the table.

    Raises:
        ValueError: if they are not finite, not increasing, outside their range, do not
            begin or end as said, are below 2^-50 and not 0, are more than 8 bits can
            tell apart, or too near each other to tell apart in SIGNIFICANT_BITS bits.
    """
    try:
        values = np.asarray(levels, np.float64)
    except (TypeError, ValueError):  # no numbers; a TracerArrayConversionError is one
        values = np.zeros(0)
    if shape.zero and values.ndim == 1 and values.size and values[0] == 0:
        values = values[1:]
    wrong = (
        values.ndim != 1
        or not values.size
        or not np.isfinite(values).all()
        or (values[0] != -1 if shape.signed else values[0] <= 0)
        or values[-1] != 1
        or (np.diff(values) <= 0).any()
    )
    if wrong:
        where = "[-1, 1], from -1 on," if shape.signed else "(0, 1] that end in 1"
        rule = f"must be increasing numbers in {where}"
        way_out = "zero is a level always, and negative values mirror positive ones"
        if shape.signed:
            rule, way_out = f"{rule} that end in 1", "divide by the largest magnitude"
        elif shape.ranged:
            way_out = "0 stands for a bucket's minimum, and is a level always"
        elif not shape.zero:
            way_out = "negative values mirror positive ones; zero is no level"
        raise refuse("levels", rule, levels, way_out)
    if (np.abs(values[values != 0]) < LEAST_LEVEL).any():
        raise refuse(
            "levels",
            "must be at least 2^-50, below which a norm times a level underflows",
            levels,
            "drop it, zero is a level always" if shape.zero else "raise it",
        )
    if values.size > shape.most(8):
        raise refuse(
            "levels",
            f"must be at most {shape.most(8)}, which 8 bits can tell apart",
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


def given(levels: Any, count: int, shape: Shape = WITH_ZERO) -> Array:
    """Levels given in place of a quantizer's own, to SIGNIFICANT_BITS bits, toward 0.

    Args:
        levels: not decreasing, in [0, 1], signed ones from -1; the last one 1.
        count: how many there have to be.
        shape: of the table.

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
    begins = table[0] == -1 if shape.signed else table[0] >= 0
    fits = begins & (jnp.diff(table) >= 0).all() & (table[-1] == 1)
    if not isinstance(fits, Tracer) and not fits:
        where = "begin with -1" if shape.signed else "lie in [0, 1]"
        raise refuse(
            "levels",
            f"must not decrease, {where} and end in 1",
            levels,
            "sort them and divide by the largest",
        )
    return jnp.where(fits, truncate(table), jnp.nan)


def truncate(levels: Array) -> Array:
    """A float32 array to SIGNIFICANT_BITS bits, toward zero."""
    drop = jnp.uint32(2 ** (24 - SIGNIFICANT_BITS) - 1)
    as_bits = lax.bitcast_convert_type(levels, jnp.uint32)
    return lax.bitcast_convert_type(as_bits & ~drop, jnp.float32)


def neighbours(
    value: Array, levels: Array, scale: Array, lowest: Array | None = None
) -> tuple[Array, Array, Array]:
    """The levels around values, by a binary search without branches or loads.

    The next threshold to compare with is selected from all that are possible, by the
    outcomes so far: about as many selections as there are levels. Loads at computed
    places would be fewer, but XLA does them one by one on CPUs.

    Args:
        value: (rows, n), at most `scale`.
        levels: l_1 <= ... <= l_{s+1} = 1, of the values' dtype.
        scale: (rows, 1), which multiplies levels, exactly.
        lowest: l_0, which no value is below; None for 0.

    Returns:
        How many of l_1, ..., l_s times scale are at most the value, the level of that
        number (l_tau times scale), and the next one: (rows, n) each.
    """
    count = levels.size
    thresholds = [levels[i] * scale for i in range(count)]  # once for each row
    beyond = jnp.full_like(scale, jnp.inf)  # that no value reaches
    below = jnp.zeros(value.shape, jnp.int32)
    low = jnp.zeros_like(value)
    if lowest is not None:
        low = jnp.broadcast_to(lowest * scale, value.shape)
    top = high = jnp.broadcast_to(thresholds[-1], value.shape)
    outcomes: list[Array] = []  # of the comparisons so far, the first one first

    def selected(numbers: list[int], outcomes: list[Array]) -> Array:
        if numbers[0] >= count:
            return beyond
        if not outcomes:
            return thresholds[numbers[0] - 1]
        half = len(numbers) // 2
        lower = selected(numbers[:half], outcomes[1:])
        upper = selected(numbers[half:], outcomes[1:])
        return jnp.where(outcomes[0], upper, lower)

    stride = places = 1 << (count - 1).bit_length()
    while stride := stride // 2:
        numbers = [prefix * 2 * stride + stride for prefix in range(2 ** len(outcomes))]
        threshold = selected(numbers, outcomes)
        reached = value >= threshold
        below |= jnp.where(reached, stride, 0)
        low = jnp.where(reached, threshold, low)
        high = jnp.where(reached, high, threshold)
        outcomes.append(reached)
    # a minimum that keeps NaNs takes several instructions: once, and where it is needed
    return below, low, high if count == places else jnp.minimum(high, top)


FEW = 16
"""Entries that are selected from; of more, one is loaded, which XLA does not vectorize
on CPUs.
"""


def lookup(table: Array, index: Array) -> Array:
    """table[index], for indices that are in bounds.

    Of few entries halves are selected by the index's bits, the highest one last.
    """
    if table.size > FEW:
        return table.at[index].get(mode="promise_in_bounds")
    entries, bit = [table[i] for i in range(table.size)], 1
    while len(entries) > 1:
        is_set = (index & bit) != 0
        pairs = itertools.zip_longest(entries[::2], entries[1::2])
        entries = [
            even if odd is None else jnp.where(is_set, odd, even) for even, odd in pairs
        ]
        bit *= 2
    return jnp.broadcast_to(entries[0], index.shape)
