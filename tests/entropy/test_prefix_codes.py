"""Prefix codes: known words, Kraft's inequality, and the best mean length."""

import itertools

import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.entropy import prefix_codes

pytestmark = pytest.mark.quick
entropy = qgenx.entropy


def strings(code):
    pairs = zip(code.words, code.lengths, strict=True)
    return [format(int(w), "b").zfill(int(n)) if n else "" for w, n in pairs]


def test_known_words():
    assert strings(entropy.elias_gamma(5))[1:] == ["1", "010", "011", "00100", "00101"]
    omega = strings(entropy.elias_omega(16))
    assert omega[1:5] == ["0", "100", "110", "101000"]
    assert (omega[8], omega[16]) == ("1110000", "10100100000")
    code = prefix_codes.canonical(np.array([2, 1, 3, 3]))
    assert strings(code) == ["10", "0", "110", "111"]


@pytest.mark.parametrize("make", [entropy.elias_gamma, entropy.elias_omega])
def test_no_word_begins_another(make):
    words = sorted(strings(make(1025))[1:])
    assert not any(b.startswith(a) for a, b in itertools.pairwise(words))


def test_huffman_is_within_one_bit_of_the_entropy():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = int(rng.integers(1, 200))
        counts = rng.geometric(10.0 ** -rng.integers(0, 5), size) - 1
        counts[0] += 1
        lengths = entropy.huffman_lengths(counts)
        used = counts > 0
        p = counts / counts.sum()
        mean, h = np.sum(p * lengths), qgenx.bounds.entropy(p)
        assert h - 1e-9 <= mean < h + 1
        if used.sum() > 1:
            assert np.sum(2.0 ** -lengths[used]) == 1
        assert not lengths[~used].any()
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(sum(fibonacci[-2:]))
    assert entropy.huffman_lengths(fibonacci).max() == 39


def test_is_refused():
    for counts in ([0.5], [-1], [[1]]):
        with pytest.raises(ValueError, match=r"^counts must be one row of whole"):
            entropy.huffman_lengths(counts)
    for make in (entropy.elias_gamma, entropy.elias_omega):
        with pytest.raises(ValueError, match=r"^largest must be a whole number"):
            make(0)
