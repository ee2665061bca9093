"""Solutions of affine VIs over polyhedra, by an interior-point method in float64.

It shares nothing with the methods that the problems are for: no step along A.
"""

from typing import Any, NamedTuple

import numpy as np

from qgenx_jax import _checks
from qgenx_jax.problems.sets import Box, Product, onto_simplex

_STEPS = 200
_DONE = 1e-13
_FAR = 1e12
_STRICT = 1e-7  # of slack against multiplier: which of the two is zero


class Solution(NamedTuple):
    """A solution of an affine VI.

    Attributes:
        x: x*, float64 (d,); where there are several, one in the middle of them.
        unique: whether it is certain that there is no other.
    """

    x: np.ndarray
    unique: bool


def solve(matrix: np.ndarray, offset: np.ndarray, feasible: Product) -> Solution:
    """x* in C with <B x* + b, x - x*> >= 0 for all x in C = {G x >= h, E x = f}.

    Newton's method on the perturbed optimality conditions

        B x + b = G^T m + E^T n,   G x - s = h,   E x = f,   s_i m_i = tau,

    tau to 0, and then one linear solve with the constraints that are active there.

    Args:
        matrix: B, float64 (d, d), monotone.
        offset: b, float64 (d,).
        feasible: C, not empty.

    Returns:
        The solution.

    Raises:
        ValueError: if none is found: there may be none, where C is not bounded.
    """
    (g, h), (e, f) = feasible.inequalities(), feasible.equalities()
    d, rows, equal = len(offset), len(h), len(f)
    scale = 1 + max(np.abs(matrix).max(), np.abs(offset).max())
    x, n = np.zeros(d), np.zeros(equal)
    s, m = np.ones(rows), np.full(rows, scale)
    for _ in range(_STEPS):
        tau = s @ m / max(rows, 1)
        stationary = matrix @ x + offset - g.T @ m - e.T @ n
        apart = g @ x - s - h
        errors = [stationary / scale, apart, e @ x - f, np.array([tau / scale])]
        if np.abs(np.concatenate(errors)).max() < _DONE:
            break
        # s and m eliminated: ds = g dx + apart, dm = (target - s m - m ds) / s
        target = 0.1 * tau
        weight = m / s
        right = -stationary + g.T @ ((target - s * m) / s - weight * apart)
        system = np.block(
            [[matrix + (g.T * weight) @ g, -e.T], [e, np.zeros((equal, equal))]]
        )
        step = _solved(system, np.concatenate([right, f - e @ x]))
        if not np.abs(step).max(initial=0) < _FAR:
            break  # there is no solution, or rounding has the last word
        dx, dn = step[:d], step[d:]
        ds = g @ dx + apart
        dm = (target - s * m - m * ds) / s
        length = min(1.0, 0.99 * _to_zero(s, ds), 0.99 * _to_zero(m, dm))
        x, n, s, m = x + length * dx, n + length * dn, s + length * ds, m + length * dm
    active = m > s * scale
    polished = _polished(matrix, offset, x, (g[active], h[active]), (e, f))
    found = (_project(feasible, y) for y in (polished, x))  # bounds met to the bit
    # where many constraints are active at once, the linear solve may lead elsewhere
    error, x = min(
        ((residual(matrix, offset, feasible, y), y) for y in found), key=lambda r: r[0]
    )
    if not error < 1e-9 * scale:
        rule = "must be those of a VI with a solution"
        found = _checks.Text(f"a residual of {error:.1e}")
        way_out = "bound the set, or make the operator strongly monotone"
        raise _checks.refuse("matrix and offset", rule, found, way_out)
    strict = bool((np.maximum(s * scale, m) > _STRICT * scale).all())
    rest = _null_space(np.concatenate([g[active], e]))
    turned = rest.T @ matrix @ rest
    values = np.linalg.svd(turned, compute_uv=False)
    regular = not len(values) or values[-1] > 1e-9 * scale
    convex = np.linalg.eigvalsh(matrix + matrix.T)[0] > 1e-9 * scale
    return Solution(x, bool(convex or (strict and regular)))


def residual(
    matrix: np.ndarray, offset: np.ndarray, feasible: Product, x: np.ndarray
) -> float:
    """||x - P(x - A(x))||, 0 at solutions alone; P in float64.

    Args:
        matrix: B, shape (d, d).
        offset: b, shape (d,).
        feasible: C.
        x: shape (d,).

    Returns:
        The norm, in the largest coordinate.
    """
    return float(np.abs(x - _project(feasible, x - matrix @ x - offset)).max())


def _project(feasible: Product, x: np.ndarray) -> np.ndarray:
    own: list[Any] = feasible.split(x)  # type: ignore[arg-type]
    projected = [
        np.clip(run, part.low, part.high)
        if isinstance(part, Box)
        else onto_simplex(run)
        for part, run in zip(feasible.parts, own, strict=True)
    ]
    return np.concatenate(projected)


def _solved(system: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(system, right)
    except np.linalg.LinAlgError:  # singular: free coordinates that B does not see
        return np.linalg.lstsq(system, right)[0]


def _to_zero(value: np.ndarray, step: np.ndarray) -> float:
    """How much of a step leads a positive vector to the first zero."""
    falling = step < 0
    return float(np.min(-value[falling] / step[falling], initial=np.inf))


def _polished(
    matrix: np.ndarray,
    offset: np.ndarray,
    x: np.ndarray,
    active: tuple[np.ndarray, np.ndarray],
    equal: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """The solution near x with the active constraints as equalities."""
    rows = np.concatenate([active[0], equal[0]])
    ends = np.concatenate([active[1], equal[1]])
    zeros = np.zeros((len(rows), len(rows)))
    system = np.block([[matrix, -rows.T], [rows, zeros]])
    right = np.concatenate([-offset - matrix @ x, ends - rows @ x])
    return x + np.linalg.lstsq(system, right)[0][: len(x)]


def _null_space(rows: np.ndarray) -> np.ndarray:
    """An orthonormal basis of {x : rows x = 0}, shape (d, k)."""
    _, values, right = np.linalg.svd(rows)
    rank = int((values > 1e-12).sum())
    return right[rank:].T
