"""Companded dither: covariances by sums over all bits, a bound that vectors attain."""

import itertools

import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.bend import Curve
from qgenx_jax.bounds import dithers, exact_variance, variance_bound
from tests.codec.test_bend import value_at

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("workers", [2, 3, 7])
@pytest.mark.parametrize(("bits", "bend"), [(1, 2.0), (2, 0.8), (3, 5.0)])
def test_covariances_equal_sums_over_all_bits(bits, bend, workers):
    """Every u of a fine grid, every turn by a multiple of 1 / K: to its width."""
    curve, h = Curve(bits, bend), (2**bits - 1) / 2
    count = 3000
    u = (np.arange(workers * count) + 0.5) / (workers * count)

    def decoded(s):
        return value_at(bits, bend, np.floor(s + h + u) - h - u + 0.5)

    rng = np.random.default_rng(bits)
    for s, other in [(0.3, 0.3), (0.2, 0.2 - 1 / workers), *rng.uniform(-h, h, (3, 2))]:
        one, two = decoded(s), decoded(other)
        products = [
            (one * np.roll(two, turn * count)).mean() for turn in range(1, workers)
        ]
        expected = np.mean(products) - one.mean() * two.mean()
        known = [(x, dithers.in_bernoulli(curve, x)) for x in (s, other)]
        found = dithers.covariance(*known, workers)
        bar = 4 / count * one.std() * two.std() + 1e-6 * np.abs(one).max() ** 2
        np.testing.assert_allclose(found, expected, rtol=0, atol=bar)


@pytest.mark.parametrize("order", range(2, 7))
def test_bernoullis_polynomials_have_their_defining_sums(order):
    """B_n(x + 1) - B_n(x) = n x^(n-1), so sums of powers; and periodic here."""
    x = np.linspace(0, 0.999, 23)
    found = dithers.bernoulli(order, x)
    np.testing.assert_allclose(dithers.bernoulli(order, x - 3), found, atol=1e-12)
    # the mean over K turns is K^(-n) B_n(K x)
    for workers in (2, 5):
        turned = [dithers.bernoulli(order, x + r / workers) for r in range(workers)]
        expected = dithers.bernoulli(order, workers * x) / workers**order
        np.testing.assert_allclose(np.mean(turned, axis=0), expected, atol=1e-12)
    coefficients = {
        2: [1, -1, 1 / 6],
        3: [1, -1.5, 0.5, 0],
        4: [1, -2, 1, 0, -1 / 30],
        5: [1, -2.5, 5 / 3, 0, -1 / 6, 0],
        6: [1, -3, 2.5, 0, -0.5, 0, 1 / 42],
    }
    np.testing.assert_allclose(found, np.polyval(coefficients[order], x), atol=1e-12)


@pytest.mark.parametrize(
    ("bits", "bend"), list(itertools.product((1, 2, 4, 8), (0.0, 0.8, 8.0)))
)
def test_the_bound_holds_and_some_vector_attains_it(bits, bend):
    quantizer = qgenx.dithered(bits, bend=bend, bucket_size=None)
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 100, 1024):
        eps = variance_bound(quantizer, size)
        unit = np.zeros(size, np.float32)
        unit[0] = 1
        cases = [unit, np.ones(size, np.float32)]
        cases += [rng.normal(size=size).astype(np.float32) ** p for p in (1, 3, 9)]
        between = np.float32([*np.geomspace(1e-2, 1, 50), 0])
        cases += [unit + x * (unit == 0) for x in between]
        # just before a place would be rounded up, where it is off the most
        curve = Curve(bits, float(np.float32(bend)))
        steps = (
            np.floor(np.geomspace(0.02, 0.3, 9) * curve.half * 2**16) + 0.49
        ) / 2**16
        cases += [unit + np.float32(x) * (unit == 0) for x in curve.mean(steps)]
        ratios = [
            exact_variance(v, quantizer).sum() / (v.astype(float) ** 2).sum()
            for v in cases
        ]
        assert max(ratios) <= eps, (size, cases[np.argmax(ratios)][:3])
        assert eps <= max(ratios) * 1.01, size


@pytest.mark.parametrize(
    ("bits", "bend", "size", "worst"), [(1, 5.0, 64, 0.1313), (2, 8.0, 1024, 0.0516)]
)
def test_a_rounded_place_exceeds_the_ideal_bound_and_not_the_codecs(
    bits, bend, size, worst
):
    """Buckets of a 1 and size - 1 times a coordinate near the worst one."""
    quantizer = qgenx.dithered(bits, bend=bend, bucket_size=size)
    x = np.repeat(np.linspace(0.999, 1.001, 300)[:, None] * worst, size, axis=1)
    x[:, 0] = 1
    x = x.astype(np.float32)
    found = exact_variance(x.ravel(), quantizer) / (x.astype(float) ** 2).sum(axis=1)
    assert found.max() > variance_bound(quantizer, size, ideal=True)
    assert found.max() <= variance_bound(quantizer, size)
