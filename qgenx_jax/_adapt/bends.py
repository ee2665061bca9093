"""The bend of a dither's curve, fitted to the law of normalised magnitudes.

It minimises int g(s(u)) dF(u), g the variance of a coordinate of that place. One number
on an interval: the best of a grid, then of a finer one around it. The minimum is flat:
a bend that is off by half of itself costs a few per cent.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from qgenx_jax._adapt.statistics import Statistics
from qgenx_jax._codec import bend as bends
from qgenx_jax._codec.bend import Curve
from qgenx_jax._codec.levels import truncate
from qgenx_jax._types import Array

LEAST = 2.0**-6
"""Below it the next bend is 0: the two differ by a ten-thousandth of the variance."""
COARSE, FINE = 40, 9
"""Bends of the first grid, each 1.18 times the one before, and of the second one."""


def refitted(bits: int, total: Statistics, levels: Array) -> tuple[Array, Array]:
    """The best bend found, or the one in use; and the relative error expected of it.

    Args:
        bits: of the quantizer.
        total: all workers' histogram of magnitudes, with both ends.
        levels: in use, (1,), as a state holds it.

    Returns:
        The bend, as given, and sum_k E||Q(V_k) - V_k||^2 / sum_k ||V_k||^2, (), which
        is no number where there is nothing to learn from.
    """
    law: Any = total.law(signed=False)
    middle = (law.edges[1:] + law.edges[:-1]) / 2
    mass = law.densities * jnp.diff(law.edges)

    def cost(bend: Array) -> Array:
        curve = Curve(bits, bend[:, None])
        s = curve.half * curve.root(middle[None], 1)
        return jnp.sum(mass[None] * curve.variance(s), axis=1)

    ratio = (bends.MOST / LEAST) ** (1 / (COARSE - 2))
    grid = np.concatenate([[0.0], LEAST * ratio ** np.arange(COARSE - 1)])
    coarse = jnp.asarray(grid, mass.dtype)
    best = coarse[jnp.argmin(cost(coarse))]
    around = ratio ** np.linspace(-1, 1, FINE)
    fine = jnp.minimum(best * jnp.asarray(around, mass.dtype), bends.MOST)
    fine = truncate(fine.astype(jnp.float32)).astype(mass.dtype)
    tried = jnp.concatenate([levels.astype(mass.dtype), fine])
    costs = cost(tried)
    # the first one of equals: the one in use stays where nothing is better
    index = jnp.argmin(costs)
    index = jnp.where((total.energy > 0) & jnp.isfinite(costs).all(), index, 0)
    expected = total.total() * costs[index] / total.energy
    return tried[index].astype(levels.dtype)[None], expected
