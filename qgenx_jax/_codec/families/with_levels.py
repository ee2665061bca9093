"""Any levels, mirrored to negative values: geometric ones, and a user's own."""

import math
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec import scales
from qgenx_jax._codec.levels import (
    SIGNIFICANT_BITS,
    bits_for,
    check_levels,
    exponential_levels,
    lookup,
    neighbours,
    steps_of,
)
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._codec.rounding import (
    FAMILIES,
    Family,
    PaddedByZeros,
    Rounding,
    pytree,
    static,
)
from qgenx_jax._types import Array


@pytree
class Levels(PaddedByZeros):
    """Any levels: norm * sign * (l_{tau+1} with probability xi, else l_tau).

    Levels and norm have SIGNIFICANT_BITS bits each, so that their products, which
    magnitudes are compared with, are exact.
    """

    bits: int = static()
    norm: float = static()
    table: Array
    """l_1 <= ... <= l_{s+1} = 1, float32 of SIGNIFICANT_BITS bits, or all NaN."""

    n_meta: ClassVar[int] = 1
    keeps_zeros: ClassVar[bool] = True
    looks_up: ClassVar[bool] = True

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return 2 * self.table.size + 1

    def significant(self, dtype: np.dtype) -> int:
        """See `Rounding`: every level times the scale is exact."""
        del dtype
        return SIGNIFICANT_BITS

    def measure(self, bucket: Array) -> tuple[tuple[Array, Array], Array]:
        """See `Rounding`."""
        largest, lift = scales.lift_of(scales.largest_magnitude(bucket))
        drop = scales.significand(lift.dtype) - self.significant(lift.dtype)
        scale = scales.round_up(
            scales.norm_of(bucket, lift, largest, self.norm), 1.0, drop, lift
        )
        scale *= self.table[-1].astype(lift.dtype)  # 1, or NaN: no levels at all
        return (lift, scale), scale / lift

    def round(self, values: Array, grid: tuple[Array, Array], r16: Array) -> Array:
        """See `Rounding`."""
        lift, scale = grid
        magnitude = jnp.abs(values * lift)
        table = self.table.astype(magnitude.dtype)
        below, low, high = neighbours(magnitude, table, scale)
        width = jnp.where(high > low, high - low, 1)
        # not times 2^16 / width, which may be infinite
        place = jnp.round((magnitude - low) / width * 2.0**16)
        index = below + jnp.clip((scales.to_int32(place) + r16) >> 16, 0, 1)
        code = jnp.where(values < 0, -index, index) + self.table.size
        return code.astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`."""
        (scale,) = meta
        above = self.table.astype(scale.dtype)
        table = jnp.concatenate([-above[::-1], jnp.zeros(1, scale.dtype), above])
        return lookup(table, codes) * scale


def _rounding(bits: int, norm: float, table: Array | None) -> Rounding:
    assert table is not None  # a quantizer of these families has levels
    return Levels(bits, norm, table)


FAMILIES["exponential"] = Family(
    _rounding,
    least_bits=2,
    n_levels=lambda bits: (steps_of(bits), steps_of(bits)),
)
FAMILIES["levels"] = Family(
    _rounding,
    least_bits=2,
    n_levels=lambda bits: (min(steps_of(bits), 1), steps_of(bits)),
    takes_levels=True,
)


def exponential(
    bits: int = 4,
    *,
    base: float = 0.5,
    norm: float = 2,
    bucket_size: int | None = 1024,
) -> Quantizer:
    """Levels that grow geometrically, l_j = base^(s + 1 - j): NUQSGD.

    Args:
        bits: per coordinate, sign included, 2 to 8; s + 1 = 2^(bits - 1) - 1.
        base: ratio of neighbouring levels, in (0, 1); 1/2 in NUQSGD. Levels are kept to
            12 significant bits and stop at 2^-50.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm of 4 bytes; None for one bucket.

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
    return Quantizer("exponential", bits, norm, bucket_size, levels)


def user_levels(
    levels: Sequence[float],
    *,
    norm: float = math.inf,
    bucket_size: int | None = 1024,
) -> Quantizer:
    """Levels of one's own, 0 < l_1 < ... < l_{s+1} = 1, mirrored to negative values.

    In an exchange they live in its state (`ExchangeState.levels`), so that others of
    the same number can be put there while training goes on, without recompiling.

    Args:
        levels: increasing, in (0, 1], the last one 1; kept to 12 significant bits.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm of 4 bytes; None for one bucket.

    Returns:
        The quantizer, of as few bits as hold the signed levels.

    Raises:
        ValueError: for levels that are not such, and values outside these ranges.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.user_levels([0.1, 0.4, 1.0]).bits
        3
    """
    checked = check_levels(levels)
    bits = bits_for(len(checked))
    return Quantizer("levels", bits, norm, bucket_size, checked)
