"""Bounds for the variance: formulas, what they bound, and where they are attained."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.bound_cases import (
    RANGES,
    WITHOUT,
    hard_vectors,
    over_norm,
    quantizers,
    table_of,
)
from tests.lib.codec_cells import NORMS, levels_of
from tests.lib.helpers import within_5_sigma

quick = pytest.mark.quick
pytestmark = pytest.mark.usefixtures("compiled_plainly")
bound = qgenx.bounds.variance_bound
exact = qgenx.bounds.exact_variance
SIZES = (2, 3, 16, 50, 300)


def theorem(levels, d, q):
    """The two branches of the theorem, in plain Python; levels from l_1 on."""
    m = min(q, 2)
    lbar = max([b / a for a, b in itertools.pairwise(levels)], default=1)
    first = (lbar - 1) ** 2 / (4 * lbar)
    if d <= (2 / levels[0]) ** m:
        return first + levels[0] ** 2 * d ** (2 / m) / 4
    return first + levels[0] * d ** (1 / m) - 1


@quick
@pytest.mark.parametrize("q", NORMS)
def test_the_theorem_is_that_of_the_formula(q):
    for levels in ([1.0], [0.5, 1.0], [0.01, 0.1, 0.4, 1.0], [2.0**-40, 1.0]):
        for d in (1, 2, 15, 16, 17, 399, 401, 10**6):
            expected = theorem(levels, d, q)
            assert bound(levels, d, norm=q) == pytest.approx(expected, rel=1e-12)
            quantizer = qgenx.user_levels(levels, norm=q, bucket_size=None)
            expected = theorem(quantizer.levels, d, q)
            found = bound(quantizer, d, ideal=True)
            assert found == pytest.approx(expected, rel=1e-12)

        @jax.jit
        def traced(levels):
            return [bound(levels, d, norm=q) for d in (16, 399)]

        found = traced(np.array(levels, np.float32))
        expected = [theorem(levels, d, q) for d in (16, 399)]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@quick
@pytest.mark.parametrize("d", [1, 2, 3, 1000])
def test_one_bit_and_min_max_have_formulas_of_their_own(d):
    for q in NORMS:
        one = qgenx.uniform(1, norm=q, bucket_size=None)
        for form in ("theorem", "sharp"):
            expected = d ** (2 / min(q, 2)) - 1
            assert bound(one, d, form=form, ideal=True) == pytest.approx(expected)
    for bits in range(1, 9):
        expected = max(d - 2, 0) / (2 * (2**bits - 1) ** 2)
        found = bound(qgenx.min_max(bits, bucket_size=None), d, ideal=True)
        assert found == pytest.approx(expected, rel=1e-12)


@quick
def test_the_longest_bucket_counts():
    for size in (1000, 1024, 1025, 10**6):
        found = bound(qgenx.uniform(4, norm=2), size)
        expected = qgenx.uniform(4, norm=2, bucket_size=min(size, 1024))
        assert found == bound(expected, min(size, 1024))


@quick
def test_the_codec_is_at_most_a_little_worse_than_the_ideal():
    for name, quantizer in quantizers():
        for form in ("theorem", "sharp"):
            ideal = bound(quantizer, 1000, form=form, ideal=True)
            assert ideal <= bound(quantizer, 1000, form=form) <= 1.03 * ideal, name


@pytest.mark.parametrize(
    "family", ["uniform", "exponential", "levels", *RANGES, *WITHOUT]
)
def test_no_vector_has_more(family):
    """Of every width and norm, the exact variance of the ideal and of the codec."""
    least = np.inf
    for index, (name, quantizer) in enumerate(quantizers()):
        if quantizer.family != family:
            continue
        # the same for families that share a program
        turn = 0 if family in RANGES else NORMS.index(quantizer.norm)
        size = SIZES[(quantizer.bits + turn) % len(SIZES)]
        vectors = hard_vectors(size, over_norm(quantizer), quantizer.norm, index)
        by = type(quantizer)(
            family, quantizer.bits, quantizer.norm, size, quantizer.levels
        )
        squares = np.sum(vectors.astype(np.float64) ** 2, axis=1)
        for ideal in (True, False):
            variances = exact(vectors, by, ideal=ideal)
            sharp = bound(by, size, form="sharp", ideal=ideal)
            assert sharp <= bound(by, size, ideal=ideal) * (1 + 1e-12), name
            slack = 1e-12 + ideal * 1e-9
            worst = np.max(variances / np.maximum(squares, 1e-300) / (sharp + slack))
            assert worst <= 1, f"{name}, {size}: {worst} of the bound, ideal {ideal}"
            least = min(least, 1 / max(worst, 1e-9))
    assert least < 1.02, "no vector comes near"


@pytest.mark.parametrize("q", NORMS)
def test_no_vector_of_ten_thousand_has_more(q):
    size = 10_000
    for quantizer in (
        qgenx.uniform(4, norm=q, bucket_size=size),
        qgenx.exponential(4, norm=q, bucket_size=size),
        qgenx.min_max(2, bucket_size=size),
        qgenx.user_levels([0.1, 0.4, 1.0], norm="range", bucket_size=size),
    ):
        vectors = hard_vectors(size, over_norm(quantizer), q, 5, count=30)
        squares = np.sum(vectors.astype(np.float64) ** 2, axis=1)
        worst = exact(vectors, quantizer) - bound(quantizer, size, form="sharp") * (
            squares
        )
        assert np.max(worst) <= 0, quantizer


@quick
def test_where_bounds_are_attained():
    """With equality: by equal coordinates, and by (1, -1, 0, ..., 0) for min_max."""
    for d in (4, 16, 400, 2500):
        ones = np.ones(d, np.float32)
        for q in (1, 2):
            for bits in (1, 2):
                quantizer = qgenx.uniform(bits, norm=q, bucket_size=None)
                eps = bound(quantizer, d, ideal=True)
                (found,) = exact(ones, quantizer, ideal=True) / d
                assert found == pytest.approx(eps, rel=1e-6), (q, bits)
        found = exact(ones * 0, qgenx.uniform(1, bucket_size=None), ideal=True)
        assert found == 0
        for bits in range(1, 9):
            pair = np.concatenate([[1.0, -1.0], np.zeros(d - 2)])
            quantizer = qgenx.min_max(bits, bucket_size=None)
            (found,) = exact(pair, quantizer, ideal=True) / 2
            assert found == pytest.approx(bound(quantizer, d, ideal=True), rel=1e-6)


@quick
@pytest.mark.parametrize("d", [3, 12, 500])
def test_over_a_range_the_sharp_form_is_what_the_worst_vector_has(d):
    """Found by trying: minimum -a, maximum 1 - a and d - 2 coordinates at u - a."""
    for levels in ([0.1, 0.4, 1.0], [0.5, 0.75, 1.0], [0.02, 0.3, 0.35, 1.0], [0.9, 1]):
        quantizer = qgenx.user_levels(levels, norm="range", bucket_size=None)
        table = np.array([0, *quantizer.levels])
        a = np.linspace(0, 1, 401)[:, None]
        u = np.linspace(0, 1, 2001)[None]
        j = np.clip(np.searchsorted(table, u, side="right"), 1, len(table) - 1)
        gained = (d - 2) * (table[j] - u) * (u - table[j - 1])
        ratio = gained / (a**2 + (1 - a) ** 2 + (d - 2) * (u - a) ** 2)
        row, column = np.unravel_index(ratio.argmax(), ratio.shape)
        sharp = bound(quantizer, d, form="sharp", ideal=True)
        assert ratio.max() <= sharp <= 1.002 * ratio.max(), levels
        assert sharp <= bound(quantizer, d, ideal=True)
        worst = np.full(d, u[0, column]) - a[row]
        worst[:2] = -a[row, 0], 1 - a[row, 0]
        (found,) = exact(worst, quantizer, ideal=True) / (worst @ worst)
        assert found == pytest.approx(ratio.max(), rel=1e-5)  # of float32


def near_worst(levels, d, q):
    """The largest variance over ||v||^2 of k coordinates at one place, the rest below.

    Places are the top, the middles of gaps, and the worst of the steepest gap.
    """
    low, high = levels[1:-1], levels[2:]
    places = np.concatenate([[1.0], (low + high) / 2, 2 * low * high / (low + high)])

    def each(u):
        k = np.clip(np.searchsorted(levels, u, "right"), 1, levels.size - 1)
        return (levels[k] - u) * (u - levels[k - 1])

    most = 0.0
    for k in (0, 1, 2, 3, 5, 10, 30, 100):
        if k >= d:
            continue
        if q == math.inf:  # one at the norm, k more at a place
            place, below = np.meshgrid(places, np.geomspace(1e-6, 1, 300) * levels[1])
            ones = 1
        else:
            place = places[k * places**q < 1]
            below, ones = ((1 - k * place**q) / (d - k)) ** (1 / q), 0
        rest = d - k - ones
        total = k * each(place) + rest * each(below)
        energy = ones + k * place**2 + rest * below**2
        most = max(most, np.max(total / energy, initial=0))
    return most


@quick
@pytest.mark.parametrize("q", NORMS)
def test_the_sharp_form_is_within_a_third_of_the_worst_vector_for_uniform_levels(q):
    for bits in (2, 3, 4, 8):
        steps = 2 ** (bits - 1) - 1
        levels = np.arange(steps + 1) / steps
        for d in (10, 100, 1000, 10**4, 10**6):
            worst = near_worst(levels, d, q)
            sharp = bound(levels[1:], d, norm=q, form="sharp")
            assert 0.75 * sharp <= worst <= sharp * (1 + 1e-12), (bits, d)


def most_of_others(levels, count):
    """max of count g(u) / (1 + count u^2) by trying u, with g(u) = (h - u)(u - l)."""
    u = np.linspace(-1, 1, 200_001)
    above = np.clip(np.searchsorted(levels, u), 1, levels.size - 1)
    each = (levels[above] - u) * (u - levels[above - 1])
    return np.max(count * each / (1 + count * u * u))


@quick
@pytest.mark.parametrize("family", WITHOUT)
def test_without_zero_the_sharp_form_for_infinity_is_attained(family):
    for bits in range(1, 9):
        table = levels_of(family, bits)
        quantizer = qgenx.user_levels(table, zero=False, bucket_size=None)
        levels = table_of(quantizer)
        if 0 in levels:  # there the older form holds
            continue
        for d in (1, 2, 3, 30, 1000, 10**6):
            found = bound(quantizer, d, form="sharp", ideal=True)
            expected = most_of_others(levels, d - 1)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-12), (bits, d)
        if bits in (1, 4):
            traced = jax.jit(
                lambda levels, q=quantizer: [
                    bound(q, d, levels=levels, form="sharp", ideal=True)
                    for d in (3, 1000)
                ]
            )
            expected = [most_of_others(levels, d - 1) for d in (3, 1000)]
            found = traced(np.float32(table))
            np.testing.assert_allclose(found, expected, rtol=1e-4)


@quick
def test_without_zero_equal_coordinates_come_near_the_bound_of_norms_1_and_2():
    """By 1 + c, where levels are symmetric and 1 / d^(1/m) lies below the first."""
    for q, d in ((1, 30), (1, 1000), (2, 900), (2, 10**5)):
        for levels in ([0.125, 0.5, 1.0], [0.25, 1.0]):
            by = qgenx.user_levels(levels, zero=False, norm=q, bucket_size=None)
            lbar = max(b / a for a, b in itertools.pairwise(levels))
            c = (lbar - 1) ** 2 / (4 * lbar)
            (found,) = exact(np.ones(d), by, ideal=True) / d
            assert found == pytest.approx(levels[0] ** 2 * d ** (2 / q) - 1, rel=1e-9)
            for form in ("theorem", "sharp"):
                eps = bound(by, d, form=form, ideal=True)
                assert found <= eps <= (found + 1 + c) * (1 + 1e-12), (q, d, levels)


def test_sampled_variances_of_the_codec_lie_below():
    """E ||Q(v) - v||^2 over 200 keys, at 5 standard errors: exact, and below."""
    keys, d = jax.random.split(jax.random.key(1), 200), 60
    for q, quantizer in (
        (2, qgenx.uniform(2, norm=2, bucket_size=d)),
        (math.inf, qgenx.uniform(4, bucket_size=d)),
        (1, qgenx.exponential(4, norm=1, bucket_size=d)),
        (1, qgenx.uniform(1, norm=1, bucket_size=d)),
        (math.inf, qgenx.min_max(3, bucket_size=d)),
        (2, qgenx.user_levels([0.1, 0.4, 1.0], zero=False, norm=2, bucket_size=d)),
        (math.inf, qgenx.user_levels([-1.0, -0.2, 0.1, 1.0], bucket_size=d)),
    ):
        # without those that come so near levels that few keys move them
        vectors = hard_vectors(d, None, q, 3, count=11)[[0, 1, 2, 3, 5, 7, 9]]

        @jax.jit
        @jax.vmap
        def decoded(key, quantizer=quantizer, vectors=vectors):
            return quantizer.decode(quantizer.encode(key, jnp.asarray(vectors)))

        off = np.asarray(decoded(keys), np.float64) - vectors
        errors = np.sum(off**2, axis=2)
        mean, deviation = errors.mean(axis=0), errors.std(axis=0, ddof=1)
        squares = np.sum(vectors.astype(np.float64) ** 2, axis=1)
        bar, floor = deviation / math.sqrt(len(keys)), 1e-9 * squares
        within_5_sigma(mean, exact(vectors, quantizer), bar + floor, str(quantizer))
        assert np.all(mean <= bound(quantizer, d) * squares + 5 * bar + floor)


@quick
def test_workers_and_a_second_phase():
    """As sums of the formulas, and below them what a mean of decoded vectors has."""
    first, second = qgenx.uniform(4, norm=2), qgenx.uniform(8)
    one, two = bound(first, 500), bound(second, 500)
    assert bound(first, 500, workers=5) == pytest.approx(one / 5)
    both = bound(first, 500, workers=5, second=second)
    assert both == pytest.approx(one / 5 + two * (1 + one / 5))
    assert bound(first, 500, second=second, workers=10**9) == pytest.approx(two)


def test_the_mean_of_two_phases_has_less():
    workers, d = 4, 64
    vectors = hard_vectors(d, None, 2, 2, count=12)[:workers]
    first = qgenx.uniform(3, norm=2, bucket_size=d)
    second = qgenx.uniform(2, norm=2, bucket_size=d)

    @jax.jit
    @jax.vmap
    def mean(key):
        keys = jax.random.split(key, workers + 1)
        sent = [
            first.decode(first.encode(k, v))
            for k, v in zip(keys, jnp.asarray(vectors), strict=False)
        ]
        total = sum(sent) / workers
        return second.decode(second.encode(keys[-1], total))

    found = np.asarray(mean(jax.random.split(jax.random.key(0), 300)), np.float64)
    errors = np.sum((found - vectors.mean(axis=0, dtype=np.float64)) ** 2, axis=1)
    eps = bound(first, d, workers=workers, second=second)
    squares = np.mean(np.sum(vectors.astype(np.float64) ** 2, axis=1))
    assert errors.mean() <= eps * squares + 5 * errors.std() / math.sqrt(300)


def test_levels_of_a_state_are_an_argument_of_a_program():
    quantizer = qgenx.user_levels([0.2, 0.5, 1.0], norm=2)
    traced = jax.jit(lambda levels: bound(quantizer, 100, levels=levels, workers=3))
    for levels in ([0.2, 0.5, 1.0], [0.25, 0.25, 1.0], [0.0, 0.5, 1.0]):
        table = np.array(levels, np.float32)
        positive = [x for x in levels if x > 0]
        ideal = theorem(positive, 100, 2) / 3
        assert ideal <= float(traced(table)) <= 1.02 * ideal
