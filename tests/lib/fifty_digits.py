"""Truncated normals in decimals of 50 digits and more, without NumPy or JAX."""

import decimal
import functools
import itertools
from decimal import Decimal

decimal.getcontext().prec = 100
PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899"
)


@functools.cache
def normal_cdf(t):
    """Phi(t) by the series of erf, or a continued fraction where that grows large."""
    if abs(t) > 8:
        below = abs(t)
        for n in range(100, 0, -1):  # e^-226 is left at t = 8
            below = abs(t) + n / below
        return phi(t) / below if t < 0 else 1 - phi(t) / below
    term, total, n = t, t, 0
    while abs(term) > Decimal(10) ** -90:
        n += 1
        term = -term * t * t / (2 * n)
        total += term / (2 * n + 1)
    return Decimal("0.5") + total / (2 * PI).sqrt()


@functools.cache
def phi(t):
    return (-t * t / 2).exp() / (2 * PI).sqrt()


class Folded:
    """The law of |u| of a mixture of normals truncated to [-1, 1]."""

    def __init__(self, means, deviations, weights):
        self.parts = []
        for mean, deviation, weight in zip(means, deviations, weights, strict=True):
            m, s, w = map(Decimal, (mean, deviation, weight))
            inside = normal_cdf((1 - m) / s) - normal_cdf((-1 - m) / s)
            share = w / inside / sum(map(Decimal, weights))
            self.parts += [(m, s, share), (-m, s, share)]

    def moments(self, a, c):
        """int dF, int u dF, int u^2 dF over [a, c]."""
        totals = [Decimal(0)] * 3
        for m, s, share in self.parts:
            p, q = (a - m) / s, (c - m) / s
            k0 = normal_cdf(q) - normal_cdf(p)
            k1 = phi(p) - phi(q)
            k2 = k0 + p * phi(p) - q * phi(q)
            found = k0, m * k0 + s * k1, m * m * k0 + 2 * m * s * k1 + s * s * k2
            totals = [t + share * x for t, x in zip(totals, found, strict=True)]
        return totals

    def variance(self, table):
        total = Decimal(0)
        for a, c in itertools.pairwise(table):
            m0, m1, m2 = self.moments(a, c)
            total += (a + c) * m1 - m2 - a * c * m0
        return total

    def quantile(self, a, c, mass):
        """The x in [a, c] with int_a^x dF = mass, by 55 bisections."""
        low, high = a, c
        for _ in range(55):
            middle = (low + high) / 2
            if self.moments(a, middle)[0] < mass:
                low = middle
            else:
                high = middle
        return low

    def best_between(self, a, c):
        m0, m1, _ = self.moments(a, c)
        return self.quantile(a, c, m0 - (m1 - a * m0) / (c - a))

    def best_lowest(self, c):
        """The x in [0, c] with 2 x F(x) = int_x^c (c - u) dF, by 55 bisections."""
        low, high = Decimal(0), c
        for _ in range(55):
            x = (low + high) / 2
            m0, m1, _ = self.moments(x, c)
            if 2 * x * self.moments(Decimal(0), x)[0] < c * m0 - m1:
                low = x
            else:
                high = x
        return low
