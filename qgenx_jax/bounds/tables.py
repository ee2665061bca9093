"""What coordinates are rounded to, over a bucket's norm or its range.

A quantizer's codes 0, 1, ... stand for an increasing table of levels:

- from -1 to 1 over the norm, with 0 among them or without it;
- from 0 to 1 over the range of the bucket, above its minimum.

A codec differs from this ideal in two ways. It sends a scale of few significant bits,
up to 1 + `excess` times what it should be; and it rounds by 16 random bits, so that the
place of a coordinate between its levels is off by up to `misplaced`.
"""

import contextlib
import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from qgenx_jax import _checks
from qgenx_jax._codec.bend import Curve
from qgenx_jax._codec.quantizer import Quantizer, coder_of
from qgenx_jax._codec.rounding import Dithering, Rounding
from qgenx_jax._types import Array

BLOCK = 4096
"""Terms that are added up one after the other."""


class Table(NamedTuple):
    """Levels, and how far from them a codec may be.

    Attributes:
        levels: not decreasing, -1 to 1 over the norm or 0 to 1 over the range; None
            for a quantizer that dithers, which has a curve.
        norm: q, or None for levels over the range.
        excess: the largest relative excess of a scale, but for the sum in a norm.
        misplaced: the largest error of a coordinate's place between its levels; over
            a range, that of v - min is counted in widths of the widest gap.
        epsilon: of the dtype in which a codec adds up a norm; 0 for none.
        curve: of a quantizer that dithers, which has no levels; None for the others.
    """

    levels: Any
    norm: float | None
    excess: float = 0.0
    misplaced: Any = 0.0
    epsilon: float = 0.0
    curve: Curve | None = None

    def too_large(self, size: int) -> float:
        """The largest relative excess of the scale of a bucket of this size.

        A sum of n terms that are not negative is off by n half-units of the last place
        at most, in any order; division, root and products add four.
        """
        is_sum = self.norm in (1, 2)
        return self.excess + (is_sum and (size + 4) * self.epsilon / 2)


def namespace(*arrays: Any) -> Any:
    """jax.numpy if one of them is a JAX array, traced or not, else numpy."""
    return jnp if any(isinstance(x, jax.Array) for x in arrays) else np


def wide(x: Any, xp: Any) -> Any:
    """An array to compute with: at least float32 in JAX, float64 in NumPy.

    Raises:
        TypeError, ValueError: if it is no array of real numbers.
    """
    if getattr(x, "dtype", np.dtype(float)).kind == "c":
        raise TypeError("complex")
    if xp is np:
        return np.asarray(x, np.float64)
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def is_known(x: Any) -> bool:
    """Whether its values may be looked at."""
    return not isinstance(x, Tracer)


def histogram(index: Any, weights: Any, count: int, xp: Any) -> Any:
    """The sums of weights by index, (count,): of blocks first, in float32 too."""
    if xp is np:
        return np.bincount(np.ravel(index), np.ravel(weights), minlength=count)
    index, blocks = jnp.ravel(index), -(-index.size // BLOCK)
    index += jnp.arange(index.size) // BLOCK * count
    sums = jnp.bincount(index, jnp.ravel(weights), length=blocks * count)
    return sums.reshape(blocks, count).sum(axis=0)


def mirrored(levels: Any, xp: Any) -> Any:
    """-1, ..., -l_1, 0, l_1, ..., 1 from l_1, ..., l_{s+1}."""
    return xp.concatenate([-levels[::-1], xp.zeros(1, levels.dtype), levels])


def levels_above_zero(levels: Any, xp: Any) -> Any:
    """l_1 <= ... <= l_{s+1} = 1; a leading 0 is dropped where that can be seen.

    Raises:
        ValueError: if they are not one row of real numbers, or, where their values are
            known, decrease, lie outside [0, 1] or do not end in 1.
    """
    way_out = "zero is a level always, and negative values mirror positive ones"
    rule = "must be one row of numbers in [0, 1] that do not decrease and end in 1"
    try:
        table = wide(levels, xp)
    except (TypeError, ValueError):  # text, ragged rows, complex numbers
        raise _checks.refuse("levels", rule, levels, way_out) from None
    fits = table.ndim == 1 and table.size > 0
    if fits and is_known(table):
        known = np.asarray(table)
        ends = known[0] >= 0 and known[-1] == 1  # not so if one is NaN
        fits = bool(ends and (np.diff(known) >= 0).all())
        if fits and known[0] == 0 and known.size > 1:
            table = table[1:]
    if not fits:
        raise _checks.refuse("levels", rule, levels, way_out)
    return table


def of_rounding(rounding: Rounding) -> Any:
    """The levels that codes stand for: NumPy where they are known, else JAX."""
    # scales that a power of two or 1 makes: nothing is rounded
    scale = [jnp.zeros(())] * (rounding.n_meta - 1) + [jnp.ones(())]
    values = rounding.values(jnp.arange(rounding.n_codes), scale)
    if is_known(values):
        values = np.asarray(values, np.float64)
    return values / values[-1]


def of(
    argument: str, quantizer: Any, norm: Any, levels: Array | None, *, ideal: bool
) -> Table:
    """The table of a quantizer, or of levels l_1, ..., l_{s+1} = 1 over a norm.

    Raises:
        ValueError: if a quantizer is given a norm, or levels are given levels.
    """
    if isinstance(quantizer, Quantizer):
        if norm is not None:
            way_out = "leave it out, or pass levels in place of the quantizer"
            rule = "must be left out where a quantizer has one"
            raise _checks.refuse("norm", rule, norm, way_out)
        return of_quantizer(quantizer, levels, ideal=ideal)
    if quantizer is None or levels is not None:
        way_out = "pass one, or levels in its place alone"
        raise _checks.refuse(argument, "must be a Quantizer", quantizer, way_out)
    xp = namespace(quantizer)
    norm = _checks.one_of("norm", norm, (1, 2, math.inf))
    return Table(mirrored(levels_above_zero(quantizer, xp), xp), norm)


def of_quantizer(
    quantizer: Quantizer, levels: Array | None, *, ideal: bool, dtype: Any = "float32"
) -> Table:
    """The table of a quantizer, of levels in place of its own if they are given."""
    eagerly = jax.ensure_compile_time_eval if levels is None else contextlib.nullcontext
    with eagerly():
        rounding = coder_of(quantizer, dtype, levels).rounding
        table = None if rounding.dithers else of_rounding(rounding)
    curve = None
    if rounding.dithers:
        curve = cast(Dithering, rounding).curve(np.dtype("float32"))
        if levels is None:
            curve = curve._replace(bend=float(curve.bend))
    is_range = rounding.n_meta > 1
    norm = None if is_range else cast(float, quantizer.norm)
    if ideal:
        return Table(table, norm, curve=curve)
    computed_in = computing_dtype(dtype)
    epsilon = float(np.finfo(computed_in).eps)
    # half of 2^-16, and the arithmetic of the place: of v - min, too, over a range
    misplaced = 2.0**-17 * (1 + 2.0**-6) + epsilon
    if is_range:
        # v - min, at most h R over a gap h - l, is off by half an epsilon of itself:
        # p (h - l)^2 = epsilon h (h - l) / 2 at most
        xp = namespace(table)
        misplaced += epsilon / xp.max(xp.diff(table))
    excess = 2.0 ** (1 - rounding.significant(computed_in))
    return Table(table, norm, excess, misplaced, epsilon, curve)


def computing_dtype(dtype: Any) -> np.dtype:
    """What a codec computes in."""
    return np.dtype("float64" if np.dtype(dtype) == np.float64 else "float32")
