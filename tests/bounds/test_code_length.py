"""Entropy, frequencies of levels, and bounds for lengths of codes."""

import heapq
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import qgenx_jax as qgenx
from tests.lib.helpers import within_5_sigma

pytestmark = pytest.mark.usefixtures("compiled_plainly")
bounds = qgenx.bounds
LEVELS = np.array([0.1, 0.25, 0.6, 1.0])


class FoldedNormal:
    """|x| of a normal x of mean 0 and deviation 0.3, given |x| <= 1."""

    law = stats.truncnorm(-1 / 0.3, 1 / 0.3, scale=0.3)

    def cdf(self, x):
        return self.law.cdf(x) - self.law.cdf(-x)

    def first_moment(self, x):
        normal, z = stats.norm.pdf, np.asarray(x) / 0.3
        mass = 2 * stats.norm.cdf(1 / 0.3) - 1
        return 2 * 0.3 * (normal(0) - normal(z)) / mass


def integrals(law, levels):
    """p_j by numerical integration of the definition."""
    table = [0, *levels]

    def part(low, high, weight):
        return integrate.quad(lambda u: weight(u) * 2 * law.pdf(u), low, high)[0]

    found = []
    for j, level in enumerate(table):
        p = 0.0
        if j > 0:
            low = table[j - 1]
            p += part(low, level, lambda u, a=low, b=level: (u - a) / (b - a))
        if j + 1 < len(table):
            high = table[j + 1]
            p += part(level, high, lambda u, a=level, b=high: (b - u) / (b - a))
        found.append(p)
    return found


def test_of_a_distribution_they_are_the_integrals():
    found = bounds.level_probabilities(FoldedNormal(), LEVELS)
    expected = integrals(FoldedNormal.law, LEVELS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-14)


def by_hand(u, weights, levels):
    table, p = np.array([0, *levels]), np.zeros(len(levels) + 1)
    for each, weight in zip(u, weights, strict=True):
        above = 1 + np.sum(table[1:-1] <= each)
        up = (each - table[above - 1]) / (table[above] - table[above - 1])
        p[above] += weight * up
        p[above - 1] += weight * (1 - up)
    return p / np.sum(weights)


def test_of_magnitudes_they_are_means_of_roundings():
    rng = np.random.default_rng(0)
    u = np.concatenate([rng.uniform(size=300) ** 3, LEVELS, [0.0, 0.0]])
    weights = rng.uniform(size=u.size)
    for w in (None, weights):
        expected = by_hand(u, np.ones(u.size) if w is None else w, LEVELS)
        found = bounds.level_probabilities(u, LEVELS, weights=w)
        np.testing.assert_allclose(found, expected, atol=1e-14)
        traced = jax.jit(
            lambda u, w, levels: bounds.level_probabilities(u, levels, weights=w)
        )
        found = traced(jnp.asarray(u), w, jnp.asarray(LEVELS))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    shaped = bounds.level_probabilities(u[:300].reshape(3, 100), list(LEVELS))
    np.testing.assert_allclose(shaped, by_hand(u[:300], np.ones(300), LEVELS))


def test_equal_levels_are_as_good_as_one():
    u = np.random.default_rng(0).uniform(size=99)
    expected = bounds.level_probabilities(u, [0.3, 1.0])
    found = bounds.level_probabilities(u, [0.3, 0.3, 1.0])
    np.testing.assert_allclose(found[[0, 3]], expected[[0, 2]], atol=1e-15)
    np.testing.assert_allclose(found.sum(), 1, atol=1e-15)


def test_levels_are_sent_as_often_by_the_codec():
    v = np.random.default_rng(4).normal(size=400).astype(np.float32)
    quantizer = qgenx.user_levels(LEVELS, bucket_size=400)
    p = bounds.level_probabilities(np.abs(v) / np.abs(v).max(), quantizer.levels)
    codes = bounds.code_probabilities(v, quantizer)
    folded = codes[4:] + np.concatenate([[0.0], codes[3::-1]])
    np.testing.assert_allclose(folded, p, atol=2e-4)  # scales of 12 bits


def test_entropy():
    assert bounds.entropy([1.0]) == bounds.entropy([0.0, 1.0, 0.0]) == 0
    for n in (2, 3, 8, 255):
        assert bounds.entropy(np.full(n, 1 / n)) == pytest.approx(math.log2(n))
    p = np.array([[0.5, 0.25, 0.125, 0.125], [1.0, 0, 0, 0]])
    np.testing.assert_allclose(bounds.entropy(p), [1.75, 0])
    found = jax.jit(bounds.entropy)(jnp.asarray(p))
    np.testing.assert_allclose(found, [1.75, 0], atol=1e-6)
    slope = jax.grad(lambda p: bounds.entropy(p / p.sum()))(jnp.array([0.0, 0.5, 0.5]))
    assert np.isfinite(slope[1:]).all()


