"""Equal steps between a bucket's minimum and its maximum."""

import math
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from qgenx_jax._codec import scales
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._codec.rounding import FAMILIES, Family, Grid, pytree, static
from qgenx_jax._types import Array


@pytree
class MinMax:
    """2^b equal steps from the bucket's minimum to its maximum, as torch_cgx sends.

        unit = (max - min) / (2^b - 1),   code = (v - min) / unit rounded up or down

    with unit rounded up to 24 - b bits. On the wire are the minimum and 2^(b - 2) unit,
    a normal number that does not overflow where max - min does.
    """

    bits: int = static()

    n_meta: ClassVar[int] = 2
    keeps_zeros: ClassVar[bool] = False
    looks_up: ClassVar[bool] = False
    dithers: ClassVar[bool] = False
    rounds_magnitudes: ClassVar[bool] = False

    @property
    def half(self) -> float:
        """Scale / U, where scale is half of what 2^b steps would span."""
        return 2.0 ** (self.bits - 2)

    @property
    def n_codes(self) -> int:
        """See `Rounding`."""
        return 2**self.bits

    def significant(self, dtype: np.dtype) -> int:
        """See `Rounding`: every code times the unit is exact."""
        return scales.significand(dtype) - self.bits

    def measure(self, bucket: Array) -> tuple[Grid, Array]:
        """See `Rounding`."""
        low, high = scales.extremes(bucket)
        _, lift = scales.lift_of(jnp.maximum(jnp.abs(low), jnp.abs(high)))
        low, high = low * lift, high * lift
        # the range may be twice the largest finite number, the top level is clipped
        ratio = (self.n_codes - 1) / self.half
        drop = scales.significand(lift.dtype) - self.significant(lift.dtype)
        scale = scales.round_up(high - low, ratio, drop, 2 * lift)
        unit = scale * (1 / self.half)
        grid = Grid(lift, low, unit, scales.inverse(unit))
        return grid, scales.side_by_side(low, scale) / lift

    def round(self, values: Array, grid: Grid, r16: Array) -> Array:
        """See `Rounding`."""
        above = values * grid.lift - grid.low
        near = jnp.round(above * grid.inverse)
        rest = jnp.round((above - near * grid.step) * (grid.inverse * 2.0**16))
        code = scales.to_int32(near) + ((scales.to_int32(rest) + r16) >> 16)
        return jnp.clip(code, 0, 2**self.bits - 1).astype(jnp.uint8)

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """See `Rounding`."""
        low, scale = meta
        code = scales.scaled(codes, 1 - self.bits, scale.dtype)
        return scales.above(low, code * scale)

    def padding(self, vector: Array, real: int | Array) -> Array:
        """See `Rounding`: the last coordinate, since a minimum counts, too."""
        return vector[jnp.maximum(real - 1, 0)]


FAMILIES["min_max"] = Family(
    lambda bits, norm, scale_bits, table: MinMax(bits),
    norms=(math.inf,),
    scale_bits=(32,),
)


def min_max(
    bits: int = 8,
    *,
    bucket_size: int | None = 1024,
) -> Quantizer:
    """2^bits equal steps between each bucket's minimum and maximum, as in torch_cgx.

    Args:
        bits: per coordinate, 1 to 8.
        bucket_size: coordinates that share minimum and unit, 8 bytes; None for one.

    Returns:
        The quantizer. It costs bits / 8 + 8 / bucket_size bytes per coordinate.

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> quantizer = qgenx.min_max(bits=2)
        >>> quantizer.decode(quantizer.encode(0, jnp.array([-1.0, 0.0, 1.0, 2.0])))
        Array([-1.,  0.,  1.,  2.], dtype=float32)

    References:
        Markov et al., CGX: Adaptive System Support for Communication-Efficient Deep
        Learning, Middleware 2022.
    """
    return Quantizer("min_max", bits, math.inf, bucket_size)
