"""Round trips of thousands of vectors: payloads and values equal the reference's.

Every family at every width, compiled; norms and dtypes take turns, so that
each family meets each of them. `test_rounding.py` has family, width and norm in full,
over all rounding values. Every other program is compiled without most optimizations,
which must not change a bit (and takes a third of the time).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.lib import extreme, reference
from tests.lib.codec_cells import BUCKET, CELLS, FEWER, WIDTHS, Cell, levels_of
from tests.lib.helpers import PLAIN, within_5_sigma

DRAWS = 4080


def of_cell(test):
    """Tests of a cell run one after the other, so that a worker compiles it once."""
    return pytest.mark.parametrize("cell", CELLS, ids=str, scope="module")(test)


@functools.cache
def round_trip(quantizer, optimized):
    """Keys and vectors, one for each case, to payloads and decoded vectors."""

    def run(key, vector, levels):
        payload = quantizer.encode(key, vector, levels)
        assert payload.nbytes == quantizer.n_bytes(vector.size, vector.dtype)
        decoded = quantizer.decode(payload, levels)
        assert (decoded.shape, decoded.dtype) == (vector.shape, vector.dtype)
        return payload.data, decoded

    options = {} if optimized else PLAIN
    return jax.jit(jax.vmap(run, in_axes=(0, 0, None)), compiler_options=options)


def run(cell, seed, vectors, levels=None):
    """Payloads, decoded vectors and the 16 random bits of each coordinate."""
    count, size = vectors.shape
    with cell.x64():
        keys = jax.random.split(jax.random.key(seed), count)
        traced = None if levels is None else jnp.asarray(levels, jnp.float32)
        program = round_trip(cell.quantizer, cell.optimized)
        data, decoded = program(keys, jnp.asarray(vectors), traced)
        words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
        r16 = []
        for start, before, rows, half in reference.words_of(
            size, cell.bits, cell.bucket_size
        ):
            drawn = reference.hash_words(words, range(before, before + rows * half))
            length = min(cell.bucket_size or size, size - start)
            drawn = reference.halves(drawn.reshape(count, rows, half), length)
            r16.append(drawn.reshape(count, -1))
        r16 = np.concatenate(r16, axis=1)
    return np.asarray(data), np.asarray(decoded), r16


def check(cell, vectors, kinds, data, decoded, r16, levels):
    """Equality with the reference, and what holds for every round trip."""
    wide = np.asarray(vectors, cell.wide).astype(np.float64)
    tiny = float(np.finfo(cell.wide).tiny)
    meta_size = 2 if cell.family in reference.RANGES else 1
    arguments = (cell.size, cell.bits, cell.bucket_size, meta_size, cell.wide)
    for start, codes, meta in reference.records(data, *arguments):
        at = slice(start, start + codes.shape[1])
        values = reference.values_of(
            cell.family, cell.bits, codes, meta, levels, cell.wide
        )
        with np.errstate(over="ignore"):  # float16: a level above its largest number
            same = values.astype(cell.wide).astype(vectors.dtype).astype(np.float64)
        # a fused minimum + code * unit does not flush the product
        slack = 2 * tiny if cell.family in reference.RANGES else 0
        slack = np.where(np.abs(same) < 2.0**20 * tiny, slack, 0)
        got = decoded[:, at].astype(np.float64)
        with np.errstate(invalid="ignore"):
            off = ~((got == same) | (np.abs(got - same) <= slack))
        off &= ~(np.isnan(same) & np.isnan(got))
        for case in off.any(axis=1).nonzero()[0]:
            raise AssertionError(
                f"{cell}, case {case} ({kinds[case]}), bucket at {start}: decoded\n"
                f"{decoded[case, at]}\nand not\n{same[case]}"
            )
        for case in range(len(vectors)):
            where = f"{cell}, case {case} ({kinds[case]}), bucket at {start}"
            if not np.isfinite(wide[case, at]).all():
                assert np.isnan(meta[case, -1]), f"{where}: not marked as NaN"
                assert np.isnan(values[case]).all(), f"{where}: hidden"
                continue
            x = reference.prepare(wide[case, at], cell.wide)
            if cell.norm == math.inf:
                expected = reference.meta_of(cell.family, cell.bits, x, cell.wide)
                np.testing.assert_array_equal(meta[case], expected, f"{where}: scale")
            elif np.abs(x).max() > 4 * tiny:
                reference.check_scale(
                    cell.family,
                    cell.bits,
                    cell.norm,
                    x,
                    meta[case, 0],
                    cell.wide,
                    where,
                )
            if meta[case, -1] == 0:  # zero, constant for a range, or next to zero
                assert np.ptp(x) <= 8 * tiny, f"{where}: a scale of 0 for {x}"
                continue
            around = reference.neighbours(
                cell.family, cell.bits, x, meta[case], levels, cell.wide
            )
            expected = reference.codes_of(cell.family, x, r16[case, at], around)
            np.testing.assert_array_equal(codes[case], expected, f"{where}: codes")
            check_properties(cell, x, values[case], around, where)


def check_properties(cell, x, values, around, where):
    """At most one gap away, fixed where x is a level, of x's sign where zero is one."""
    _, _, low, high = around
    tiny, eps = float(np.finfo(cell.wide).tiny), float(np.finfo(cell.wide).eps)
    # quartered: a gap may be more than the largest number
    gap = ((high - low) / 2 ** (reference.UNIT + 2)).astype(float)
    off = np.abs(values / 4 - x / 4)
    allowed = gap * (1 + 2.0**-14) + eps * np.abs(x) / 4 + tiny
    assert np.all(off <= allowed), f"{where}: 4 * {off.max()} is more than a gap"
    if cell.family in ("uniform", "exponential", "levels") and cell.bits > 1:
        assert np.all(np.sign(x) * np.sign(values) >= 0), f"{where}: a sign changed"
    exact = reference.exact(x)
    is_normal = np.abs(x) >= 4 * tiny
    if cell.family not in reference.RANGES:
        is_normal |= x == 0  # where zero is a level
    on = ((exact == low) | (exact == high)) & is_normal
    np.testing.assert_array_equal(values[on], x[on], f"{where}: a level moved")


