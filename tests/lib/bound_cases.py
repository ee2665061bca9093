"""Vectors that are hard to quantize, and quantizers of every family, width and norm."""

import math

import numpy as np

import qgenx_jax as qgenx
from tests.lib.codec_cells import BASES, NORMS, levels_of, user_levels

WITHOUT = ("levels_without_zero", "signed_levels")
RANGES = ("min_max", "range_levels")


def quantizers(bucket_size=None, norms=NORMS):
    """(name, quantizer) of every family at every width with every norm it takes.

    Of the families in WITHOUT norms take turns.
    """
    for bits in range(1, 9):
        for turn, family in enumerate(WITHOUT):
            q = norms[(bits + turn) % len(norms)]
            levels = levels_of(family, bits)
            by = {"norm": q, "bucket_size": bucket_size, "zero": False}
            yield f"{family}-{bits}-{q}", qgenx.user_levels(levels, **by)
        for q in norms:
            by = {"norm": q, "bucket_size": bucket_size}
            yield f"uniform-{bits}-{q}", qgenx.uniform(bits, **by)
            if bits > 1:
                base = BASES[bits]
                exponential = qgenx.exponential(bits, base=base, **by)
                yield f"exponential-{bits}-{q}", exponential
                yield f"levels-{bits}-{q}", qgenx.user_levels(user_levels(bits), **by)
        yield f"min_max-{bits}", qgenx.min_max(bits, bucket_size=bucket_size)
    for bits in range(1, 9):
        by = {"norm": "range", "bucket_size": bucket_size}
        over_range = qgenx.user_levels(levels_of("range_levels", bits), **by)
        yield f"range_levels-{bits}", over_range


def over_norm(quantizer):
    """0, l_1, ..., 1 from the definition; None for 1 bit and over a range.

    Of a family without zero 0 and the magnitudes of levels, for `hard_vectors`.
    """
    if quantizer.family in RANGES:
        return None
    if quantizer.levels:
        return np.array([0, *sorted(map(abs, quantizer.levels))])
    if quantizer.bits == 1:
        return None
    steps = 2 ** (quantizer.bits - 1) - 1
    return np.arange(steps + 1) / steps


def table_of(quantizer):
    """All levels over norm or range, from the definition."""
    if quantizer.family == "signed_levels":
        return np.array(quantizer.levels)
    if quantizer.family == "min_max":
        return np.linspace(0, 1, 2**quantizer.bits)
    if quantizer.family == "range_levels":
        return np.array([0, *quantizer.levels])
    positive = over_norm(quantizer)
    if positive is None:
        return np.array([-1.0, 1.0])
    zero = [] if quantizer.family == "levels_without_zero" else [0]
    return np.concatenate([-positive[:0:-1], zero, positive[1:]])


def hard_vectors(size, levels, q, seed, count=40):
    """(count, size) float32: laws of many tails, and vectors on which bounds are near.

    Among the latter: equal coordinates; the rest at any place below the first level
    beside one, or beside some, where a gap is worst; halves of all gaps.
    """
    rng = np.random.default_rng(seed)
    levels = np.array([0.0, 1.0]) if levels is None else levels
    rows = [
        rng.normal(size=size),
        rng.standard_t(1.5, size=size),
        rng.laplace(size=size) ** 3,
        rng.uniform(-1, 1, size),
        np.where(rng.uniform(size=size) < 0.05, rng.normal(size=size), 0),
        1000 + rng.normal(size=size),
        np.ones(size),
        np.where(np.arange(size) % 2, 1.0, -1.0),
        np.eye(1, size, size // 2)[0],
        np.concatenate([[1.0, -1.0], np.zeros(max(size - 2, 0))])[:size],
        np.zeros(size),
    ]
    while len(rows) < count:
        j = rng.integers(1, len(levels))
        low, high = levels[j - 1], levels[j]
        worst = 2 * low * high / (low + high) if low else high / 2
        few = rng.integers(0, min(size, 12))
        u = np.full(size, levels[1] * rng.uniform() ** rng.integers(1, 5))
        u[:few] = rng.choice([worst, (low + high) / 2, low, 1.0], few)
        u[0] = 1.0 if q == math.inf else u[0]
        rows.append(u * rng.choice([-1, 1], size) * 10.0 ** rng.integers(-6, 7))
    return np.stack(rows).astype(np.float32)
