"""How one bucket per row is rounded, without bias, to codes, and codes become values.

A family of quantizers is a file in `families/` with a `Rounding`, for buckets of shape
(rows, n), 16 random bits per coordinate, unsigned codes as uint8 and `meta` of shape
(rows, m): what the bucket's coordinates share. `measure(bucket)` gives meta and the
`grid` that coordinates are rounded to; `round(values, grid, r16)` and
`values(codes, meta)` take each coordinate on its own, so that a row can be cut into
pieces in between. All work in float32, or in float64 for float64 buckets.

Every rounding is done in integers: with f the place between two neighbouring levels in
units of 2^-16, rounded to a whole number, the upper one is taken if f + r >= 2^16, r
uniform on 0 .. 2^16 - 1. The mean over r is f / 2^16 without error, so the bias is that
of f alone, at most 2^-17 of the distance, and a value on a level (f = 0) never moves.
Whatever is multiplied by a code or a level has so few significant bits that the product
is exact: a compiler that fuses multiplications with additions gets the same bits as one
that does not. A rounding that dithers has no levels, and products of `scales.product`.
"""

import dataclasses
import math
import typing
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _trees
from qgenx_jax._codec.bend import Bend, Curve
from qgenx_jax._codec.levels import Shape
from qgenx_jax._codec.scales import SCALE_BITS
from qgenx_jax._types import Array

T = typing.TypeVar("T")


class Rounding(Protocol):
    """How buckets become codes, and codes values: a pytree, whose arrays are levels."""

    n_meta: ClassVar[int]
    """m: numbers that a bucket's coordinates share."""
    keeps_zeros: ClassVar[bool]
    """Whether zeros stay out of norms and come back as zeros: padding may be zeros."""
    looks_up: ClassVar[bool]
    """Whether values are looked up in a table, which takes longer than arithmetic."""
    rounds_magnitudes: ClassVar[bool]
    """Whether larger random bits mean codes farther from zero; if not, larger codes."""
    dithers: ClassVar[bool]
    """Whether values take the bits that rounded them: see `Dithering`."""

    @property
    def n_codes(self) -> int:
        """Codes are 0 to n_codes - 1, and stand for levels in increasing order."""
        ...

    def significant(self, dtype: np.dtype) -> int:
        """How many bits of a scale may be set: it exceeds what it stands for by that.

        Where `bits` is that number, by a factor of at most 1 + 2^(1 - bits).
        """
        ...

    def measure(self, bucket: Array) -> tuple[Any, Array]:
        """Grid and meta of buckets (rows, n): arrays (rows, 1), and (rows, m)."""
        ...

    def round(self, values: Array, grid: Any, r16: Array) -> Array:
        """Codes uint8 of coordinates (rows, any) of these buckets, by as many bits."""
        ...

    def values(self, codes: Array, meta: Sequence[Array]) -> Array:
        """Values, from int32 codes and m arrays that broadcast against them."""
        ...

    def padding(self, vector: Array, real: int | Array) -> Array:
        """What may follow the first `real` coordinates and stays out of norms: ()."""
        ...


class Dithering(Rounding, Protocol):
    """A rounding whose bits the receiver draws once more, and takes off again."""

    def curve(self, dtype: np.dtype) -> Curve:
        """What places of coordinates, and what codes and bits stand for."""
        ...

    def undithered(self, codes: Array, meta: Sequence[Array], r16: Array) -> Array:
        """`values`, with the bits (as the codes are) that `round` was given."""
        ...


def static() -> Any:
    """A field that is part of a program, not an input of it."""
    return dataclasses.field(metadata={"static": True})


@typing.dataclass_transform(frozen_default=True, field_specifiers=(static,))
def pytree(cls: type[T]) -> type[T]:
    """A frozen dataclass that is a pytree."""
    return jax.tree_util.register_dataclass(
        dataclasses.dataclass(frozen=True, eq=False)(cls)
    )


class PaddedByZeros:
    """Roundings whose norms do not see zeros."""

    def padding(self, vector: Array, real: int | Array) -> Array:
        """See `Rounding`."""
        del real
        return jnp.zeros((), vector.dtype)


class Grid(NamedTuple):
    """Levels at equal distances.

    Attributes:
        lift: power of two that coordinates are multiplied by first; NaN for a bucket
            that is not finite.
        low: level 0, lifted too; 0 but for `MinMax`.
        step: U, the distance, lifted too.
        inverse: 1 / U, or 1 where U is 0.
    """

    lift: Array
    low: Array
    step: Array
    inverse: Array


DECODED_TWICE = 4
"""Payloads that are decoded twice rather than their mean stored."""


def is_better_stored(rounding: Rounding, count: int) -> bool:
    """Whether CPUs take less time if the mean of `count` payloads, used twice, is kept.

    So it is for more than a few payloads, and for levels that are looked up. The sum of
    more than UNROLLED of them is a loop, which stores it in any case.
    """
    return (
        rounding.looks_up
        or rounding.dithers
        or DECODED_TWICE < count <= _trees.UNROLLED
    )


class Family(NamedTuple):
    """What a quantizer of a family may be given, and what it rounds by.

    Attributes:
        rounding: from bits, the norm's order, a scale's bits, and the levels or None.
        least_bits: per coordinate, of 8 at most.
        norms: the orders q that there are; "range" for levels over the range.
        n_levels: from bits, the least and the largest number of levels of its own.
        takes_levels: of what shape the tables are that a state holds, so that others
            may replace them; None if it holds none.
        scale_bits: that what coordinates share may have.
    """

    rounding: Callable[[int, Any, int, Array | None], Rounding]
    least_bits: int = 1
    norms: tuple[float | str, ...] = (1, 2, math.inf)
    n_levels: Callable[[int], tuple[int, int]] = lambda bits: (0, 0)
    takes_levels: Shape | Bend | None = None
    scale_bits: tuple[int, ...] = SCALE_BITS


FAMILIES: dict[str, Family] = {}
"""By name; each file of `families/` enters its own."""
