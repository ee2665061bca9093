"""Bits: entropy, how often levels are sent, and bounds for the length of a code."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from qgenx_jax import _checks
from qgenx_jax.bounds import tables


@runtime_checkable
class Distribution(Protocol):
    """A law of normalised magnitudes u on [0, 1]."""

    cdf: Callable[[Any], Any]
    """F(x) = P(u <= x), at each entry of an array."""
    first_moment: Callable[[Any], Any]
    """The integral of u dF(u) over [0, x], at each entry of an array."""


class CodeLength(NamedTuple):
    """Between these numbers of bits the expected length of a code lies.

    Attributes:
        least: bits.
        most: bits.
    """

    least: Any
    most: Any


def level_probabilities(magnitudes: Any, levels: Any, *, weights: Any = None) -> Any:
    """How often each level is sent for magnitudes u of a distribution F on [0, 1].

        p_j = int_{l_{j-1}}^{l_j} (u - l_{j-1}) / (l_j - l_{j-1}) dF(u)
            + int_{l_j}^{l_{j+1}} (l_{j+1} - u) / (l_{j+1} - l_j) dF(u),

    of which p_0 has only the second integral and p_{s+1} only the first.

    Args:
        magnitudes: u_i = |v_i| / n, an array of any shape; or a distribution: anything
            with `cdf(x)` and `first_moment(x)`, see `Distribution`.
        levels: l_1 < ... < l_{s+1} = 1.
        weights: how much each magnitude counts, an array of their shape; None for one
            as much as the other. Left out for a distribution.

    Returns:
        Array (s + 2,), p_0 to p_{s+1}, that adds up to 1.

    Raises:
        ValueError: for levels that are not such, magnitudes outside [0, 1], negative
            weights or weights of another shape, as far as values are known; and where
            there is no magnitude.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> u = np.array([0.0, 0.25, 0.5, 1.0])
        >>> qgenx.bounds.level_probabilities(u, [0.5, 1.0])
        array([0.375, 0.375, 0.25 ])
    """
    if isinstance(magnitudes, Distribution):
        if weights is not None:
            rule = "must be left out where a distribution is given"
            raise _checks.refuse("weights", rule, weights, "put them into it")
        table = _with_zero(levels, tables.namespace(levels))
        mass = magnitudes.cdf(table)
        xp = tables.namespace(mass)
        # what lies on zero belongs to the first interval, too
        mass = xp.concatenate([xp.zeros_like(mass[:1]), mass[1:]])
        moment = magnitudes.first_moment(table)
        mass, moment = xp.diff(mass), xp.diff(moment)
    else:
        xp = tables.namespace(magnitudes, levels, weights)
        table = _with_zero(levels, xp)
        u, weights = _checked(magnitudes, weights, xp)
        above = xp.clip(xp.searchsorted(table, u, side="right"), 1, table.size - 1)
        share = weights / xp.sum(weights)
        mass = tables.histogram(above - 1, share, table.size - 1, xp)
        moment = tables.histogram(above - 1, share * u, table.size - 1, xp)
    low, width = table[:-1], xp.diff(table)
    # levels that are equal: nothing lies between them
    up = xp.where(
        width > 0, (moment - low * mass) / xp.where(width > 0, width, 1), mass
    )
    none = xp.zeros_like(up[:1])
    return xp.concatenate([none, up]) + xp.concatenate([mass - up, none])


def _with_zero(levels: Any, xp: Any) -> Any:
    """l_0 = 0, l_1, ..., l_{s+1}."""
    table = tables.levels_above_zero(levels, xp)
    return xp.concatenate([xp.zeros(1, table.dtype), table])


def _checked(magnitudes: Any, weights: Any, xp: Any) -> tuple[Any, Any]:
    """Flat magnitudes and weights."""
    way_out = "divide |v| by the norm of its bucket"
    rule = "must be an array of numbers in [0, 1], one at least, or a distribution"
    u = _numbers("magnitudes", magnitudes, rule, way_out, xp)
    fits = u.size > 0
    if fits and tables.is_known(u):
        fits = bool(((u >= 0) & (u <= 1)).all())
    if not fits:
        raise _checks.refuse("magnitudes", rule, magnitudes, way_out)
    if weights is None:
        return u.ravel(), xp.ones(u.size, u.dtype)
    way_out = "pass one for each magnitude"
    rule = f"must be numbers of at least 0, not all 0, of the shape {u.shape}"
    w = _numbers("weights", weights, rule, way_out, xp)
    fits = w.shape == u.shape
    if fits and tables.is_known(w):
        fits = bool((w >= 0).all()) and bool(0 < w.sum() < xp.inf)
    if not fits:
        raise _checks.refuse("weights", rule, weights, way_out)
    return u.ravel(), w.ravel()


def _numbers(argument: str, x: Any, rule: str, way_out: str, xp: Any) -> Any:
    """An array of real numbers to compute with."""
    try:
        return tables.wide(x, xp)
    except (TypeError, ValueError):  # text, functions, ragged rows, complex numbers
        raise _checks.refuse(argument, rule, x, way_out) from None


def entropy(probabilities: Any) -> Any:
    """H(p) = -sum_j p_j log2 p_j, in bits; 0 log 0 = 0.

    Args:
        probabilities: p, not negative, that add up to 1; the last axis of an array.

    Returns:
        Bits, an array of the other axes' shape.

    Raises:
        ValueError: if they are negative or do not add up to 1, as far as is known.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> float(qgenx.bounds.entropy(np.array([0.5, 0.25, 0.25, 0.0])))
        1.5
    """
    xp = tables.namespace(probabilities)
    p = _probabilities(probabilities, xp)
    some = p > 0
    return -xp.sum(xp.where(some, p * xp.log2(xp.where(some, p, 1)), 0), axis=-1)


def _probabilities(probabilities: Any, xp: Any) -> Any:
    rule = "must be numbers of at least 0 that add up to 1 along the last axis"
    way_out = "divide counts by their sum"
    p = _numbers("probabilities", probabilities, rule, way_out, xp)
    fits = p.ndim > 0 and p.size > 0
    if fits and tables.is_known(p):
        # a float32 sum of a few hundred
        near = xp.abs(xp.sum(p, axis=-1) - 1) < 1e-4
        fits = bool(xp.all(p >= 0) & xp.all(near))
    if not fits:
        raise _checks.refuse("probabilities", rule, probabilities, way_out)
    return p


def code_length_bound(
    probabilities: Any,
    size: int,
    *,
    buckets: int = 1,
    scale_bits: int = 32,
    signs: bool = True,
) -> CodeLength:
    """Between which bits the expected length of a Huffman-coded vector lies.

        C + (1 - p_0) d + H(p) d  <=  E bits  <=  C + (1 - p_0) d + (H(p) + 1) d

    for the code of Q-GenX: C = C_b bits for each bucket's scale, a Huffman code of
    level indices made from the p used, and a sign bit for each coordinate that is not
    zero.

    Args:
        probabilities: p_0 to p_{s+1} of levels, as `level_probabilities` gives them; or
            of the codes themselves, as `code_probabilities` does, with signs=False.
        size: d, coordinates of the vector.
        buckets: their number.
        scale_bits: C_b, of what a bucket's coordinates share: 32, or 64 for `min_max`
            and levels over the range.
        signs: whether p_0 is that of zero and all others have a sign bit.

    Returns:
        (least, most), bits.

    Raises:
        ValueError: for arguments that are not such.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> p = np.array([0.5, 0.25, 0.25])
        >>> least, most = qgenx.bounds.code_length_bound(p, 1000)
        >>> float(least), float(most)  # 32 + 500 + 1500, and 1000 more
        (2032.0, 3032.0)

    References:
        Ramezani-Kebrya et al., ICLR 2023, theorem 2.
    """
    size = _checks.whole_number("size", size, 0, None)
    buckets = _checks.whole_number("buckets", buckets, 0, None)
    scale_bits = _checks.whole_number("scale_bits", scale_bits, 0, None)
    if not isinstance(signs, bool):
        raise _checks.refuse("signs", "must be True or False", signs, "choose one")
    p = _probabilities(probabilities, tables.namespace(probabilities))
    sign_bits = (1 - p[..., 0]) * size if signs else 0
    least = buckets * scale_bits + sign_bits + entropy(p) * size
    return CodeLength(least, least + size)
