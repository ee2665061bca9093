"""Quantizers of every family at every width; norms and dtypes take turns."""

import contextlib
import math
from typing import NamedTuple

import jax
import numpy as np

import qgenx_jax as qgenx
from tests.lib import reference

BUCKET = 16
NORMS = [1, 2, math.inf]
DTYPES = ["float32", "bfloat16", "float64", "float16"]
FEWER = ("levels_without_zero", "signed_levels", "range_levels")
TAKE_LEVELS = ("levels", *FEWER)
BASES = {2: 0.5, 3: 1 / 3, 4: 0.6, 5: 0.8, 6: 0.5, 7: 0.9, 8: 0.5}


class Cell(NamedTuple):
    family: str
    bits: int
    norm: float
    dtype: str
    size: int
    bucket_size: int | None = BUCKET
    optimized: bool = True
    cases: int = 240

    def __str__(self):
        norm = "inf" if self.norm == math.inf else self.norm
        return f"{self.family}-{self.bits}-norm_{norm}-{self.dtype}"

    @property
    def wide(self):
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def quantizer(self):
        rest = {"bucket_size": self.bucket_size}
        if self.family == "min_max":
            return qgenx.min_max(self.bits, **rest)
        is_range = self.family == "range_levels"
        rest["norm"] = "range" if is_range else self.norm
        if self.family == "uniform":
            return qgenx.uniform(self.bits, **rest)
        if self.family == "exponential":
            return qgenx.exponential(self.bits, base=BASES[self.bits], **rest)
        zero = self.family == "levels"
        found = qgenx.user_levels(self.levels, zero=zero, **rest)
        assert (found.family, found.bits) == (self.family, self.bits)
        return found

    @property
    def levels(self):
        if self.family == "exponential":
            return reference.exponential_levels(self.bits, BASES[self.bits])
        return levels_of(self.family, self.bits) if self.takes_levels else ()

    @property
    def takes_levels(self):
        return self.family in TAKE_LEVELS

    def x64(self):
        wide = self.dtype == "float64"
        return jax.enable_x64(True) if wide else contextlib.nullcontext()


def user_levels(bits, seed=0):
    """Levels without any pattern, in 12 significant bits."""
    return levels_of("levels", bits, seed)


def levels_of(family, bits, seed=0):
    """The same, as many as there can be; of signed ones every other table has a 0."""
    rng = np.random.default_rng([bits, seed])
    if family == "signed_levels":
        within = [x for x in range(-4095, 4096) if x]
        zero = [0] if bits > 1 and (bits + seed) % 2 else []
        inner = rng.choice(within, 2**bits - 2 - len(zero), replace=False)
        return [-1.0, *(float(x) / 4096 for x in np.sort([*inner, *zero])), 1.0]
    count = 2 ** (bits - 1) - (family == "levels")
    if family == "range_levels":
        count = 2**bits - 1
    inner = np.sort(rng.choice(np.arange(9, 4096), count - 1, replace=False)) / 4096
    return [float(x) for x in reference.truncated([*inner, 1.0])]


WIDTHS = (
    [("uniform", bits) for bits in range(1, 9)]
    + [("exponential", bits) for bits in range(2, 9)]
    + [("levels", bits) for bits in range(2, 9)]
    + [("min_max", bits) for bits in range(1, 9)]
    + [("levels_without_zero", bits) for bits in range(1, 9)]
    + [("signed_levels", bits) for bits in range(1, 9)]
    + [("range_levels", bits) for bits in range(1, 9)]
)
CELLS = [
    Cell(
        family,
        bits,
        math.inf if family in reference.RANGES else NORMS[i % 3],
        DTYPES[i % 4],
        2 * BUCKET + (5 if i % 5 in (0, 2) else 0),
        optimized=i % 2 == 0 and i % 5 != 2 and (family not in FEWER or bits == 4),
        # the same code runs for the other families with tables
        cases=40 if family in FEWER else 240,
    )
    for i, (family, bits) in enumerate(WIDTHS)
]
