"""Bounds for the variance of quantization, whatever the vector.

A bound eps means E ||Q(v) - v||_2^2 <= eps ||v||_2^2 for every v. With m = min(q, 2),
lbar = max_{1 <= j <= s} l_{j+1} / l_j (1 if s = 0), c = (lbar - 1)^2 / (4 lbar):

- a coordinate above l_1 n adds at most c v_i^2, whatever n is;
- one below it adds |v_i| (l_1 n - |v_i|);
- n <= d^(1/m - 1/2) ||v||_2 and n ||v||_1 <= d^(1/m) ||v||_2^2.

What follows from these is in `_over_norm`.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array
from qgenx_jax.bounds import dithers, tables
from qgenx_jax.bounds.tables import Table

FORMS = ("theorem", "sharp")


def variance_bound(
    quantizer: Any,
    size: int,
    *,
    norm: float | None = None,
    levels: Array | None = None,
    form: str = "theorem",
    workers: int = 1,
    second: Any = None,
    ideal: bool = False,
) -> Any:
    """An eps with E ||Q(v) - v||_2^2 <= eps ||v||_2^2 for all v.

    With m = min(q, 2), lbar the largest l_{j+1} / l_j, d the length of the longest
    bucket and d_th = (2 / l_1)^m, the theorem is

        eps = (lbar - 1)^2 / (4 lbar) + l_1^2 d^(2/m) / 4        for d <= d_th
        eps = (lbar - 1)^2 / (4 lbar) + l_1 d^(1/m) - 1          beyond.

    Equal coordinates attain it for q <= 2, d >= d_th and lbar = 1 (2 bits). The sharp
    form is the least of it and, with c = (lbar - 1)^2 / (4 lbar), D the widest gap
    between levels, a = l_1 d^(1/m),

        D^2 d^(2/m) / 4
        max(c, (sqrt(1 + (d - 1) l_1^2) - 1) / 2)                for q = infinity
        a - 1 if a >= 2 (1 + c), else c + a^2 / (4 (1 + c))      for q <= 2,

    which for uniform levels and d >= 10 is at most 1.3 times what some vector has.

    Without zero among the levels the theorem says nothing. With -a and b next to it,
    both forms are a b d^(2/m) + |a - b| d^(1/m) + c (1 bit: d^(2/m) - 1, attained by
    equal coordinates), the sharp one at most D^2 d^(2/m) / 4 and, for q = infinity,

        max over neighbours l < h of x - 1,   x^2 + ((d - 1) l h - 1) x
                                              = (d - 1) (l + h)^2 / 4,

    which some vector has. For q <= 2, a = b and a d^(1/m) >= 1 equal coordinates have
    a^2 d^(2/m) - 1, less than both forms by 1 + c at most.

    For levels over the range of a bucket the theorem is k D^2 / 2, k = max(d - 2, 0).
    The sharp form is what some vector has, with minimum, maximum and k coordinates at
    one place: the largest root over neighbours l < h of

        4 x^2 + (2 (k + 2) + 2 k (1 - 2 l) (1 - 2 h)) x = k (k + 2) (h - l)^2.

    Both are attained by (1, -1, 0, ..., 0) where the widest gap is the middle one.

    Of `dithered` both are what some vector has (`qgenx_jax.bounds.dithers`), for long
    buckets g(h) + (d - 1) g(0) and (1, 0, ..., 0), g the variance of a place.

    The mean of K workers' vectors, over mean_k ||v_k||^2, has eps / K. Where it is
    quantized again (`reduce_scatter`, by a quantizer with eps_2), it has

        eps / K + eps_2 (1 + eps / K),

    of which the second term does not fall with K.

    Args:
        quantizer: one of the library's, or an array of levels
            l_1 <= ... <= l_{s+1} = 1, mirrored to negative values.
        size: coordinates of the vector; with an array of levels, of a bucket.
        norm: q of an array of levels: 1, 2 or infinity.
        levels: in place of the quantizer's own, as in `Quantizer.encode`.
        form: "theorem" or "sharp".
        workers: K, whose roundings are independent, or not positively correlated; so
            `dithered` ones need rounding="independent" for it to hold of any vectors.
        second: of the mean, a quantizer or levels; None where it is not quantized.
        ideal: whether real numbers are assumed. Else the bound of a quantizer holds for
            what its float32 codec does: it counts that a scale is rounded up to few
            bits and may be off by the sum in it, and a place to 16 bits. Of vectors
            near the ends of float32's range nothing is said.

    Returns:
        eps, without unit: a float, or a JAX scalar if it depends on a JAX array.

    Raises:
        ValueError: for arguments that are not such.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qsgd = qgenx.uniform(bits=2, norm=2)
        >>> qgenx.bounds.variance_bound(qsgd, 900, ideal=True)  # sqrt(d) - 1
        29.0
        >>> eps = qgenx.bounds.variance_bound(qgenx.uniform(8), 10_000, form="sharp")
        >>> f"{eps:.4f}"
        '0.0159'

    References:
        Ramezani-Kebrya et al., Distributed Extra-gradient with Optimal Complexity and
        Communication Guarantees, ICLR 2023, theorem 1.
    """
    sharp = _checks.one_of("form", form, FORMS) == "sharp"
    workers = _checks.whole_number("workers", workers, 1, None)
    size = _checks.whole_number("size", size, 1, None)
    first = tables.of("quantizer", quantizer, norm, levels, ideal=ideal)
    eps = _of_one(first, _longest(quantizer, size), sharp=sharp) / workers
    if second is None:
        return eps
    again = tables.of("second", second, norm, None, ideal=ideal)
    return eps + _of_one(again, _longest(second, size), sharp=sharp) * (1 + eps)


def _longest(quantizer: Any, size: int) -> int:
    """Coordinates of the longest bucket."""
    return min(getattr(quantizer, "bucket_size", None) or size, size)


def _of_one(table: Table, size: int, *, sharp: bool) -> Any:
    """The bound of one quantization, for buckets of this size."""
    if table.curve is not None:
        is_known = isinstance(table.curve.bend, float)
        xp = np if is_known else jnp
        eps = dithers.bound(table.curve, size, table.excess, table.misplaced, xp)
        return float(eps) if is_known else eps
    bound = _over_range if table.norm is None else _over_norm
    result = bound(table, size, sharp=sharp)
    return result if tables.namespace(result) is jnp else float(result)


class _Shape(NamedTuple):
    """What bounds depend on.

    Attributes:
        below, above: magnitudes of the levels next to zero, on either side.
        has_zero: whether zero is a level.
        c: (lbar - 1)^2 / (4 lbar), on the worse side.
        steepest: lbar - 1.
        widest: D.
        end: the wider one of the two last gaps.
    """

    below: Any
    above: Any
    has_zero: Any
    c: Any
    steepest: Any
    widest: Any
    end: Any


def _shape(levels: Any, xp: Any) -> _Shape:
    low, high = levels[:-1], levels[1:]
    # of neighbours on one side of zero, the larger magnitude over the smaller
    same_side = low * high > 0
    small = xp.where(same_side, xp.minimum(xp.abs(low), xp.abs(high)), 1.0)
    large = xp.where(same_side, xp.maximum(xp.abs(low), xp.abs(high)), 1.0)
    lbar = xp.max(large / small)
    return _Shape(
        below=xp.min(xp.where(levels < 0, -levels, xp.inf)),
        above=xp.min(xp.where(levels > 0, levels, xp.inf)),
        has_zero=xp.any(levels == 0),
        c=(lbar - 1) ** 2 / (4 * lbar),
        steepest=lbar - 1,
        widest=xp.max(high - low),
        end=xp.maximum(high[0] - low[0], high[-1] - low[-1]),
    )


def _over_norm(table: Table, size: int, *, sharp: bool) -> Any:
    """For levels from -1 to 1 over ||v||_q.

    A scale that is 1 + e times the norm is as good as levels that are as much larger
    over the norm; c does not depend on it.
    """
    xp = tables.namespace(table.levels)
    shape, q, d = _shape(table.levels, xp), table.norm, float(size)
    assert q is not None
    m, excess = min(q, 2), table.too_large(size)
    up = 1 + excess
    l1, c = up * xp.maximum(shape.below, shape.above), shape.c
    squared = d ** (2 / m)
    a = l1 * d ** (1 / m)
    # with zero: below l_1, sum |v_i| (l_1 n - |v_i|) <= d (l_1 n / 2)^2 in any case,
    # and l_1 n ||v||_1 - ||v||^2 if that is all there is
    bound = c + xp.where(a <= 2, a * a / 4, a - 1)
    if sharp:
        widest = (up * shape.widest) ** 2 * squared / 4
        bound = xp.minimum(bound, widest)
        if q == math.inf:
            # the largest coordinate is on a level, but for the excess
            equal = (xp.sqrt(1 + (d - 1) * l1 * l1) - 1) / 2
            bound = xp.minimum(bound, xp.maximum(c, equal) + excess * shape.end)
        else:
            part = c + a * a / (4 * (1 + c))
            bound = xp.minimum(bound, xp.where(a >= 2 * (1 + c), a - 1, part))
    # without: (b - u)(u + a) = a b + (b - a) u - u^2 around zero
    product = up * up * shape.below * shape.above
    slope = up * xp.abs(shape.above - shape.below)
    rest = c if table.levels.size > 2 else -1.0
    without = product * squared + slope * d ** (1 / m) + rest
    if sharp:
        widest = (up * shape.widest) ** 2 * squared / 4
        without = xp.minimum(without, widest)
        if q == math.inf:
            others = _of_others(up * table.levels, d - 1, xp) + excess * shape.end
            without = xp.minimum(without, others)
    bound = xp.where(shape.has_zero, bound, without)
    gaps = xp.minimum(
        (up * shape.widest) ** 2 * squared, shape.steepest**2 + 4 * l1 * l1 * squared
    )
    # a place that is off by p (from 0 by no more than itself) adds p gap^2
    return bound + xp.minimum(bound, table.misplaced * gaps)


def _of_others(levels: Any, count: float, xp: Any) -> Any:
    """The most that `count` coordinates have over their squares and the largest one's.

    With u of them over the largest, and l, h around u, it is the least e for which

        count max_u ((h - u) (u - l) - e u^2) <= e

    since then no u add up to more. In each gap the left side is greatest at
    u = (l + h) / (2 x), x = 1 + e, where both sides are equal for the positive root of
    x^2 + (count l h - 1) x - count (l + h)^2 / 4; all u in the worst gap attain it.
    """
    low, high = levels[:-1], levels[1:]
    half = (1 - count * low * high) / 2
    product = count * (low + high) ** 2 / 4
    root = xp.sqrt(half * half + product)
    is_sum = half >= 0  # else it would cancel
    x = xp.where(is_sum, half + root, product / xp.where(is_sum, 1, root - half))
    return xp.max(x) - 1


def _over_range(table: Table, size: int, *, sharp: bool) -> Any:
    """For levels from 0 to 1 over max v - min v, which is at most sqrt(2) ||v||.

    Minimum and maximum are on levels, but for the excess of the unit that is sent. With
    a range of 1, minimum -a and k coordinates at places u_i the ratio is

        sum_i g(u_i) / (a^2 + (1 - a)^2 + sum_i (u_i - a)^2),  g(u) = (h - u) (u - l).

    For given a and ratio each u_i is best where all others are; of equal ones the best
    a leaves 1/2 + (2 k / (k + 2)) (u - 1/2)^2 below. The largest x for which
    k g(u) >= x times that for some u has a discriminant of 0: see `variance_bound`.
    """
    xp = tables.namespace(table.levels)
    low, high = table.levels[:-1], table.levels[1:]
    gaps, k = (1 + table.excess) * (high - low), float(max(size - 2, 0))
    widest = xp.max(gaps)
    between = k * widest**2 / 2
    if sharp:
        # levels that are larger by the excess: the product falls by twice it at most
        places = (1 - 2 * low) * (1 - 2 * high) - 2 * table.excess
        half = ((k + 2) + k * places) / 4
        product = k * (k + 2) * gaps**2 / 4
        worst = xp.max(product / (half + xp.sqrt(half * half + product)))
        between = xp.minimum(between, worst)
    edge = (size > 1) * table.excess * widest
    return between + 2 * (edge + size * table.misplaced * widest**2)
