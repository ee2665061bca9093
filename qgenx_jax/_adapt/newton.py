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
from jax import lax

from qgenx_jax._adapt.distributions import Law
from qgenx_jax._adapt.tables import Kind, Parts, parts
from qgenx_jax._types import Array

STEPS = 12
"""From quantiles six are enough in float64, from equal steps twelve."""

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

    def step(_: int, state: tuple[Array, Parts]) -> tuple[Array, Parts]:
        table, now = state
        gaps = jnp.diff(table)
        limit = jnp.where(free, LONGEST * jnp.minimum(gaps[:-1], gaps[1:]), 0)
        bend, around = curvature(law, table, now, kind), now.mass[:-1] + now.mass[1:]
        bends = jnp.stack([bend, jnp.maximum(bend, around)])
        exact, tame = jax.vmap(lambda x: direction(now, x))(bends)
        moves = (jnp.clip(x, -limit, limit) for x in (exact, tame, tame / 4))
        inner = table[1:-1]
        tried = [table, *(table.at[1:-1].set(inner + move) for move in moves)]
        tables = jnp.stack([*tried, spread(table, now, kind)])
        found = jax.vmap(lambda x: parts(law, x, kind))(tables)
        costs = jnp.sum(found.cost, axis=1)
        usable = jnp.isfinite(costs) & jnp.all(jnp.diff(tables) > 0, axis=1)
        best = jnp.argmin(jnp.where(usable, costs, jnp.inf))
        return tables[best], jax.tree.map(lambda x: x[best], found)

    return lax.fori_loop(0, STEPS, step, (whole, parts(law, whole, kind)))[0]


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
    places = jnp.arange(whole.shape[0], dtype=whole.dtype)
    if kind.mirrored:
        shares = shares.at[0].set(jnp.cbrt(1.5 * now.cost[0]))
        places = jnp.maximum(places - 0.5, 0)
    widths = jnp.diff(whole)
    shares += 0.01 * widths * jnp.sum(shares) / (whole[-1] - whole[0])
    sums = jnp.pad(jnp.cumsum(shares), (1, 0))
    fixed = jnp.asarray([0, *([] if kind.zero is None else [kind.zero]), -1])
    wanted = jnp.interp(places, places[fixed], sums[fixed])
    inner = jnp.interp(wanted, sums, whole)[1:-1]
    return kind.with_zero(whole.at[1:-1].set(inner))
