"""Unbiasedness and exact variance, for every family, width, norm and dtype.

Enumerated, over all 2^16 rounding values: every family and width with every norm it
takes, for arithmetic in float32 (vectors of float32, bfloat16 and float16, which are
cast first); in float64 every family and width, the norms taking turns, as they do for
levels without zero and signed ones, which measure as others with a table.

Sampled means and variances, through `encode`, whose random bits cannot be enumerated,
are in `test_records.py`, whose compiled programs they share.
"""

import contextlib
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._codec.quantizer import coder_of
from tests.lib import extreme, reference
from tests.lib.codec_cells import CELLS, FEWER, NORMS, TAKE_LEVELS, Cell, levels_of

plainly = pytest.mark.plainly
SIZE = 32


@functools.partial(jax.jit, static_argnums=0)
def enumerate_codes(quantizer, bucket, levels):
    """Lowest and highest code and the sum of codes over all r, and the scale."""
    r16 = jnp.arange(2**16, dtype=jnp.int32)[:, None]
    rounding = coder_of(quantizer, bucket.dtype, levels).rounding
    grid, meta = rounding.measure(bucket[None])
    codes = rounding.round(bucket[None], grid, r16)
    total = jnp.sum(codes.astype(jnp.int32), axis=0, dtype=jnp.int32)
    return codes.min(axis=0), codes.max(axis=0), total, meta[0]


def buckets_of(cell, levels):
    """Buckets in float64, of values that the cell's dtypes have."""
    rng = np.random.default_rng(cell.bits)
    grid = extreme.grid_of(cell.family, cell.bits, levels)
    buckets = []
    for dtype, kinds in (
        ("float64", ["normal", "between levels", "all magnitudes"]),
        ("float32", ["normal", "between levels", "largest"]),
        ("bfloat16", ["normal"]),
        ("float16", ["normal"]),
    ):
        if (dtype == "float64") == (cell.wide == "float64"):
            vectors, names = extreme.vectors(rng, 20, SIZE, jnp.dtype(dtype), grid)
            for kind in kinds:
                bucket = np.asarray(vectors[names.index(kind)], cell.wide)
                buckets.append((f"{kind} {dtype}", bucket))
    return buckets


@pytest.mark.parametrize("wide", ["float32", pytest.param("float64", marks=plainly)])
@pytest.mark.parametrize(
    ("family", "bits"),
    [
        pytest.param(family, bits, marks=pytest.mark.quick if bits == 3 else [])
        for family in ("uniform", "min_max", *TAKE_LEVELS)
        for bits in range(1 + (family == "levels"), 9)
    ],
)
def test_enumeration_of_all_rounding_values(family, bits, wide):
    """The mean over r is off by 2^-17 of the gap at most, and the variance thereby.

    Two codes at most are met, neighbours. Of the allowed bias 2^-17 is the rounding of
    a place to 16 bits, and 2^-6 of that the float arithmetic of the place. Families
    over a range add the rounding of v - min in the dtype, and saturate where the range
    is that of the dtype. User levels and those
    of `exponential` run through one program, as an argument.
    """
    eps = float(np.finfo(wide).eps)
    tables = [()]
    if family in TAKE_LEVELS:
        tables = [levels_of(family, bits)]
    if family == "levels":
        tables.append(reference.exponential_levels(bits, 0.5))
    norms = [math.inf] if family in reference.RANGES else NORMS
    turns = wide == "float64" or family in FEWER
    for norm in [norms[bits % len(norms)]] if turns else norms:
        cell = Cell(family, bits, norm, wide, SIZE)
        for levels in tables:
            for kind, bucket in buckets_of(cell, levels)[
                : 2 if levels in tables[1:] else 9
            ]:
                x64 = wide == "float64"
                with jax.enable_x64(True) if x64 else contextlib.nullcontext():
                    table = jnp.asarray(levels, jnp.float32) if levels else None
                    found = enumerate_codes(cell.quantizer, jnp.asarray(bucket), table)
                least, most, total, meta = (np.asarray(a, np.float64) for a in found)
                where = f"{cell}, {kind}, table {tables.index(levels)}"
                x = reference.prepare(bucket, wide)
                if norm == math.inf:
                    expected = reference.meta_of(family, bits, x, wide)
                    np.testing.assert_array_equal(meta, expected, f"{where}: scale")
                else:
                    reference.check_scale(family, bits, norm, x, meta[0], wide, where)
                around = reference.neighbours(family, bits, x, meta, levels, wide)
                below, v, low, high = around
                up = total / 2**16 - below  # how often the upper level was taken
                assert np.all((least >= below) & (most <= below + 1)), f"{where}: codes"
                allowed = 2.0**-17 * (1 + 2.0**-6) + eps
                if family in reference.RANGES:
                    all_levels = reference.level_table(family, bits, meta, levels)
                    v = np.minimum(reference.exact(x), all_levels[-1])
                    # v - min is off by half an epsilon of itself
                    gaps = 2**60 * (high - all_levels[0]) // (high - low)
                    allowed = allowed + eps * gaps.astype(float) / 2**60
                place = ((v - low) * 2**60 // (high - low)).astype(float) / 2**60
                bias = np.abs(up - place)
                assert np.all(bias <= allowed), (
                    f"{where}: bias of {bias} of a gap, over {allowed}"
                )
                # E (Q - v)^2 from the counts, against (high - v)(v - low), in gaps
                variance = up * (1 - place) ** 2 + (1 - up) * place**2
                off = np.abs(variance - place * (1 - place))
                assert np.all(off <= allowed), f"{where}: variance off by {off} gaps^2"


@pytest.mark.quick
def test_every_family_meets_every_norm_and_dtype():
    for family in ("uniform", "exponential", "min_max", *TAKE_LEVELS):
        cells = [cell for cell in CELLS if cell.family == family]
        norms = {math.inf} if family in reference.RANGES else set(NORMS)
        assert {cell.norm for cell in cells} == norms
        assert len({cell.dtype for cell in cells}) == 4, family
