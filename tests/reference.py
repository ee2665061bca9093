"""The codec once more, in plain NumPy and Python: slow, obvious, independent.

Real arithmetic is float64 or exact fractions; nothing here imports the library.
"""

import math
from fractions import Fraction

import numpy as np


def step_size_of_bucket(bucket, bits, q):
    """U as a float: the smallest multiple of 2^e at least n / (s + 1).

    2^e is the last place of a significand of 25 - bits bits (24 for 2 bits).
    """
    steps = 2 ** (bits - 1) - 1
    norm = Fraction(float(norm_of_bucket(bucket, q)))
    if norm == 0:
        return 0.0
    exact = norm / steps
    significant = 24 if bits == 2 else 25 - bits
    exponent = math.floor(math.log2(float(exact)))
    while Fraction(2) ** exponent > exact:
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= exact:
        exponent += 1
    place = Fraction(2) ** (exponent - significant + 1)
    return float(place * math.ceil(exact / place))


def norm_of_bucket(bucket, q):
    """||v||_q as a float32 (for q = infinity without any rounding)."""
    wide = np.abs(np.asarray(bucket, np.float64))
    if wide.size == 0:
        return 0.0
    return np.float32(wide.max() if q == math.inf else np.linalg.norm(wide, q))


def round_bucket(bucket, r16, bits, step):
    """Signed codes: c + floor((f + r) / 2^16), c nearest to v/U, f the rest."""
    codes = []
    for v, r in zip(np.asarray(bucket, np.float64), r16, strict=True):
        if step == 0:
            codes.append(0)
            continue
        nearest = round(Fraction(float(v)) / Fraction(step))
        rest = round(
            (Fraction(float(v)) - nearest * Fraction(step)) * 2**16 / Fraction(step)
        )
        codes.append(nearest + (rest + int(r)) // 2**16)
    steps = 2 ** (bits - 1) - 1
    return np.clip(np.array(codes, int), -steps, steps)


def pack(codes, bits):
    """Planar packing of one row of unsigned codes, by way of a string of bits."""
    together = math.lcm(8, bits)
    per_group, n_bytes = together // bits, together // 8
    groups = math.ceil(len(codes) / per_group)
    padded = list(codes) + [0] * (groups * per_group - len(codes))
    out = np.zeros((n_bytes, groups), np.uint8)
    for group in range(groups):
        stream = 0
        for place in range(per_group):
            stream |= int(padded[place * groups + group]) << (bits * place)
        for byte in range(n_bytes):
            out[byte, group] = (stream >> (8 * byte)) & 255
    return out.reshape(-1)


def hash_bits(words, positions):
    """The counter-based source: 16 bits for each position, from two key words."""
    out = []
    for position in positions:
        x = (position + int(words[0])) % 2**32
        x = ((x ^ (x >> 17)) * 0xED5AD4BB) % 2**32
        x = (x + int(words[1])) % 2**32
        x = ((x ^ (x >> 11)) * 0xAC4C1B51) % 2**32
        x = ((x ^ (x >> 15)) * 0x31848BAB) % 2**32
        x ^= x >> 14
        out.append(x >> 16)
    return np.array(out, int)


def encode(vector, words, bits, q, bucket_size):
    """The records of a whole vector: packed codes, then 2^(bits - 2) U as float32."""
    records = []
    size = bucket_size or max(len(vector), 1)
    for start in range(0, len(vector), size):
        bucket = vector[start : start + size]
        step = step_size_of_bucket(bucket, bits, q)
        r16 = hash_bits(words, range(start, start + len(bucket)))
        codes = round_bucket(bucket, r16, bits, step) + 2 ** (bits - 1) - 1
        scale = np.array([step * 2.0 ** (bits - 2)], np.float32).view(np.uint8)
        records += [pack(codes, bits), scale]
    return np.concatenate([*records, np.zeros(0, np.uint8)])
