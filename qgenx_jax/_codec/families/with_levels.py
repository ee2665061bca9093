"""Levels that are given: geometric ones, and a user's own."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec.families.tables import OverRange, Signed, WithoutZero, WithZero
from qgenx_jax._codec.levels import (
    OVER_RANGE,
    RANGE,
    SIGNED,
    WITH_ZERO,
    WITHOUT_ZERO,
    Shape,
    check_levels,
    exponential_levels,
    steps_of,
)
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._codec.rounding import FAMILIES, Family, Rounding
from qgenx_jax._types import Array

NAMES = {
    WITH_ZERO: "levels",
    WITHOUT_ZERO: "levels_without_zero",
    SIGNED: "signed_levels",
    OVER_RANGE: "range_levels",
}
"""Of the families whose levels a state holds, by the shape of their tables."""


def _by(
    rounding: Callable[[int, Any, int, Array], Rounding],
) -> Callable[[int, Any, int, Array | None], Rounding]:
    def made(bits: int, norm: Any, scale_bits: int, table: Array | None) -> Rounding:
        assert table is not None  # a quantizer of these families has levels
        return rounding(bits, norm, scale_bits, table)

    return made


def _family(
    shape: Shape, rounding: Callable[[int, Any, int, Array], Rounding], **rest: Any
) -> Family:
    least = 2 if shape.signed else 1
    return Family(
        _by(rounding),
        least_bits=2 if shape == WITH_ZERO else 1,
        n_levels=lambda bits: (min(shape.most(bits), least), shape.most(bits)),
        takes_levels=shape,
        **rest,
    )


FAMILIES["exponential"] = Family(
    _by(WithZero),
    least_bits=2,
    n_levels=lambda bits: (steps_of(bits), steps_of(bits)),
)
FAMILIES["levels"] = _family(WITH_ZERO, WithZero)
FAMILIES["levels_without_zero"] = _family(WITHOUT_ZERO, WithoutZero)
FAMILIES["signed_levels"] = _family(SIGNED, Signed)
FAMILIES["range_levels"] = _family(
    OVER_RANGE, OverRange, norms=(RANGE,), scale_bits=(32,)
)


def exponential(
    bits: int = 4,
    *,
    base: float = 0.5,
    norm: float = 2,
    bucket_size: int | None = 1024,
    scale_bits: int = 32,
) -> Quantizer:
    """Levels that grow geometrically, l_j = base^(s + 1 - j): NUQSGD.

    Args:
        bits: per coordinate, sign included, 2 to 8; s + 1 = 2^(bits - 1) - 1.
        base: ratio of neighbouring levels, in (0, 1); 1/2 in NUQSGD. Levels are kept to
            12 significant bits and stop at 2^-50.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm; None for one bucket.
        scale_bits: of that norm on the wire, 32 or 16, as in `uniform`.

    Returns:
        The quantizer.

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.exponential(bits=3).levels
        (0.25, 0.5, 1.0)

    References:
        Ramezani-Kebrya et al., NUQSGD: Provably Communication-efficient Data-parallel
        SGD via Nonuniform Quantization, JMLR 2021.
    """
    bits = _checks.whole_number("bits", bits, 2, 8)
    if not isinstance(base, (float, np.floating)) or not 0 < base < 1:
        raise _checks.refuse("base", "must be in (0, 1)", base, "NUQSGD uses 0.5")
    levels = exponential_levels(bits, float(base))
    return Quantizer(
        "exponential", bits, norm, bucket_size, levels, scale_bits=scale_bits
    )


def user_levels(
    levels: Sequence[float],
    *,
    zero: bool = True,
    norm: float | str = math.inf,
    bucket_size: int | None = 1024,
    scale_bits: int = 32,
) -> Quantizer:
    """Levels of one's own, l_1 < ... < l_n = 1, mirrored to negative values.

    With norm="range" they are not: v becomes min + l (max - min), l_0 = 0, with the
    minimum and the maximum of its bucket, for vectors that are one-sided or skewed.

    In an exchange they live in its state (`ExchangeState.levels`), so that others of
    the same number can be put there while training goes on, without recompiling.

    Args:
        levels: increasing, in (0, 1], the last one 1; kept to 12 significant bits. If
            the first one is -1 they are signed: from -1 to 1, and not mirrored.
        zero: whether zero is a level, too, so that zeros stay zeros. Without it n
            levels take ceil(log2(2 n)) bits, one less than with it where n is a power
            of two; coordinates between -l_1 and l_1 become one of these. It says
            nothing about signed levels, and levels over the range.
        norm: q, one of 1, 2 and infinity; or "range".
        bucket_size: coordinates that share one norm, or minimum and range, 8 bytes;
            None for one bucket.
        scale_bits: of that norm on the wire, 32 or 16, as in `uniform`; 32 of a range.

    Returns:
        The quantizer, of as few bits as hold the signed levels.

    Raises:
        ValueError: for levels that are not such, and values outside these ranges.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> qgenx.user_levels([0.1, 0.4, 1.0]).bits
        3
        >>> qgenx.user_levels([0.1, 0.3, 0.5, 1.0], zero=False).bits  # eight codes
        3
        >>> qgenx.user_levels([-1.0, -0.1, 0.2, 1.0]).bits
        2
        >>> quantizer = qgenx.user_levels([0.25, 0.5, 1.0], norm="range")
        >>> quantizer.decode(quantizer.encode(0, jax.numpy.array([4.0, 5, 6, 8])))
        Array([4., 5., 6., 8.], dtype=float32)
    """
    shape = shape_of(levels, zero, norm)
    checked = check_levels(levels, shape)
    bits = shape.bits_for(len(checked))
    return Quantizer(
        NAMES[shape], bits, norm, bucket_size, checked, scale_bits=scale_bits
    )


def shape_of(levels: Any, zero: bool, norm: float | str) -> Shape:
    """What a user's levels look like: over the range, or signed if the first is -1.

    Raises:
        ValueError: if `zero` is no bool.
    """
    _checks.instance_of("zero", zero, bool, "pass a bool")
    if isinstance(norm, str) and norm == RANGE:
        return OVER_RANGE
    try:
        signed = bool(np.ndim(levels) == 1 and np.asarray(levels, float)[0] == -1)
    except (TypeError, ValueError, IndexError):  # no numbers: `check_levels` says so
        signed = False
    return SIGNED if signed else Shape(zero=zero)
