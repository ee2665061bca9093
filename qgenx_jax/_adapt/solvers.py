"""Tables of least expected variance under a law, in jit, by fixed numbers of steps.

No method is global: single starts end up to 42 % above the optimum, the best of several
next to it. `refit` keeps the best, and the table in use where none is better.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._adapt.distributions import Law, root
from qgenx_jax._adapt.newton import LONGEST, along, finish
from qgenx_jax._adapt.tables import Kind, on_grid, parts, valid, variance
from qgenx_jax._types import Array

SWEEPS = 4
"""Coordinate descents over all levels, before Newton's method."""

DOWNHILL = 40
"""Steps of gradient descent before it."""

MARGIN = 2.0**-12
"""Of the distance between its neighbours, how near to one a level may be moved."""


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


def best_lowest(law: Law, upper: Array, now: Array) -> Array:
    """The best l_1 of mirrored tables below fixed l_2 = c, (n,) each.

    The root of 2 x F(x) - int_x^c (c - u) dF, whose slope 2 F(x) + (c + x) f(x) is not
    negative; what it is now where there is no mass.
    """
    zero = jnp.zeros_like(upper)

    def growth(x: Array) -> tuple[Array, Array]:
        below = law.moments(zero, x)[0]
        mass, first, _ = law.moments(x, upper)
        value = 2 * x * below - ((upper - x) * mass - first)
        return value, 2 * below + (upper + x) * law.density(x)

    new = jnp.clip(root(growth, zero, upper), MARGIN * upper, (1 - MARGIN) * upper)
    return jnp.where(law.moments(zero, upper)[0] > 0, new, now)


def coordinate_descent(law: Law, table: Array, kind: Kind) -> Array:
    """Every second level at once, then the others, between those as they are; Newton.

    Args:
        law: of coordinates or magnitudes.
        table: where to start, whole, (n,).
        kind: which says what inner levels may move.
    """
    place = jnp.arange(1, table.shape[0] - 1)
    if not place.size:
        return table

    def half_sweep(turn: Array, table: Array) -> Array:
        lower, now, upper = table[:-2], table[1:-1], table[2:]
        new = best_between(law, lower, upper, now)
        if kind.mirrored:
            new = new.at[:1].set(best_lowest(law, upper[:1], now[:1]))
        moved = kind.free(table.shape[0]) & (place % 2 != turn % 2)
        return table.at[1:-1].set(jnp.where(moved, new, now))

    table = lax.fori_loop(0, 2 * SWEEPS, half_sweep, table)
    return finish(law, table, kind)


