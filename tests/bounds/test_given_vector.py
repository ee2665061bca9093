"""The exact variance of given vectors, and how often their codes are sent."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.quantizer import coder_of
from qgenx_jax.bounds import given_vector
from tests.lib import reference
from tests.lib.bound_cases import hard_vectors, over_norm, quantizers, table_of
from tests.lib.helpers import within_5_sigma

quick = pytest.mark.quick
pytestmark = pytest.mark.usefixtures("compiled_plainly")
exact = qgenx.bounds.exact_variance
SIZE = 24


def ideal_variance(quantizer, v):
    """Of one bucket, coordinate by coordinate, from the definition."""
    v = np.asarray(v, np.float64)
    if quantizer.family == "range_levels":
        n, v = np.ptp(v), v - v.min()
        table = np.array([0, *quantizer.levels])
        j = np.clip(np.searchsorted(table * n, v, "right"), 1, table.size - 1)
        return np.sum((table[j] * n - v) * (v - table[j - 1] * n))
    n = np.linalg.norm(v, quantizer.norm)
    if quantizer.family == "min_max":
        unit = (v.max() - v.min()) / (2**quantizer.bits - 1)
        place = (v - v.min()) / unit if unit else 0 * v
        fraction = place - np.floor(place)
        return unit**2 * np.sum(fraction * (1 - fraction))
    levels, total = table_of(quantizer), 0.0
    if quantizer.bits == 1:
        return v.size * n * n - v @ v
    for u in v / n if n else []:
        last = len(levels) - 1
        above = next(j for j in range(1, last + 1) if u <= levels[j] or j == last)
        total += max((levels[above] - u) * (u - levels[above - 1]), 0)
    return n * n * total


def test_the_ideal_is_the_formula():
    for index, (name, quantizer) in enumerate(quantizers(bucket_size=SIZE)):
        rows = hard_vectors(SIZE, over_norm(quantizer), quantizer.norm, index, 14)
        expected = [ideal_variance(quantizer, row) for row in rows]
        found = exact(rows, quantizer, ideal=True)
        floor = 1e-12 * np.sum(rows.astype(np.float64) ** 2, axis=1)
        assert np.all(np.abs(found - expected) <= 1e-9 * found + 1e4 * floor), name


def test_the_codec_has_the_mean_over_all_rounding_bits():
    """From the scale that is sent, and levels and places in exact arithmetic."""
    for index, (name, quantizer) in enumerate(quantizers(bucket_size=SIZE)):
        if index % 8:  # widths and norms take turns
            continue
        rows = hard_vectors(SIZE, over_norm(quantizer), quantizer.norm, index, 14)
        found = exact(rows, quantizer)
        _, meta = coder_of(quantizer, "float32").rounding.measure(jnp.asarray(rows))
        family, bits = quantizer.family, quantizer.bits
        for row, metas, variance in zip(rows, np.asarray(meta), found, strict=True):
            if not (np.ptp(row) if family in reference.RANGES else row.any()):
                assert variance == 0, name
                continue
            metas = np.asarray(metas, np.float64)
            around = reference.neighbours(
                family, bits, row, metas, quantizer.levels, "float32"
            )
            below, v, low, high = (np.array(x, object) for x in around)
            up = np.array(reference.rounded((v - low) << 16, high - low), float) / 2**16
            lower, upper = (
                reference.values_of(
                    family,
                    bits,
                    (below + step).astype(int),
                    metas,
                    quantizer.levels,
                    "float32",
                )
                for step in (0, 1)
            )
            each = up * (upper - row) ** 2 + (1 - up) * (row - lower) ** 2
            slack = 2.0**-14 * np.sum((upper - lower) ** 2) * 2.0**-7
            expected = pytest.approx(np.sum(each), rel=2.0**-14, abs=slack)
            assert variance == expected, f"{name}: {row}"


@quick
def test_full_buckets_and_the_short_one():
    v = np.random.default_rng(0).normal(size=(5, 7))
    for quantizer in (qgenx.uniform(3, bucket_size=8), qgenx.min_max(3, bucket_size=8)):
        found = exact(v, quantizer)
        flat = v.reshape(-1)
        parts = [exact(flat[i : i + 8], quantizer) for i in range(0, 35, 8)]
        np.testing.assert_array_equal(found, np.concatenate(parts))
        assert found.dtype == np.float64


def test_zeros_nan_and_nothing():
    for quantizer in (
        qgenx.uniform(4, bucket_size=4),
        qgenx.exponential(4, bucket_size=4),
        qgenx.min_max(4, bucket_size=4),
        qgenx.uniform(1, bucket_size=4),
        qgenx.user_levels([0.5, 1.0], zero=False, bucket_size=4),
        qgenx.user_levels([-1.0, 0.5, 1.0], bucket_size=4),
        qgenx.user_levels([0.5, 1.0], norm="range", bucket_size=4),
    ):
        for ideal in (True, False):
            v = np.array([0, 0, 0, 0, 1, np.nan, 0, 2, 1, np.inf], np.float32)
            found = exact(v, quantizer, ideal=ideal)
            assert found[0] == 0
            assert np.isnan(found[1:]).all(), (quantizer, ideal)
            found = exact(jnp.asarray(v), quantizer, ideal=ideal)
            assert np.isnan(found[1:]).all(), (quantizer, ideal)
            assert exact(v[:0], quantizer, ideal=ideal).shape == (0,)


def test_jit_and_both_kinds_of_arrays_agree():
    v = np.random.default_rng(1).normal(size=40).astype(np.float32)
    for quantizer in (qgenx.uniform(3, bucket_size=16), qgenx.min_max(2)):
        for ideal in (True, False):
            expected = exact(v, quantizer, ideal=ideal)
            on_jax = jax.jit(
                lambda v, q=quantizer, ideal=ideal: exact(v, q, ideal=ideal)
            )
            inside = jax.jit(lambda q=quantizer, ideal=ideal: exact(v, q, ideal=ideal))
            for found in (on_jax(v), exact(jnp.asarray(v), quantizer, ideal=ideal)):
                assert isinstance(found, jax.Array)
                np.testing.assert_allclose(found, expected, rtol=1e-5)
            np.testing.assert_allclose(inside(), expected, rtol=1e-5)


@quick
def test_levels_of_a_state():
    own, others = qgenx.user_levels([0.1, 0.5, 1.0]), np.float32([0.25, 0.375, 1.0])
    v = np.random.default_rng(1).normal(size=40).astype(np.float32)
    traced = jax.jit(lambda v, levels: exact(v, own, levels=levels))
    expected = exact(v, qgenx.user_levels(others))
    np.testing.assert_allclose(exact(v, own, levels=others), expected, rtol=1e-6)
    np.testing.assert_allclose(traced(v, others), expected, rtol=1e-5)


@quick
def test_float64_and_half_precision():
    v = np.random.default_rng(2).normal(size=30)
    quantizer = qgenx.uniform(5)
    with jax.enable_x64(True):
        double = exact(jnp.asarray(v), quantizer)
        assert double.dtype == jnp.float64
        np.testing.assert_allclose(double, exact(v, quantizer), rtol=1e-14)
    half = jnp.asarray(v, jnp.bfloat16)
    expected = exact(np.asarray(half, np.float32), quantizer)
    np.testing.assert_allclose(exact(half, quantizer), expected, rtol=1e-5)


def test_codes_come_as_often_as_said():
    """Over 300 keys, at 5 standard errors of independent coordinates."""
    v = np.random.default_rng(3).normal(size=75).astype(np.float32)
    keys = jax.random.split(jax.random.key(3), 300)
    for quantizer in (
        qgenx.uniform(3, norm=2, bucket_size=30),
        qgenx.exponential(3, norm=1, bucket_size=30),
        qgenx.min_max(2, bucket_size=30),
        qgenx.user_levels([0.1, 0.5, 1.0], zero=False, norm=1, bucket_size=30),
        qgenx.user_levels([-1.0, -0.3, 0.1, 1.0], bucket_size=30),
        qgenx.user_levels([0.1, 0.4, 1.0], norm="range", bucket_size=30),
    ):
        found = qgenx.bounds.code_probabilities(v, quantizer)

        @jax.jit
        @jax.vmap
        def codes(key, quantizer=quantizer):
            opened = quantizer.records(quantizer.encode(key, jnp.asarray(v)))
            return jnp.concatenate([x.reshape(-1) for x, _ in opened])

        sent = np.asarray(codes(keys)).reshape(-1)
        counts = np.bincount(sent, minlength=found.size)
        assert counts.size == found.size, "a code beyond the last"
        error = np.sqrt(found * (1 - found) / sent.size) + 1e-4
        within_5_sigma(counts / sent.size, found, error, str(quantizer))
        assert found.sum() == pytest.approx(1, abs=1e-12)
        traced = jax.jit(lambda v, q=quantizer: qgenx.bounds.code_probabilities(v, q))
        np.testing.assert_allclose(traced(v), found, atol=1e-6)


@quick
def test_a_known_case():
    """(3, 4) in ternary with norm 2 over n = 5: 5 (3 + 4) - 25 = 10."""
    v = np.array([3.0, 4.0])
    assert exact(v, qgenx.uniform(2, norm=2), ideal=True)[0] == pytest.approx(10)
    assert exact(v, qgenx.uniform(2, norm=2))[0] == pytest.approx(10, rel=2.0**-16)
    assert exact(v, qgenx.uniform(1, norm=1), ideal=True)[0] == pytest.approx(98 - 25)
    assert exact(v, qgenx.uniform(2, norm=math.inf))[0] == 4 * 7 - 25
    # -4, -2, 2 and 4: 3 x 1 for -1, 1 x 1 for 3, 2 x 2 for 0
    v, halves = np.array([4.0, -1.0, 3.0, 0.0]), [0.5, 1.0]
    assert exact(v, qgenx.user_levels(halves, zero=False))[0] == 3 * 1 + 1 * 1 + 2 * 2
    # -4, 1 and 4: 3 x 2 for -1, 1 x 2 for 3, 1 x 4 for 0
    signed = qgenx.user_levels([-1, 0.25, 1.0])
    assert exact(v, signed, ideal=True)[0] == 3 * 2 + 2 * 1 + 4 * 1
    # -1, 1.5 and 4: 1 x 1.5 for 0, 1.5 x 1 for 3
    over_range = qgenx.user_levels(halves, norm="range")
    assert exact(v, over_range, ideal=True)[0] == 1 * 1.5 + 1.5 * 1


def test_coordinates_add_up_to_buckets():
    """In NumPy alone, also of several pieces of many buckets."""
    v = np.random.default_rng(0).standard_t(3, 150_001).astype(np.float32)
    for quantizer in (qgenx.uniform(3, norm=2), qgenx.min_max(2), qgenx.exponential(4)):
        each = given_vector.coordinate_variances(v, quantizer)
        starts = np.arange(0, v.size, 1024)
        expected = exact(v, quantizer, ideal=True)
        np.testing.assert_allclose(np.add.reduceat(each, starts), expected, rtol=1e-9)
    whole = qgenx.uniform(4, bucket_size=None)
    each = given_vector.coordinate_variances(v, whole)
    assert each.sum() == pytest.approx(exact(v, whole, ideal=True)[0])
    assert given_vector.coordinate_variances(v[:0], whole).shape == (0,)