@of_cell
def test_payloads_and_values_equal_the_reference(cell):
    levels = np.asarray(cell.levels)
    rng = np.random.default_rng([cell.bits, WIDTHS.index((cell.family, cell.bits))])
    grid = extreme.grid_of(cell.family, cell.bits, levels)
    vectors, kinds = extreme.vectors(
        rng, cell.cases, cell.size, jnp.dtype(cell.dtype), grid
    )
    given = levels if cell.takes_levels else None
    check(cell, vectors, kinds, *run(cell, cell.bits, vectors, given), levels)
    if cell.takes_levels and (
        cell.bits % 2 or cell.family not in FEWER
    ):  # others in their place, not rounded beforehand
        other = np.float32(levels_of(cell.family, cell.bits, 1))
        other *= np.float32(1 + 2.0**-14)
        other = np.clip(other, -1, 1)
        assert other[-1] == 1
        results = run(cell, cell.bits, vectors, other)
        check(cell, vectors, kinds, *results, reference.truncated(other))


@of_cell
def test_means_and_variances_over_the_source(cell):
    """5 sigma of 4,080 draws, by the program of the test before."""
    rng = np.random.default_rng(6)
    vector = rng.normal(size=cell.size).astype(jnp.dtype(cell.dtype))
    levels = np.asarray(cell.levels)
    given = levels if cell.takes_levels else None
    vectors = np.broadcast_to(vector, (cell.cases, cell.size))
    draws = range(DRAWS // cell.cases)
    samples = [run(cell, 100 + i, vectors, given)[0] for i in draws]
    meta_size = 2 if cell.family in reference.RANGES else 1
    arguments = (cell.size, cell.bits, BUCKET, meta_size)
    for start, codes, meta in reference.records(
        np.concatenate(samples), *arguments, cell.wide
    ):
        x = vector[start : start + codes.shape[1]].astype(np.float64)
        _, _, low, high = reference.neighbours(
            cell.family, cell.bits, x, meta[0], levels, cell.wide
        )
        low, high = ((a / 2**reference.UNIT).astype(float) for a in (low, high))
        table = reference.level_table(cell.family, cell.bits, meta[0], levels)
        values = (np.array(table, object) / 2**reference.UNIT).astype(float)[codes]
        variance = (high - x) * (x - low)
        often = DRAWS * variance > 25 * (high - low) ** 2
        mean = values.mean(axis=0)[often]
        error = np.sqrt(variance / DRAWS)[often]
        within_5_sigma(mean, x[often], error, f"{cell}: mean")
        deviation = np.sqrt(variance) * np.abs(high + low - 2 * x)
        error = (deviation / np.sqrt(DRAWS) + 1e-5 * variance)[often]
        spread = ((values - x) ** 2).mean(axis=0)[often]
        within_5_sigma(spread, variance[often], error, f"{cell}: variance")


@pytest.mark.parametrize(
    ("family", "bits", "bucket_size", "size"),
    [
        *(("uniform", 3, 8, size) for size in (1, 7, 9, 15, 16, 17)),
        ("uniform", 4, 1, 3),
        pytest.param("min_max", 5, None, 8, marks=pytest.mark.quick),
        ("min_max", 2, 3, 7),
        ("levels", 6, None, 9),
        ("levels_without_zero", 3, 8, 15),
        ("signed_levels", 5, 3, 7),
        ("range_levels", 4, 3, 7),
    ],
)
def test_sizes_around_multiples_of_bucket_and_group(family, bits, bucket_size, size):
    shape = {"size": size, "bucket_size": bucket_size, "optimized": False}
    cell = Cell(family, bits, math.inf, "float32", **shape)
    levels = np.asarray(cell.levels)
    grid = extreme.grid_of(family, bits, levels)
    rng = np.random.default_rng(size)
    vectors, kinds = extreme.vectors(rng, 40, size, np.dtype("float32"), grid)
    check(cell, vectors, kinds, *run(cell, size, vectors), levels)
