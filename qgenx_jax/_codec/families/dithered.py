"""Rounding by bits that the receiver knows too, and takes off again."""

import math
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec import bend as bends
from qgenx_jax._codec import scales, schedule
from qgenx_jax._codec.bend import BEND, Curve
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
class Dithered(PaddedByZeros):
    """2^b codes, of which each stands for another value with other bits.

        code = floor(s + h + r / 2^16),   t = code - h - (r + 1/2) / 2^16 + 1/2

    with r the 16 bits, s the place of v / norm on a `Curve` and l(t) what is decoded,
    times the norm.
    """

    bits: int = static()
    scale_bits: int = static()
    table: Array
    """The bend, (1,), float32 of 12 significant bits, or NaN."""

    n_meta: ClassVar[int] = 1
    keeps_zeros: ClassVar[bool] = False
    looks_up: ClassVar[bool] = False
    rounds_magnitudes: ClassVar[bool] = False
    dithers: ClassVar[bool] = True

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return 2**self.bits

    def curve(self, dtype: np.dtype) -> Curve:
        """The curve, with numbers of this dtype."""
        return Curve(self.bits, self.table[0].astype(dtype))

    def significant(self, dtype: np.dtype) -> int:
        """See `Rounding`."""
        return scales.most_significant(self.scale_bits, dtype)

    def measure(self, bucket: Array) -> tuple[tuple[Array, Array], Array]:
        """See `Rounding`: what a lifted coordinate is multiplied by."""
        largest, lift = scales.lift_of(scales.largest_magnitude(bucket))
        drop = scales.significand(lift.dtype) - self.significant(lift.dtype)
        scale = scales.round_up(largest, 1.0, drop, lift)
        # NaN where the bend is
        scale += 0 * self.table[0].astype(lift.dtype)
        return (lift, scales.inverse(scale)), scale / lift

    def round(self, values: Array, grid: tuple[Array, Array], r16: Array) -> Array:
        """See `Rounding`."""
        lift, inverse = grid
        place = self.curve(values.dtype).place(values * lift * inverse)
        code = (place + r16) >> 16
        return jnp.clip(code, 0, self.n_codes - 1).astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`: by the bits in the middle, where no others are known."""
        return self.undithered(codes, meta, jnp.full_like(codes, 2**15))

    def undithered(self, codes: Array, meta: Sequence[Array], r16: Array) -> Array:
        """See `Dithering`."""
        (scale,) = meta
        curve = self.curve(scale.dtype)
        # added up with other workers', so no compiler may fuse it with that
        return scales.product(curve.decoded(curve.seen(codes, r16), scale.dtype), scale)


def _rounding(bits: int, norm: float, scale_bits: int, table: Array | None) -> Rounding:
    del norm
    assert table is not None  # the family has a bend
    return Dithered(bits, scale_bits, table)


FAMILIES["dithered"] = Family(
    _rounding,
    norms=(math.inf,),
    n_levels=lambda bits: (1, 1),
    takes_levels=BEND,
)


def dithered(
    bits: int = 4,
    *,
    bend: float | None = None,
    adapt: int | Sequence[int] | None = None,
    bucket_size: int | None = 1024,
    scale_bits: int = 32,
) -> Quantizer:
    """Subtractive dither on a bent scale: of gradients half the best levels' variance.

    The random bits that round a coordinate are a hash of its place and of a key that
    all workers have, so that a receiver draws them again and takes them off: the error
    is that of t - s in

        code = floor(s + h + u),   t = code - h - u + 1/2,   t - s uniform on +-1/2

    whatever the coordinate is, and l(t) has the mean v / ||v||_inf (see
    `qgenx_jax._codec.bend` for the curves, s to v and t to l). No coordinate is on a
    level and stays there: zeros become values of either sign of up to half a step.

    Args:
        bits: per coordinate, sign included, 1 to 8.
        bend: of the curve, from 0, equal steps, to 8; 0.8 suits normal coordinates and
            5 heavy tails. None: 1, until an exchange fits it to what it sends.
        adapt: where it is fitted, before which exchanges, as in `adaptive`.
        bucket_size: coordinates that share one norm; None for one bucket.
        scale_bits: of that norm on the wire, 32 or 16, as in `uniform`.

    Returns:
        The quantizer. Its `decode` takes the key that `encode` had. In an exchange
        rounding="correlated" turns the workers' bits against each other by multiples
        of 2^16 / K: of equal vectors the mean has a K-th of the variance that it has by
        "independent", of unlike ones the same; it may have up to twice as much where
        workers' coordinates differ by just such a part of a step, everywhere. What is
        decoded may exceed the bucket's norm by up to half a step.

    Raises:
        ValueError: for values outside these ranges, and for adapt= with a bend that
            stays.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> vector = jax.random.normal(jax.random.key(0), (4096,))
        >>> def variance(quantizer):
        ...     return float(qgenx.bounds.exact_variance(vector, quantizer).sum())
        >>> of = {"bits": 2, "bucket_size": 1024}
        >>> levels = qgenx.fit_levels(vector, norm=float("inf"), zero=False, **of)
        >>> bend = qgenx.fit_bend(vector, **of)
        >>> best_levels = qgenx.user_levels(levels, zero=False)
        >>> round(variance(best_levels) / variance(qgenx.dithered(2, bend=bend)), 1)
        2.4

    References:
        Roberts, Picture Coding Using Pseudo-random Noise, 1962; Schuchman, Dither
        Signals and Their Effect on Quantization Noise, 1964; Abdi and Fekri, Nested
        Dithered Quantization for Communication Reduction in Distributed Training, 2019.
    """
    if bend is not None and adapt is not None:
        rule = "must be left out where the bend is given, and stays"
        raise _checks.refuse("adapt", rule, adapt, "give one of them")
    table = (bends.check(1.0 if bend is None else bend),)
    # of one number there is one way to fit it
    refresh = schedule.refresh(adapt, "newton", "histogram") if bend is None else None
    return Quantizer(
        "dithered", bits, math.inf, bucket_size, table, refresh, scale_bits
    )
