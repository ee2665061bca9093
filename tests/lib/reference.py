"""The codec once more, in plain NumPy and Python: slow, obvious, independent.

Real numbers are Python's whole numbers in units of 2^-1200, which hold every float64
exactly; nothing here imports the library. Buckets are rows of float64 arrays whose
values are those of the dtype that travels, `wide`: float32 or float64.

Three things are float arithmetic and not real: numbers below the dtype's smallest
normal one are zeros (XLA flushes them on CPUs), families over a range subtract the
minimum in the dtype, and the sums in norms 1 and 2, which may be taken in any order.
For these two, `check_scale` says what a scale may be, and the codes follow from the one
sent.
"""

import math
from fractions import Fraction

import numpy as np

UNIT = 1200
MIRRORED = ("exponential", "levels", "levels_without_zero")
"""Families that round magnitudes to a table of levels, and then give them a sign."""

TABLES = (*MIRRORED, "signed_levels", "range_levels")
"""Families with a table of levels."""

RANGES = ("min_max", "range_levels")
"""Families that send a minimum and a range in place of a norm."""


def exact(x):
    """Finite floats as whole numbers of 2^-UNIT."""
    fraction, exponent = np.frexp(np.asarray(x, np.float64))
    whole = np.ldexp(fraction, 53).astype(np.int64).astype(object)
    return whole << np.maximum(exponent.astype(int) - 53 + UNIT, 0).astype(object)


def rounded(above, below):
    """above / below to the nearest whole number, ties to the even one."""
    quotient, twice = above // below, 2 * (above % below)
    tie = (twice == below) & (quotient % 2 == 1)
    return quotient + ((twice > below) | tie).astype(object)


def flush(x, wide, below=1.0):
    """x with zeros for numbers under the smallest normal one, times `below`."""
    return np.where(np.abs(x) < float(np.finfo(wide).tiny) * below, 0.0, x)


def steps_of(bits):
    """s + 1, the levels above zero."""
    return 2 ** (bits - 1) - 1


def significant_bits(family, bits, wide):
    """How many bits of a scale may be set."""
    drop = bits if family == "min_max" else 0 if bits <= 2 else bits - 1
    if family in TABLES:
        return 12
    return int(np.finfo(wide).nmant) + 1 - drop


def ratio_of(family, bits):
    """What a bucket spans above zero (or above its minimum), over its scale."""
    if family == "min_max":
        return Fraction(2**bits - 1) / Fraction(2) ** (bits - 2)
    if family == "range_levels":
        return Fraction(2)
    if family == "uniform" and bits > 1:
        return steps_of(bits) / Fraction(2) ** (bits - 2)
    return Fraction(1)


def place_of(number, significant):
    """The last place of a positive fraction in so many significant bits."""
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    if Fraction(2) ** exponent > number:
        exponent -= 1
    return Fraction(2) ** (exponent + 1 - significant)


