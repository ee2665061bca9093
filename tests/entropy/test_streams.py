"""Streams: exact inverses, lengths, and damage that is always found."""

import contextlib
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.checks.fuzz_streams import METHODS, round_trip

quick = pytest.mark.quick
pytestmark = pytest.mark.plainly
entropy = qgenx.entropy


@quick
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_round_trips(seed):
    for case in range(100):
        round_trip(100 * seed + case)


@quick
@pytest.mark.parametrize("by", METHODS)
@pytest.mark.parametrize("zero", [None, 3])
def test_every_change_of_one_bit_and_every_cut_is_found(by, zero):
    codes = np.clip(np.round(np.random.default_rng(0).normal(size=60) + 3), 0, 6)
    stream = entropy.encode(codes.astype(int), by, zero=zero)
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(
            ValueError, match=r"^stream must .*: it is damaged, cut off"
        ):
            entropy.decode(damaged)
    for length in range(len(stream)):
        with pytest.raises(
            ValueError, match=r"^stream must .*: it is damaged, cut off"
        ):
            entropy.decode(stream[:length])


@quick
def test_streams_made_by_hand_end_or_are_refused():
    """With a right checksum, and any byte another one."""
    codes = np.random.default_rng(0).integers(0, 5, 50)
    for by in METHODS:
        stream = entropy.encode(codes, by, zero=2)[:-4]
        rng = np.random.default_rng(1)
        for place in range(4, len(stream)):
            changed = bytearray(stream)
            changed[place] = rng.integers(256)
            changed += zlib.crc32(changed).to_bytes(4, "little")
            with contextlib.suppress(ValueError):
                entropy.decode(bytes(changed))


@quick
def test_lengths_are_sums_of_lengths_and_between_their_bounds():
    codes = np.random.default_rng(0).binomial(14, 0.5, 5000)
    counts = np.bincount(codes)
    p = counts / codes.size
    bits = entropy.body_bits(codes)
    assert bits == np.sum(counts * entropy.huffman_lengths(counts))
    assert qgenx.bounds.entropy(p) <= bits / codes.size < qgenx.bounds.entropy(p) + 1
    gamma = entropy.body_bits(codes, "elias_gamma")
    assert gamma == sum(2 * int(c + 1).bit_length() - 1 for c in codes)
    # chunks, a header of 17 bytes and 15 lengths, and the checksum, are all the rest
    rest = 2 * 5 + 4 + 1 + 2 + 1 + 8 + 2 + counts.size + 4
    assert len(entropy.encode(codes)) == -(-bits // 8) + rest


@quick
def test_runs_by_hand():
    """0 0 5 0 | 3 runs: gamma(3) gamma(2) sign, and a run of one zero at the end."""
    codes = np.array([3, 3, 5, 3])
    assert entropy.body_bits(codes, "elias_gamma", zero=3) == 3 + 3 + 1 + 3


@quick
def test_codes_of_a_payload():
    v = np.random.default_rng(0).normal(size=2500).astype(np.float32)
    quantizer = qgenx.uniform(4)
    for codes, _ in quantizer.records(quantizer.encode(0, jnp.asarray(v))):
        stream = entropy.encode(codes, zero=7)
        np.testing.assert_array_equal(entropy.decode(stream), codes)


@pytest.mark.parametrize("by", METHODS)
def test_codes_of_levels_without_zero_and_signed_ones(by):
    """Zero has no code, 0 is one, and 8 bits have all 256."""
    v = np.random.default_rng(0).normal(size=1500).astype(np.float32)
    v[-1] = 9  # so that the last code is sent
    for quantizer in (
        qgenx.user_levels([1.0], zero=False),
        qgenx.user_levels([0.1, 0.3, 0.5, 1.0], zero=False, bucket_size=100),
        qgenx.user_levels((np.arange(128) + 1) / 128, zero=False),
        qgenx.user_levels([-1.0, -0.1, 0.3, 1.0]),
        qgenx.user_levels(np.linspace(-1, 1, 256)),
    ):
        for codes, _ in quantizer.records(quantizer.encode(0, jnp.asarray(v))):
            stream = entropy.encode(codes, by)
            np.testing.assert_array_equal(entropy.decode(stream), codes)
        assert int(codes.max()) == 2**quantizer.bits - 1


ROWS = {
    "by": (lambda: entropy.encode([1], "zip"), "by must be one of 'huffman'"),
    "zero": (lambda: entropy.encode([1], zero=256), "zero must be a whole number"),
    "floats": (lambda: entropy.encode([0.5]), "codes must be an array of whole"),
    "256": (lambda: entropy.encode([256]), "codes must be an array of whole"),
    "negative": (lambda: entropy.encode([-1]), "codes must be an array of whole"),
    "text": (lambda: entropy.encode("ab"), "codes must be an array of whole"),
    "no bytes": (lambda: entropy.decode([1]), "stream must be bytes, got list"),
    "others": (lambda: entropy.decode(b"abcdefgh"), "stream must begin as encode"),
    "nothing": (lambda: entropy.decode(b""), "stream must begin as encode"),
}


@quick
@pytest.mark.parametrize("name", ROWS)
def test_is_refused(name):
    make, message = ROWS[name]
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
