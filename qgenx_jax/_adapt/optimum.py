"""The best table on a grid, by dynamic programming on the host: a yardstick."""

import numpy as np

from qgenx_jax._adapt.distributions import Histogram


def optimum(
    law: Histogram, steps: int, *, zero: bool = False, mirrored: bool = False
) -> np.ndarray:
    """The table of least variance whose levels are edges of a histogram.

        best_k(j) = min_i best_{k-1}(i) + int_{x_i}^{x_j} (x_j - u)(u - x_i) dF

    Time and memory grow as the number of edges squared, time as steps too.

    Args:
        law: concrete; in float64 whatever its dtype.
        steps: between neighbouring levels; there is one level more.
        zero: whether 0, then an edge, has to be a level.
        mirrored: whether 0, then the lowest edge, is none, and what lies below the
            lowest level x is rounded to x or -x at a cost of int (x^2 - u^2) dF.

    Returns:
        The levels, (steps + 1,), float64, the law's ends included; of mirrored tables
        (steps,), without 0.
    """
    edges = np.asarray(law.edges, np.float64)
    widths = np.diff(edges)
    masses = np.asarray(law.densities, np.float64) * widths
    middles = edges[:-1] + widths / 2
    moments = masses, masses * middles, masses * (middles**2 + widths**2 / 12)
    m0, m1, m2 = (np.concatenate([[0], np.cumsum(x)]) for x in moments)
    a, c = edges[:, None], edges[None, :]
    mass, first, second = (m[None, :] - m[:, None] for m in (m0, m1, m2))
    cost = np.maximum((a + c) * first - second - a * c * mass, 0)
    cost[np.tril_indices(len(edges))] = np.inf
    if mirrored:
        cost[0, 1:] = np.maximum(edges**2 * m0 - m2, 0)[1:]
    if zero:
        at = int(np.flatnonzero(edges == 0)[0])
        cost[:at, at + 1 :] = np.inf
    best, chosen = cost[0], []
    for _ in range(steps - 1):
        total = best[:, None] + cost
        chosen.append(np.argmin(total, axis=0))
        best = np.take_along_axis(total, chosen[-1][None], axis=0)[0]
    places = [len(edges) - 1]
    for back in reversed(chosen):
        places.append(int(back[places[-1]]))
    levels = edges[list(reversed(places))]
    return levels if mirrored else np.concatenate([edges[:1], levels])