def scale_of(family, bits, span, wide):
    """The smallest number of few bits with number * ratio >= span, as a float.

    Where the top level would be infinite it is the largest that keeps it finite.
    """
    if span == 0:
        return 0.0
    ratio = ratio_of(family, bits)
    significant = significant_bits(family, bits, wide)
    least, top = Fraction(span) / ratio, Fraction(float(np.finfo(wide).max)) / ratio
    place, top_place = place_of(least, significant), place_of(top, significant)
    top = top_place * (top // top_place)
    if family in RANGES:
        top *= 2  # from the lowest to the highest finite number
    return float(min(place * math.ceil(least / place), top))


def prepare(bucket, wide):
    """The bucket as the codec sees it: what XLA flushes is zero.

    Buckets with a number above 2^60 are scaled by 2^-64 first, and lose what falls
    below the smallest normal number there, 2^-122 of their norm or less.
    """
    bucket = flush(np.asarray(bucket, np.float64), wide)
    large = np.abs(bucket).max(initial=0) > 2.0**60
    return flush(bucket, wide, 2.0**64 if large else 1.0)


def meta_of(family, bits, bucket, wide):
    """What a finite bucket's coordinates share, for the infinity norm."""
    if family not in RANGES:
        scale = scale_of(family, bits, float(np.abs(bucket).max()), wide)
        return flush(np.array([scale]), wide)
    quarter = (bucket.max() / 4 - bucket.min() / 4).astype(wide)  # finite
    scale = scale_of(family, bits, 4 * Fraction(float(quarter)), wide)
    return flush(np.array([bucket.min(), scale]), wide)


def check_scale(family, bits, norm, bucket, scale, wide, where):
    """Asserts that a scale is what norm 1 or 2 may give.

    A float sum of n terms is wrong by n half-units in the last place at most; division,
    root and products add 4. Above the norm is at most one place of a scale.
    """
    largest, ratio = np.abs(bucket).max(), ratio_of(family, bits)
    exact_norm = Fraction(float(np.linalg.norm(bucket / largest, norm)))
    top = scale_of(family, bits, float(np.finfo(wide).max), wide)
    exact_norm = min(exact_norm * Fraction(float(largest)), Fraction(top) * ratio)
    sent = Fraction(float(scale)) * ratio
    slack = (bucket.size + 4) * float(np.finfo(wide).eps) / 2
    significant = significant_bits(family, bits, wide)
    over = float(sent / exact_norm - 1)
    assert over >= -slack, f"{where}: norm sent too small, by {-over}"
    assert over <= slack + 2.0 ** (1 - significant), f"{where}: too large, by {over}"
    if scale:
        place = place_of(Fraction(float(scale)), significant)
        assert (Fraction(float(scale)) / place).denominator == 1, f"{where}: bits"


def level_table(family, bits, meta, levels):
    """All levels of a bucket, in order, in units of 2^-UNIT."""
    (scale,) = exact(meta[-1:])
    if family == "min_max":
        unit = scale * 4 >> bits
        return [int(exact(meta[:1])[0]) + unit * j for j in range(2**bits)]
    if family == "range_levels":
        low, parts = int(exact(meta[:1])[0]), exact(levels)
        return [low, *(low + (2 * scale * int(level) >> UNIT) for level in parts)]
    if family == "uniform" and bits == 1:
        return [-scale, scale]
    if family == "uniform":
        positive = [(scale * 4 >> bits) * j for j in range(1, steps_of(bits) + 1)]
    else:
        positive = [scale * int(level) >> UNIT for level in exact(levels)]
    if family == "signed_levels":
        return positive  # and negative
    zero = [] if family == "levels_without_zero" else [0]
    return [-x for x in reversed(positive)] + zero + positive


def neighbours(family, bits, bucket, meta, levels, wide):
    """Exactly, for each coordinate: the index of the level below, the coordinate as
    the codec sees it, and the levels below and above it. Of a magnitude that is a
    level, the interval is the one that lies farther from zero.
    """
    table = np.array(level_table(family, bits, meta, levels), object)
    v = exact(bucket)
    if family in RANGES:
        low = np.float64(meta[0])
        v = exact((bucket / 2 - low / 2).astype(wide)) * 2 + table[0]
    v = np.clip(v, table[0], table[-1])

    def lower(v):  # of equal levels the last one
        return np.clip(np.searchsorted(table, v, "right") - 1, 0, len(table) - 2)

    below = lower(v)
    if family in MIRRORED:
        below = np.where(v < 0, len(table) - 2 - lower(-v), below)
    return below, v, table[below], table[below + 1]


def codes_of(family, bucket, r16, around):
    """Unsigned codes: the upper level if place + r >= 1, in units of 2^-16.

    `around` is from `neighbours`, for a scale that is not zero.
    """
    below, v, low, high = around
    r16 = np.asarray(r16).astype(object)
    up = (rounded((v - low) << 16, high - low) + r16) >> 16
    if family in MIRRORED:
        mirrored = 1 - ((rounded((high - v) << 16, high - low) + r16) >> 16)
        up = np.where(np.asarray(bucket) < 0, mirrored, up)
    return (below + up).astype(int)


def exponential_levels(bits, base):
    """base^(s + 1 - j), not below 2^-50, to 12 significant bits."""
    levels = []
    for power in reversed(range(steps_of(bits))):
        level = max(Fraction(base) ** power, Fraction(1, 2**50))
        place = place_of(level, 12)
        levels.append(float(place * round(level / place)))
    return levels


def truncated(levels):
    """Levels to 12 significant bits, toward zero."""
    fraction, exponent = np.frexp(np.asarray(levels, np.float64))
    return np.ldexp(np.trunc(fraction * 2**12), exponent - 12)


def values_of(family, bits, codes, meta, levels, wide):
    """What codes stand for, in `wide` as float64; codes (..., n), meta (..., m)."""
    if family in RANGES:
        low, scale = meta[..., :1], meta[..., 1:]
        if family == "min_max":
            above = codes * 2.0 ** (1 - bits)
        else:
            above = np.concatenate([table_of(family, levels), np.zeros(256)])[codes]
        part = flush(above * scale, wide)
        half = flush((flush(low / 2, wide) + part).astype(wide).astype(float), wide)
        largest = float(np.finfo(wide).max)
        with np.errstate(over="ignore"):
            return np.clip(2 * half, -largest, largest)
    if family == "uniform" and bits == 1:
        return (2.0 * codes - 1) * meta
    if family == "uniform":
        return flush((codes - steps_of(bits)) * 2.0 ** (2 - bits) * meta, wide)
    table = np.concatenate([table_of(family, levels), np.zeros(256)])  # any byte
    return flush(table[codes] * meta, wide)


def table_of(family, levels):
    """All levels over norm or range, in order, of a family with a table."""
    levels = np.asarray(levels, np.float64)
    if family == "range_levels":
        return np.concatenate([[0], levels])
    if family == "signed_levels":
        return levels
    zero = [] if family == "levels_without_zero" else [0]
    return np.concatenate([-levels[::-1], zero, levels])


def parts_of(bits):
    """A code in parts of 8, 4, 2, 1 bits: (lowest bit, width) of each."""
    widths = [width for width in (8, 4, 2, 1) if bits & width]
    return [(sum(widths[:i]), width) for i, width in enumerate(widths)]


def pack(codes, bits):
    """Planar packing of the last axis, part after part, by way of whole numbers."""
    codes = np.asarray(codes)
    *rows, size = codes.shape
    together = math.lcm(8, bits) // bits
    padded = np.zeros((*rows, -(-size // together) * together), int)
    padded[..., :size] = codes
    parts = []
    for low, width in parts_of(bits):
        part = (padded >> low) % 2**width
        runs = np.split(part, 8 // width, axis=-1)
        parts.append(sum(run << (width * i) for i, run in enumerate(runs)))
    return np.concatenate(parts, axis=-1).astype(np.uint8)


def unpack(packed, size, bits):
    """Codes from packed bytes, likewise."""
    codes, start = 0, 0
    for low, width in parts_of(bits):
        end = start + packed.shape[-1] * width // bits
        part = packed[..., start:end].astype(int)
        runs = [(part >> (width * i)) % 2**width for i in range(8 // width)]
        codes += np.concatenate(runs, axis=-1) << low
        start = end
    return codes[..., :size]


def records(data, size, bits, bucket_size, meta, wide):
    """Opens payloads (cases, bytes): start, codes (cases, n), meta (cases, m) each."""
    at = 0
    for start in range(0, size, bucket_size or max(size, 1)):
        length = min(bucket_size or size, size - start)
        middle = at + pack(np.zeros(length, int), bits).size
        end = middle + meta * np.dtype(wide).itemsize
        packed = np.ascontiguousarray(data[:, at:middle])
        shared = np.ascontiguousarray(data[:, middle:end]).view(wide)
        codes = unpack(packed, length, bits)
        np.testing.assert_array_equal(pack(codes, bits), packed, "padding is zero")
        yield start, codes, shared.astype(np.float64)
        at = end
    assert at == data.shape[1], f"{data.shape[1]} bytes, {at} expected"


def words_of(size, bits, bucket_size):
    """Where the random bits of coordinates are: for full buckets and the short one,
    (start, words before, rows, words of a row).

    A row has half as many words as coordinates, of whole runs as they are packed.
    """
    runs = max(2, math.lcm(8, bits) // bits)
    length = min(bucket_size or size, size)
    full, rest = divmod(size, length)
    before = 0
    for start, rows, n in [(0, full, length), (full * length, 1, rest)]:
        half = -(-n // runs) * runs // 2
        if n:
            yield start, before, rows, half
        before += rows * half


def halves(words, length):
    """Rounding bits (..., rows, length) of rows of words: upper halves, then lower."""
    words = np.asarray(words, np.uint64)
    return np.concatenate([words >> 16, words % 2**16], axis=-1)[..., :length].astype(
        int
    )


def hash_words(words, positions):
    """The counter-based source: 32 bits for each position, from words (..., 2)."""
    first, second = np.moveaxis(np.asarray(words, np.uint64), -1, 0)[..., None]
    low = np.uint64(2**32 - 1)
    x = (np.asarray(positions, np.uint64) + first) & low
    x = ((x ^ (x >> 17)) * 0xED5AD4BB) & low
    x = (x + second) & low
    x = ((x ^ (x >> 11)) * 0xAC4C1B51) & low
    x = ((x ^ (x >> 15)) * 0x31848BAB) & low
    return x ^ (x >> 14)
