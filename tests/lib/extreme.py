"""Vectors on which a codec can go wrong: every kind of trouble, and mixtures."""

import jax.numpy as jnp
import numpy as np

from tests.lib import reference


def grid_of(family, bits, levels):
    """Levels up to a factor, in few significant bits, in order."""
    if family == "min_max":
        return np.arange(2**bits, dtype=float)
    if family == "uniform":
        top = max(2 ** (bits - 1) - 1, 1)
        return np.arange(-top, top + 1, 2 if bits == 1 else 1, dtype=float)
    return reference.table_of(family, levels)


def _on_grid(rng, shape, grid):
    """Values of the grid, both ends among the first three of every four."""
    values = rng.choice(grid, shape)
    values[0::4], values[2::4] = grid[-1], grid[0]
    return values


def vectors(rng, count, size, dtype, grid):
    """(count, size) vectors of a dtype, row i of kind i modulo the number of kinds.

    Args:
        rng: NumPy generator.
        count: rows.
        size: coordinates.
        dtype: NumPy dtype.
        grid: from `grid_of`.

    Returns:
        Array of the dtype; the names of the kinds, one for every row.
    """
    info = jnp.finfo(dtype)
    tiny, top, eps = float(info.tiny), float(info.max), float(info.eps)
    shape = size
    lowest, highest = np.log10(tiny), np.log10(top)

    def spread(low=lowest + 1, high=highest - 1):
        return 10.0 ** rng.uniform(low, high)

    def power():
        return 2.0 ** rng.integers(*np.int64([0.8 * np.log2(tiny), 0.8 * np.log2(top)]))

    def normal():
        return rng.normal(size=shape)

    def sparse(x):
        return np.where(rng.uniform(size=shape) < 0.1, x, 0)

    def with_bad(x):
        x[rng.integers(size)] = rng.choice([np.nan, np.inf, -np.inf])
        return x

    def middles():
        x = _on_grid(rng, shape, grid)
        between = rng.integers(len(grid) - 1, size=size // 2)
        x[1::2] = (grid[between] + grid[between + 1]) / 2
        return x * power()

    kinds = {
        "normal": lambda: normal() * spread(),
        "normal near 1": lambda: normal() * spread(-2, 2),
        "whole numbers": lambda: np.round(2 * normal()) * power(),
        "zeros": lambda: np.zeros(shape),
        "zeros in part": lambda: np.where(np.arange(size) % 32 < 16, 0, normal()),
        "constant": lambda: np.full(shape, rng.choice([-1, 1]) * spread()),
        "few not zero": lambda: sparse(normal() * spread()),
        "one not zero": lambda: np.where(np.arange(size) % 16 == 5, -spread(), 0),
        "on levels": lambda: _on_grid(rng, shape, grid) * power(),
        "between levels": middles,
        "beside levels": lambda: (
            _on_grid(rng, shape, grid)
            * power()
            * (1 + eps * rng.integers(-1, 2, size=shape))
        ),
        "alternating": lambda: np.where(np.arange(size) % 2, -1, 1) * spread(),
        "all magnitudes": lambda: (
            np.sign(normal()) * 10 ** rng.uniform(lowest, highest, shape)
        ),
        "far from zero": lambda: (1000 + normal()) * power(),
        "largest": lambda: (
            np.minimum(1 + eps - rng.choice([1, 2, 9, 2**6], shape) * eps, 1)
            * rng.choice([-1, 1, 0.5], shape)
            * top
        ),
        "around 2^-64": lambda: normal() * 2.0 ** rng.integers(-66, -58),
        "around 2^60": lambda: (
            normal() * 2.0 ** min(rng.integers(58, 66), np.log2(top) - 3)
        ),
        "smallest": lambda: normal() * tiny * 2.0 ** rng.integers(3, 9),
        "subnormal": lambda: normal() * tiny / 4,
        "not finite": lambda: with_bad(normal() * spread()),
    }
    names = [list(kinds)[row % len(kinds)] for row in range(count)]
    rows = np.stack([kinds[name]() for name in names])
    finite = np.isfinite(rows)
    rows[finite] = np.clip(rows[finite], -top, top)
    return rows.astype(dtype), names
