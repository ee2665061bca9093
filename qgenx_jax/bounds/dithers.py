"""What companded dither costs: variances of one vector, covariances of two workers'.

Symbols are those of `qgenx_jax._codec.bend`: s the place of a coordinate, v the part of
a step that a receiver sees, l(s + v) what is decoded. With m_k = E v^k

    l(s + v) - c(s) = (A + 3 B s^2) v + 3 B s (v^2 - m_2) + B v^3

has no mean, and the variance g(s), `Curve.variance`. Of K workers that are
turned evenly against each other l - c is a sum of Bernoulli's polynomials B_1, B_2, B_3
of one place, whose products have known integrals.
"""

from collections.abc import Sequence
from typing import Any

from qgenx_jax._codec.bend import Curve, moments

# of a product of B_m and B_n, m! n! / (m + n)!, with a minus for even m
PRODUCTS = {
    (1, 1): 1 / 2,
    (1, 2): 1 / 3,
    (1, 3): 1 / 4,
    (2, 1): -1 / 3,
    (2, 2): -1 / 6,
    (2, 3): -1 / 10,
    (3, 1): 1 / 4,
    (3, 2): 1 / 10,
    (3, 3): 1 / 20,
}


def bound(curve: Curve, size: int, excess: float, off: float, xp: Any) -> Any:
    """An eps with E ||Q(v) - v||^2 <= eps ||v||^2 for buckets of this size.

    One coordinate is the norm, and adds g(h); the others add at most as much as lets
    them raise the ratio, so that the least eps is the root of

        eps = g(h) + (d - 1) max_s (g(s) - eps c(s)^2),

    found by bisection. The maximum is that of a cubic in w = (s / h)^2,

        g_0 + g_2 w + g_4 w^2 - eps w (a + b w)^2,   a = 1 / (1 + e), b = 1 - a.

    Some vector attains it: a 1, and d - 1 times the coordinate of the maximum, which
    is 0 for long buckets.

    A codec's place is `off` from s by up to p, and its scale too large by `excess`.
    With g = g_0 + g_2 s^2 + g_4 s^4, as 2 s <= r + s^2 / r for any r,

        g(s + p) <= (1 + p sqrt(g_2 / g_0) + 2 p sqrt(g_4 / g_2) + ...) g(s),

    and the bias, p times the slope of c, has a square of 12 p^2 g at most.
    """
    third = curve.coefficients()[1]
    linear = curve.coefficients()[0]
    m2, m4, _ = moments()
    h, a = curve.half, curve.linear
    b = 1 - a
    zero, end = curve.variance(0.0), curve.variance(h)
    second = 6 * linear * third * m2 + 9 * third**2 * (m4 - m2**2) + 6 * third**2 * m4
    second, fourth = second * h**2, 9 * third**2 * m2 * h**4

    def most(eps: Any) -> Any:
        """max over w of the cubic: at its ends, or where its slope is zero."""
        one, two, three = second - eps * a * a, fourth - 2 * eps * a * b, eps * b * b
        # of the slope one + 2 two w - 3 three w^2 the root after which it is negative
        root = xp.sqrt(xp.maximum(two * two + 3 * three * one, 0))
        inner = (two + root) / xp.maximum(3 * three, 1e-30)
        inner = xp.clip(inner, 0, 1)
        values = [w * (one + w * (two - w * three)) for w in (inner, 1.0)]
        return zero + xp.maximum(xp.maximum(*values), 0)

    low, high = end, end + (size - 1) * (zero + second + fourth)
    for _ in range(60):
        middle = (low + high) / 2
        is_above = end + (size - 1) * most(middle) <= middle
        low, high = xp.where(is_above, low, middle), xp.where(is_above, middle, high)
    more = xp.sqrt(second / zero) + 2 * xp.sqrt(fourth / xp.maximum(second, 1e-30))
    misplaced = 1 + off * more / h + 20 * (off * (1 + more / h)) ** 2
    return high * (1 + excess) ** 2 * misplaced


def covariance(one: Sequence[Any], other: Sequence[Any], workers: int) -> Any:
    """Of what two of K workers add, of places s and l - c = sum_m a_m B_m each.

    The second one's bits are the first one's plus r / K, r one of 1, ..., K - 1 with
    equal probability. With D the difference of the places

        (1 / (K - 1)) sum_{m, n} a_m a'_n p_mn (K^{1 - m - n} B_{m+n}(K D) - B_{m+n}(D))

    p_mn as in PRODUCTS: products of Bernoulli's polynomials, and their multiplication
    theorem. L = 2^16 is taken as infinite.

    Args:
        one: places, and what `in_bernoulli` has for them.
        other: likewise.
        workers: K, at least 2.
    """
    (s, mine), (there, theirs) = one, other
    difference, inner = s - there, {}
    for order in range(2, 7):
        whole = float(workers) ** (1 - order) * bernoulli(order, workers * difference)
        inner[order] = whole - bernoulli(order, difference)
    total = 0.0
    for (m, n), factor in PRODUCTS.items():
        total = total + mine[m - 1] * theirs[n - 1] * (factor * inner[m + n])
    return total / (workers - 1)


def in_bernoulli(curve: Curve, s: Any) -> tuple[Any, Any, Any]:
    """a_1, a_2, a_3: what l - c is of B_1, B_2 and B_3 of one place."""
    a, b = curve.coefficients()
    return a + 3 * b * s * s + b / 4, 3 * b * s, b + 0 * s


def bernoulli(order: int, x: Any) -> Any:
    """B_n of the fractional part of x, n = 2 to 6."""
    t = x - x // 1
    u = t * (1 - t)  # of even orders they are polynomials in it
    if order == 2:
        return 1 / 6 - u
    if order == 3:
        return (t - 0.5) * -u
    if order == 4:
        return u * u - 1 / 30
    if order == 5:
        return (t - 0.5) * (u * u + u / 3)
    return 1 / 42 - u**2 / 2 - u**3