def gradient_descent(law: Law, table: Array, kind: Kind) -> Array:
    """Steps along the derivative over the mass around a level, which it changes with.

    No step is longer than 0.45 of the distance to the nearer neighbour, so levels keep
    their order; one that would raise the variance is halved. Newton's method then ends
    what would take thousands of steps with many levels.
    """
    free = kind.free(table.shape[0])

    def step(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        table, least, rate = state
        now = parts(law, table, kind)
        around = now.mass[:-1] + now.mass[1:]
        slope = now.to_lower[:-1] - now.to_upper[1:]
        move = -rate * slope / jnp.where(around > 0, around, 1)
        gaps = jnp.diff(table)
        limit = LONGEST * jnp.minimum(gaps[:-1], gaps[1:])
        move = jnp.where(free & (around > 0), jnp.clip(move, -limit, limit), 0)
        new = table.at[1:-1].add(move)
        value = _cost(law, new, kind)
        lower = value < least
        return (
            jnp.where(lower, new, table),
            jnp.where(lower, value, least),
            jnp.where(lower, jnp.minimum(rate * 1.5, 2), rate / 2),
        )

    start = table, _cost(law, table, kind), jnp.ones_like(table[0])
    table = lax.fori_loop(0, DOWNHILL, step, start)[0]
    return finish(law, table, kind)


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
        return _cost(law, _geometric(log_least, count, kind), kind)

    low, high = (jnp.asarray(math.log(x), dtype) for x in (2.0**-20, 0.999))
    best = low
    for _ in range(ROUNDS):
        tried = low + (high - low) * jnp.linspace(0, 1, RATES, dtype=dtype)
        best = tried[jnp.argmin(lax.map(value, tried))]
        reach = (high - low) / (RATES - 1)
        low, high = jnp.maximum(best - reach, low), jnp.minimum(best + reach, high)
    return _geometric(best, count, kind)


METHODS: dict[str, Callable[[Law, Array, Kind], Array]] = {
    "newton": finish,
    "coordinate": coordinate_descent,
    "gradient": gradient_descent,
    "amq": multiplier,
}


def _cost(law: Law, whole: Array, kind: Kind) -> Array:
    """The variance of a whole table."""
    return jnp.sum(parts(law, whole, kind).cost)


def _geometric(log_least: Array, count: int, kind: Kind) -> Array:
    """The whole geometric table with this log of its least positive level."""
    above = count // 2 if kind.signed else count - 1
    places = jnp.arange(above, dtype=log_least.dtype)[::-1] / max(above - 1, 1)
    levels = jnp.exp(log_least * places)
    below = -levels[::-1] if kind.signed else jnp.zeros(1, levels.dtype)
    return kind.with_zero(jnp.concatenate([below, levels]))


SHIFT = 0.3
"""Of quantiles, in steps: how many levels are best on which side of 0, either finds."""


def starts(law: Law, table: Array, kind: Kind) -> Array:
    """Uniform, exponential and quantile starts, and the table in use: (4, n), whole;
    of signed tables without a zero quantiles to both sides too, (6, n).

    The quantiles are those of the cube root of the density, in proportion to which
    many levels lie best. The lowest step of mirrored tables is half a step.
    """
    count, dtype = table.shape[0], table.dtype
    low = -1.0 if kind.signed else 0.0
    skipped = 0.5 if kind.mirrored else 0.0
    shares = (jnp.arange(1, count - 1, dtype=dtype) - skipped) / (count - 1 - skipped)
    ends = jnp.full((1,), low, dtype), jnp.ones(1, dtype)
    equal = jnp.concatenate([ends[0], low + (1 - low) * shares, ends[1]])
    octaves = min((count // 2 if kind.signed else count - 1) - 1, 10)
    least = jnp.asarray(-math.log(2) * octaves, dtype)
    places = np.sinh(np.linspace(low, 1, 257) * 9) / math.sinh(9)
    edges = jnp.asarray(places, dtype).at[0].set(low).at[-1].set(1)
    widths = jnp.diff(edges)
    masses = law.moments(edges[:-1], edges[1:])[0]
    roots = jnp.cbrt(jnp.maximum(masses, 0) / widths) * widths
    total = jnp.sum(roots)
    # a hundredth of uniform law: levels stay apart where there is nothing
    roots = roots / jnp.where(total > 0, total, 1) + 0.01 * widths / (1 - low)
    lopsided = (0.0, SHIFT, -SHIFT) if kind.signed and kind.zero is None else (0.0,)
    moved = [shares + shift / (count - 1) for shift in lopsided]
    inner = [low + along(roots, widths, x * jnp.sum(roots)) for x in moved]
    made = (
        equal,
        _geometric(least, count, kind),
        *(equal.at[1:-1].set(x) for x in inner),
    )
    return jnp.stack([*map(kind.with_zero, made), table])


def solve(law: Law, table: Array, method: str, kind: Kind) -> Array:
    """What a method makes of each of `starts`; "amq" has one, (1, n)."""
    run, whole = METHODS[method], kind.whole(table)
    if method == "amq":
        return kind.levels(run(law, whole, kind)[None])
    found = jax.vmap(lambda start: run(law, start, kind))(starts(law, whole, kind))
    return kind.levels(found)


def refit(law: Law, table: Array, *, method: str, kind: Kind) -> Array:
    """The best table found, or the one in use where none is better.

    Nothing is better than it where the law has no mass, or is not finite: the table in
    use stays. What is returned otherwise is on the codec's grid (`on_grid`).

    Args:
        law: of coordinates if the kind is signed, of magnitudes if not.
        table: in use, (n,), with both ends; a mirrored one with its last.
        method: of METHODS.
        kind: what tables may look like.

    Returns:
        The table, (n,), strictly increasing if the one in use is.
    """
    found = jax.vmap(lambda x: on_grid(x, kind))(solve(law, table, method, kind))
    tables = jnp.concatenate([table[None], found])
    values = jax.vmap(lambda x: variance(law, x, kind))(tables)
    usable = jax.vmap(lambda x: valid(x, kind))(found) & jnp.isfinite(values[1:])
    values = values.at[1:].set(jnp.where(usable, values[1:], jnp.inf))
    # the first of equal ones; of NaN, which argmin takes for less, the table in use
    return tables[jnp.argmin(values)]
