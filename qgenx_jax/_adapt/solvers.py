"""Tables of least expected variance under a law, in jit, by fixed numbers of steps.

No method is global: single starts end up to 42 % above the optimum, the best of
several within 0.5 %. `refit` keeps the best, and the table in use where none is better.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._adapt.distributions import Histogram, Law
from qgenx_jax._codec.levels import LEAST_LEVEL, SIGNIFICANT_BITS
from qgenx_jax._types import Array


class Kind(NamedTuple):
    """What tables may look like, known when a solver is traced."""

    signed: bool
    """From -1 to 1, else from 0 to 1."""
    zero: int | None = None
    """Which level of a signed table is 0 and stays so; None for none."""

    def free(self, count: int) -> Array:
        """Which inner levels of a table of this many may move, (count - 2,)."""
        return jnp.arange(1, count - 1) != (0 if self.zero is None else self.zero)

    def with_zero(self, table: Array) -> Array:
        """A table whose level number `zero` is 0."""
        return table if self.zero is None else table.at[self.zero].set(0)


SWEEPS = 60
"""Coordinate descents over all levels, or steps of gradient descent over four."""

MARGIN = 2.0**-12
"""Of the distance between its neighbours, how near to one a level may be moved."""


def variance(law: Law, table: Array) -> Array:
    """sum_j int_{l_j}^{l_{j+1}} (l_{j+1} - u)(u - l_j) dF(u)."""
    return jnp.sum(law.moments(table[:-1], table[1:])[2])


def derivative(law: Law, table: Array) -> Array:
    """Of the variance, in the inner levels.

    int_{l_{j-1}}^{l_j} (u - l_{j-1}) dF - int_{l_j}^{l_{j+1}} (l_{j+1} - u) dF
    """
    mass, first, _ = law.moments(table[:-1], table[1:])
    to_upper = jnp.diff(table) * mass - first
    return first[:-1] - to_upper[1:]


def best_between(law: Law, lower: Array, upper: Array, now: Array) -> Array:
    """The best levels between fixed neighbours a and c, (n,) each.

    F^{-1}( F(c) - int_a^c (u - a)/(c - a) dF ); what it is now where there is no mass.
    """
    mass, first, _ = law.moments(lower, upper)
    width = upper - lower
    target = mass - first / jnp.where(width > 0, width, 1)
    new = law.quantile(lower, upper, target)
    new = jnp.clip(new, lower + MARGIN * width, upper - MARGIN * width)
    return jnp.where(mass > 0, new, now)


def coordinate_descent(law: Law, table: Array, kind: Kind) -> Array:
    """Every second level at once, then the others, between those as they are.

    Args:
        law: of coordinates or magnitudes.
        table: where to start, (n,).
        kind: which says what inner levels may move.
    """
    free = kind.free(table.shape[0])

    def sweep(_: int, table: Array) -> Array:
        for first in (1, 2):
            here = slice(first, -1, 2)
            lower, now, upper = (
                table[first - 1 : -2 : 2],
                table[here],
                table[first + 1 :: 2],
            )
            if now.size:
                new = best_between(law, lower, upper, now)
                new = jnp.where(free[first - 1 :: 2], new, now)
                table = table.at[here].set(new)
        return table

    return lax.fori_loop(0, SWEEPS, sweep, table)


def gradient_descent(law: Law, table: Array, kind: Kind) -> Array:
    """Steps along the derivative over the mass around a level, which it changes with.

    No step is longer than 0.45 of the distance to the nearer neighbour, so levels keep
    their order; one that would raise the variance is halved.
    """
    free = kind.free(table.shape[0])

    def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        table, least, rate = state
        mass = law.moments(table[:-1], table[1:])[0]
        around = mass[:-1] + mass[1:]
        move = -rate * derivative(law, table) / jnp.where(around > 0, around, 1)
        gaps = jnp.diff(table)
        limit = 0.45 * jnp.minimum(gaps[:-1], gaps[1:])
        move = jnp.where(free & (around > 0), jnp.clip(move, -limit, limit), 0)
        new = table.at[1:-1].add(move)
        value = variance(law, new)
        lower = value < least
        return (
            jnp.where(lower, new, table),
            jnp.where(lower, value, least),
            jnp.where(lower, jnp.minimum(rate * 1.5, 2), rate / 2),
        )

    start = table, variance(law, table), jnp.ones_like(table[0])
    return lax.fori_loop(0, 4 * SWEEPS, step, start)[0]


RATES = 32
"""Ratios that are tried at once."""

ROUNDS = 5
"""Of trying, each between the neighbours of the best so far."""


def multiplier(law: Law, table: Array, kind: Kind) -> Array:
    """AMQ: the best geometric table, searched for by its least level.

    Where it starts does not matter to it.
    """
    count, dtype = table.shape[0], table.dtype

    def value(log_least: Array) -> Array:
        return variance(law, _geometric(log_least, count, kind))

    low, high = (jnp.asarray(math.log(x), dtype) for x in (2.0**-20, 0.999))
    best = low
    for _ in range(ROUNDS):
        tried = low + (high - low) * jnp.linspace(0, 1, RATES, dtype=dtype)
        best = tried[jnp.argmin(lax.map(value, tried))]
        reach = (high - low) / (RATES - 1)
        low, high = jnp.maximum(best - reach, low), jnp.minimum(best + reach, high)
    return _geometric(best, count, kind)


METHODS: dict[str, Callable[[Law, Array, Kind], Array]] = {
    "coordinate": coordinate_descent,
    "gradient": gradient_descent,
    "amq": multiplier,
}


def _geometric(log_least: Array, count: int, kind: Kind) -> Array:
    """The geometric table with this log of its least positive level."""
    above = count // 2 if kind.signed else count - 1
    places = jnp.arange(above, dtype=log_least.dtype)[::-1] / max(above - 1, 1)
    levels = jnp.exp(log_least * places)
    below = -levels[::-1] if kind.signed else jnp.zeros(1, levels.dtype)
    return kind.with_zero(jnp.concatenate([below, levels]))


def starts(law: Law, table: Array, kind: Kind) -> Array:
    """Uniform, exponential and quantile starts, and the table in use: (4, n).

    The quantiles are those of the cube root of the density, in proportion to which
    many levels lie best.
    """
    count, dtype = table.shape[0], table.dtype
    low = -1.0 if kind.signed else 0.0
    equal = jnp.linspace(low, 1, count, dtype=dtype)
    octaves = min((count // 2 if kind.signed else count - 1) - 1, 10)
    least = jnp.asarray(-math.log(2) * octaves, dtype)
    places = np.sinh(np.linspace(low, 1, 1025) * 9) / math.sinh(9)
    edges = jnp.asarray(places, dtype).at[0].set(low).at[-1].set(1)
    widths = jnp.diff(edges)
    masses = law.moments(edges[:-1], edges[1:])[0]
    parts = jnp.cbrt(jnp.maximum(masses, 0) / widths) * widths
    total = jnp.sum(parts)
    # a hundredth of uniform law: levels stay apart where there is nothing
    shares = parts / jnp.where(total > 0, total, 1) + 0.01 * widths / (1 - low)
    wanted = jnp.arange(1, count - 1, dtype=dtype) / (count - 1) * jnp.sum(shares)
    ends = jnp.full_like(wanted, low), jnp.ones_like(wanted)
    inner = Histogram(edges, shares / widths).quantile(*ends, wanted)
    made = equal, _geometric(least, count, kind), equal.at[1:-1].set(inner)
    return jnp.stack([*map(kind.with_zero, made), table])


def on_grid(table: Array) -> Array:
    """A float32 table to SIGNIFICANT_BITS bits, strictly increasing, its ends kept.

    Magnitudes of that many bits, from LEAST_LEVEL up, are numbered in their order;
    levels with the same number move to the next that are free.
    """
    drop = 24 - SIGNIFICANT_BITS
    first = int(np.float32(LEAST_LEVEL).view(np.int32)) >> drop

    def number(x: Array) -> Array:
        bits = lax.bitcast_convert_type(jnp.abs(x).astype(jnp.float32), jnp.int32)
        code = jnp.maximum(((bits + (1 << (drop - 1))) >> drop) - first + 1, 0)
        return jnp.where(x < 0, -code, code)

    place = jnp.arange(table.shape[0], dtype=jnp.int32)
    numbers = lax.cummax(number(table) - place)
    top = number(table[-1]) - place[-1]
    numbers = lax.cummin(jnp.minimum(numbers, top), reverse=True) + place
    bits = (jnp.abs(numbers) + first - 1) << drop
    values = lax.bitcast_convert_type(bits.astype(jnp.int32), jnp.float32)
    values = jnp.where(numbers == 0, 0, jnp.sign(numbers) * values)
    return values.astype(table.dtype)


def valid(table: Array) -> Array:
    """Whether a table increases strictly; no NaN does."""
    return jnp.all(jnp.diff(table) > 0)


def solve(law: Law, table: Array, method: str, kind: Kind) -> Array:
    """What a method makes of each start, (4, n)."""
    run = METHODS[method]
    if method == "amq":
        return run(law, table, kind)[None]
    return jax.vmap(lambda start: run(law, start, kind))(starts(law, table, kind))


def refit(law: Law, table: Array, *, method: str, kind: Kind) -> Array:
    """The best table found, or the one in use where none is better.

    Nothing is better than it where the law has no mass, or is not finite: the table in
    use stays. What is returned otherwise is on the codec's grid (`on_grid`).

    Args:
        law: of coordinates if the kind is signed, of magnitudes if not.
        table: in use, (n,), with both ends.
        method: of METHODS.
        kind: what tables may look like.

    Returns:
        The table, (n,), strictly increasing if the one in use is.
    """
    found = jax.vmap(on_grid)(solve(law, table, method, kind))
    values = jax.vmap(lambda x: variance(law, x))(found)
    usable = jax.vmap(valid)(found) & jnp.isfinite(values)
    values = jnp.where(usable, values, jnp.inf)
    best = jnp.argmin(values)
    better = values[best] < variance(law, table)
    return jnp.where(better, found[best], table)