def huffman_bits(counts):
    """The cost of a Huffman code: the sum of all merged weights."""
    heap = [int(c) for c in counts if c]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_lengths_of_huffman_codes_lie_between_the_bounds(bits):
    """Of what the codec sends: level indices by Huffman, signs, and scales."""
    v = np.random.default_rng(bits).standard_t(3, size=3000).astype(np.float32)
    quantizer = qgenx.uniform(bits, norm=2, bucket_size=1024)
    steps, lengths, p = 2 ** (bits - 1) - 1, [], []
    for seed in range(3):
        payload = quantizer.encode(seed, jnp.asarray(v))
        opened = quantizer.records(payload)
        codes = np.concatenate([np.asarray(c).reshape(-1) for c, _ in opened])
        index = np.abs(codes.astype(int) - steps)
        counts = np.bincount(index, minlength=steps + 1)
        length = 32 * 3 + np.sum(counts[1:]) + huffman_bits(counts)
        least, most = bounds.code_length_bound(counts / 3000, 3000, buckets=3)
        assert least <= length * (1 + 1e-12)
        assert length < most
        lengths.append(least)
        p.append(counts / 3000)
    # what is expected of it, from the vector alone
    u = np.concatenate(
        [np.abs(b) / np.linalg.norm(b) for b in np.split(v, [1024, 2048])]
    )
    expected = bounds.level_probabilities(u, np.arange(1, steps + 1) / steps)
    error = np.sqrt(expected / 9000) + 1e-4
    within_5_sigma(np.mean(p, axis=0), expected, error, "frequencies")


def test_the_bound_by_hand():
    p = np.array([0.5, 0.25, 0.25])
    assert bounds.code_length_bound(p, 100, buckets=2) == (64 + 50 + 150, 64 + 50 + 250)
    found = bounds.code_length_bound(p, 100, scale_bits=64, signs=False)
    assert found == (64 + 150, 64 + 250)
    traced = jax.jit(lambda p: bounds.code_length_bound(p, 100))(jnp.asarray(p))
    np.testing.assert_allclose(traced, (32 + 200, 32 + 300))


U = np.array([0.5])
P = "probabilities must be numbers of at least 0 that add up to 1 along the last axis"
M = r"magnitudes must be an array of numbers in \[0, 1\], one at least, or a distr"
ROWS = {
    "empty p": (lambda: bounds.entropy([]), P + r", got \[\]: divide counts"),
    "negative p": (lambda: bounds.entropy([1.5, -0.5]), P),
    "p of 2": (lambda: bounds.entropy([1.0, 1.0]), P),
    "NaN p": (lambda: bounds.entropy([np.nan, 1.0]), P),
    "text p": (lambda: bounds.entropy("ab"), P),
    "p of JAX": (lambda: bounds.entropy(jnp.ones(2)), P),
    "one number": (lambda: bounds.entropy(1.0), P),
    "no magnitude": (lambda: bounds.level_probabilities([], [1.0]), M),
    "magnitude of 2": (lambda: bounds.level_probabilities([2.0], [1.0]), M),
    "negative": (lambda: bounds.level_probabilities([-0.5], [1.0]), M),
    "NaN": (lambda: bounds.level_probabilities([np.nan], [1.0]), M),
    "None": (lambda: bounds.level_probabilities("u", [1.0]), M),
    "complex": (lambda: bounds.level_probabilities(np.array([1j]), [1.0]), M),
    "levels": (
        lambda: bounds.level_probabilities(U, [0.5]),
        "levels must be one row of numbers",
    ),
    "weights of another shape": (
        lambda: bounds.level_probabilities(U, [1.0], weights=[1.0, 1.0]),
        r"weights must be numbers of at least 0, not all 0, of the shape \(1,\)",
    ),
    "weights of nothing": (
        lambda: bounds.level_probabilities(U, [1.0], weights=[0.0]),
        "weights must be numbers of at least 0, not all 0",
    ),
    "negative weights": (
        lambda: bounds.level_probabilities([0.5, 0.5], [1.0], weights=[2.0, -1.0]),
        "weights must be numbers of at least 0",
    ),
    "weights of a distribution": (
        lambda: bounds.level_probabilities(FoldedNormal(), [1.0], weights=U),
        "weights must be left out where a distribution is given, got .*: put them",
    ),
    "size": (
        lambda: bounds.code_length_bound([1.0], -1),
        "size must be a whole number of at least 0, got -1",
    ),
    "buckets": (
        lambda: bounds.code_length_bound([1.0], 1, buckets=0.5),
        "buckets must be a whole number",
    ),
    "scale_bits": (
        lambda: bounds.code_length_bound([1.0], 1, scale_bits=None),
        "scale_bits must be a whole number",
    ),
    "signs": (
        lambda: bounds.code_length_bound([1.0], 1, signs=2),
        "signs must be True or False, got 2: choose one",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_is_refused(name):
    make, message = ROWS[name]
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
