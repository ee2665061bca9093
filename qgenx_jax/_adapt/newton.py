"""Newton's method on all levels at once, which finishes what descents begin.

The variance's Hessian is tridiagonal, so that a step costs hardly more than a gradient:

    d2V/dl_j^2 = (l_{j+1} - l_{j-1}) f(l_j),    d2V/dl_j dl_{j+1} = - int dF

with the integral from l_j to l_{j+1}, and of mirrored tables in l_1

    d2V/dl_1^2 = (l_2 + l_1) f(l_1) + 2 F(l_1).

Levels that are many and far from their places get there by steps of another sort: where
they are many the best ones make all intervals cost the same (`spread`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._adapt.distributions import Law
from qgenx_jax._adapt.tables import Kind, Parts, parts
from qgenx_jax._types import Array

STEPS = 12
"""From quantiles ten are enough for 128 levels to their last bits in float64."""

LONGEST = 0.45
"""Of the distance to the nearer neighbour, how far a level moves."""


def finish(law: Law, whole: Array, kind: Kind) -> Array:
    """The best of four steps, or none where none is better, STEPS times over.

    They are Newton's; that with a Hessian made positive definite, by at least the mass
    of both intervals around a level on its diagonal; a quarter of the latter; `spread`.

    Args:
        law: of coordinates or magnitudes.
        whole: where to start, (n,), strictly increasing.
        kind: what tables may look like.

    Returns:
        A whole table, (n,), that costs no more.
    """
    count = whole.shape[0]
    if count < 3:  # only ends
        return whole
    free = kind.free(count)

    def step(_: int, tables: Array) -> Array:
        found = jax.vmap(lambda x: parts(law, x, kind))(tables)
        costs = jnp.sum(found.cost, axis=1)
        usable = jnp.isfinite(costs) & jnp.all(jnp.diff(tables) > 0, axis=1)
        best = jnp.argmin(jnp.where(usable, costs, jnp.inf))
        table, now = tables[best], jax.tree.map(lambda x: x[best], found)
        gaps = jnp.diff(table)
        limit = jnp.where(free, LONGEST * jnp.minimum(gaps[:-1], gaps[1:]), 0)
        bend, around = curvature(law, table, now, kind), now.mass[:-1] + now.mass[1:]
        bends = jnp.stack([bend, jnp.maximum(bend, around)])
        exact, tame = jax.vmap(lambda x: direction(now, x))(bends)
        moves = jnp.stack([jnp.zeros_like(tame), exact, tame, tame / 4])
        inner = table[None, 1:-1] + jnp.clip(moves, -limit[None], limit[None])
        ends = jnp.broadcast_to(table, (4, count))
        tried = ends.at[:, 1:-1].set(inner)
        return jnp.concatenate([tried, spread(table, now, kind)[None]])

    # the last one only chooses: the first row is what it chose
    return lax.fori_loop(0, STEPS + 1, step, jnp.stack([whole] * 5))[0]


def curvature(law: Law, whole: Array, now: Parts, kind: Kind) -> Array:
    """The Hessian's diagonal in the inner levels, (n - 2,)."""
    density = law.density(whole[1:-1])
    bend = (whole[2:] - whole[:-2]) * density
    if kind.mirrored:
        more = whole[1] * density[0] + 2 * now.mass[0]
        bend = bend.at[0].add(more)
    return bend


def direction(now: Parts, bend: Array) -> Array:
    """Where a Hessian with this diagonal leads to, (n - 2,); 0 where it leads nowhere.

    A diagonal of 0 is of a level without mass around it, which stays.
    """
    slope = now.to_lower[:-1] - now.to_upper[1:]
    beside = jnp.pad(-now.mass[1:-1], (1, 1))
    bend = jnp.where(bend > 0, bend, 1)
    move = lax.linalg.tridiagonal_solve(beside[:-1], bend, beside[1:], -slope[:, None])[
        :, 0
    ]
    return jnp.where(jnp.isfinite(move), move, 0)


def spread(whole: Array, now: Parts, kind: Kind) -> Array:
    """Levels among which the cube root of the density is shared out evenly, (n,).

    An interval of width h has a cost of f h^3 / 6, so h f^{1/3} = (6 cost)^{1/3}; the
    first one of mirrored tables 2 f h^3 / 3, and half a share. A level that is 0 stays
    so. A hundredth of equal widths keeps levels apart where there is nothing.
    """
    shares = jnp.cbrt(6 * now.cost)
    places = np.arange(whole.shape[0], dtype=np.float64)
    if kind.mirrored:
        shares = shares.at[0].set(jnp.cbrt(1.5 * now.cost[0]))
        places = np.maximum(places - 0.5, 0)
    widths = jnp.diff(whole)
    shares += 0.01 * widths * jnp.sum(shares) / (whole[-1] - whole[0])
    middle = 0 if kind.zero is None else kind.zero
    below = np.minimum(places / max(places[middle], 1), 1) if middle else 0 * places
    above = np.clip((places - places[middle]) / (places[-1] - places[middle]), 0, 1)
    wanted = jnp.asarray(below, whole.dtype) * jnp.sum(shares[:middle])
    wanted += jnp.asarray(above, whole.dtype) * jnp.sum(shares[middle:])
    table = whole[0] + along(shares, widths, wanted)
    return kind.with_zero(whole.at[1:-1].set(table[1:-1]))


def along(shares: Array, widths: Array, wanted: Array) -> Array:
    """How far along intervals one is when their shares add up to what is wanted, (n,).

    Args:
        shares: (intervals,), positive; evenly spread in each.
        widths: (intervals,), of the intervals.
        wanted: (n,), from 0 to the sum of shares.
    """
    # sums by comparison: of so few numbers they compile faster than scans
    earlier = np.tri(shares.size, k=-1, dtype=bool)
    sums = jnp.sum(jnp.where(earlier, shares[None, :], 0), axis=1)
    reached = (wanted[:, None] - sums[None, :]) / jnp.where(shares > 0, shares, 1)[None]
    return jnp.sum(jnp.clip(reached, 0, 1) * widths[None, :], axis=1)
