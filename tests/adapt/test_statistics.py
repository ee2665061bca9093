"""Sums of vectors beside NumPy, in any order, and what is left out of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import statistics
from qgenx_jax._adapt.tables import Kind

pytestmark = pytest.mark.plainly

RNG = np.random.default_rng(0)
VECTOR = RNG.standard_normal(1000) * np.repeat([1, 10, 0.1, 3], 250)


histogram = jax.jit(
    statistics.histogram_statistics,
    static_argnames=("kind", "bucket_size", "norm"),
)
normals = jax.jit(statistics.normal_statistics, static_argnames=("bucket_size", "norm"))


def of_histogram(vector, signed=False, bucket_size=64, norm=2, mirrored=False):
    kept = {"bucket_size": bucket_size, "norm": norm}
    vector = jnp.asarray(vector, jnp.float32)
    return histogram(vector, Kind(signed, mirrored=mirrored), **kept)


def of_normals(vector, bucket_size=64, norm=2):
    vector = jnp.asarray(vector, jnp.float32)
    return normals(vector, bucket_size=bucket_size, norm=norm)


def buckets():
    return [VECTOR[i : i + 64] for i in range(0, 1000, 64)]


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("signed", [False, True])
def test_histograms_equal_numpys(norm, signed):
    edges, right = statistics.edges(Kind(signed)), 0
    for bucket in buckets():  # the last one is short
        n = np.linalg.norm(bucket, norm)
        u = bucket / n if signed else np.abs(bucket) / n
        right = right + n**2 * np.histogram(u[np.abs(u) < 1], edges)[0]
    found = np.asarray(of_histogram(VECTOR, signed, norm=norm).masses)
    # a coordinate next to an edge may fall on its other side in float32
    np.testing.assert_allclose(np.cumsum(found), np.cumsum(right), rtol=3e-3)
    np.testing.assert_allclose(found.sum(), right.sum(), rtol=1e-5)
    energy = of_histogram(VECTOR, signed, norm=norm).energy
    np.testing.assert_allclose(energy, (VECTOR**2).sum(), rtol=1e-5)


RANGED = Kind(signed=False, ranged=True)


def test_histograms_of_places_in_a_range_equal_numpys():
    vector = VECTOR + np.repeat([5, 0, -3, 1], 250)
    edges, right = statistics.edges(RANGED), 0
    for start in range(0, 1000, 64):
        bucket = vector[start : start + 64]
        u = (bucket - bucket.min()) / np.ptp(bucket)
        right = (
            right + np.ptp(bucket) ** 2 * np.histogram(u[(u > 0) & (u < 1)], edges)[0]
        )
    found = histogram(jnp.float32(vector), RANGED, bucket_size=64, norm="range")
    np.testing.assert_allclose(
        np.cumsum(found.masses), np.cumsum(right), rtol=3e-3, atol=1e-3 * right.sum()
    )
    np.testing.assert_allclose(found.masses.sum(), right.sum(), rtol=1e-5)
    np.testing.assert_allclose(found.energy, (vector**2).sum(), rtol=1e-5)


def test_bins_of_a_range_are_those_between_its_edges_and_turn_with_the_vector():
    edges = statistics.edges(RANGED)
    np.testing.assert_allclose(edges + edges[::-1], 1, atol=1e-15)
    u = np.random.default_rng(1).uniform(size=10_000) ** 3
    expected = np.searchsorted(edges, u, side="right") - 1
    np.testing.assert_array_equal(statistics.bin_of(u, RANGED, np), expected)


def test_constant_buckets_have_energy_and_no_weight():
    vector = np.where(np.arange(1000) < 128, 7.0, VECTOR)
    of_range = {"bucket_size": 64, "norm": "range"}
    found = histogram(jnp.float32(vector), RANGED, **of_range)
    rest = histogram(jnp.float32(vector[128:]), RANGED, **of_range)
    np.testing.assert_allclose(found.masses, rest.masses, rtol=1e-6)
    np.testing.assert_allclose(found.energy - rest.energy, 128 * 49, rtol=1e-5)
    normal = normals(jnp.float32(vector), **of_range)
    np.testing.assert_allclose(normal.energy, found.energy)
    assert histogram(jnp.zeros(0), RANGED, **of_range).masses.sum() == 0


def test_normals_keep_the_sums_of_buckets():
    found = of_normals(VECTOR)
    w = np.array([np.sum(b**2) * b.size for b in buckets()])
    u = [b / np.linalg.norm(b) for b in buckets()]
    mean, var = np.array([x.mean() for x in u]), np.array([x.var() for x in u])
    sums = w, w * mean, w * var, w * mean**2, VECTOR**2
    for field, right in zip(found, sums, strict=True):
        np.testing.assert_allclose(field.sum(), right.sum(), rtol=1e-5)


def test_parts_in_any_order_are_the_whole():
    whole = of_histogram(VECTOR), of_normals(VECTOR)
    place = np.arange(1000) // 256
    parts = [np.where(place == i, VECTOR, 0) for i in (2, 0, 3, 1)]
    for method, right in zip((of_histogram, of_normals), whole, strict=True):
        merged = jax.tree.map(lambda *x: sum(x), *map(method, parts))
        for a, b in zip(merged, right, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_buckets_that_do_not_count_add_nothing(bad):
    lost = np.concatenate([np.full(64, bad), np.zeros(936)])
    kept = np.where(np.arange(1000) < 128, 0, VECTOR)
    for method in (of_histogram, of_normals):
        for a, b in zip(method(lost + kept), method(kept), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        for field in method(lost):
            assert (np.asarray(field) == 0).all()


def test_zeros_count_where_no_level_is_zero():
    vector = np.where(np.arange(1000) % 4, VECTOR, 0)
    with_zero, without = of_histogram(vector), of_histogram(vector, mirrored=True)
    more = np.asarray(without.masses - with_zero.masses)
    blocks = [vector[i : i + 64] for i in range(0, 1000, 64)]
    right = sum((b**2).sum() * (b == 0).sum() for b in blocks)
    np.testing.assert_allclose(more[0], right, rtol=1e-5)
    np.testing.assert_allclose(more[1:], 0)


def test_zeros_and_largest_count_where_nothing_is_a_level():
    vector = np.where(np.arange(1000) % 4, VECTOR, 0)
    dithers = histogram(
        jnp.float32(vector), Kind(False, ends=True), bucket_size=64, norm=np.inf
    )
    blocks = [vector[i : i + 64] for i in range(0, 1000, 64)]
    right = sum(np.abs(b).max() ** 2 * b.size for b in blocks)
    np.testing.assert_allclose(dithers.masses.sum(), right, rtol=1e-5)
    zeros = sum(np.abs(b).max() ** 2 * (b == 0).sum() for b in blocks)
    assert dithers.masses[0] >= zeros * (1 - 1e-5)


def test_sums_of_many_terms_do_not_stagnate():
    size = 10**7  # 0.3^2 added one by one in float32 stops at 2^17 or so
    found = of_histogram(np.full(size, 0.3, np.float32), bucket_size=64)
    n = np.float32(np.linalg.norm(np.full(64, 0.3)))
    np.testing.assert_allclose(found.masses.sum(), size * n**2, rtol=3e-5)
    np.testing.assert_allclose(found.energy, size * 0.09, rtol=3e-5)


def test_the_normal_of_a_group_has_its_variance():
    law = of_normals(VECTOR, bucket_size=None).law(Kind(signed=True))
    u = VECTOR / np.linalg.norm(VECTOR)
    i = np.argmax(law.masses)
    np.testing.assert_allclose(law.deviations[i], u.std(), rtol=1e-5)
    np.testing.assert_allclose(law.means[i], u.mean(), rtol=1e-3)
