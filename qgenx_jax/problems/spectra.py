"""Constants of affine operators A(x) = B x + b, from the spectrum of B."""

import numpy as np

from qgenx_jax import _checks


def strong(matrix: np.ndarray) -> float | None:
    """mu, the smallest eigenvalue of S = (B + B^T) / 2.

    Args:
        matrix: B, shape (d, d).

    Returns:
        mu; 0.0 where rounding in B's dtype hides its sign; None where it is negative:
        A is not monotone.
    """
    full = np.asarray(matrix, float)
    smallest = float(np.linalg.eigvalsh((full + full.T) / 2)[0])
    rounding = _rounding(matrix, full)
    if smallest < -rounding:
        return None
    return smallest if smallest > rounding / len(full) else 0.0


def cocoercive(matrix: np.ndarray) -> float | None:
    """beta, the largest with <B z, z> >= beta ||B z||^2 for all z.

    Args:
        matrix: B, shape (d, d), of a monotone operator.

    Returns:
        beta, inf for B = 0; None where there is no positive one, as for a skew B, or
        rounding in B's dtype hides it.
    """
    full = np.asarray(matrix, float)
    left, values, right = np.linalg.svd(full)
    kept = values > np.finfo(matrix.dtype).eps * values[0]
    if not kept.any():
        return float("inf")
    # with y = B z in the range of B: <z, y> = y^T B^+ y
    inverse = left[:, kept].T @ right[kept].T / values[kept]
    smallest = float(np.linalg.eigvalsh((inverse + inverse.T) / 2)[0])
    return smallest if smallest * values[0] > _rounding(matrix, full) else None


def constants(matrix: np.ndarray) -> dict[str, float | None]:
    """The fields of a problem that the spectrum of an affine operator tells.

    Args:
        matrix: B on raveled points, float64.

    Returns:
        `lipschitz`, `strong` and `cocoercive`.
    """
    return {
        "lipschitz": float(np.linalg.norm(matrix, 2)),
        "strong": strong(matrix),
        "cocoercive": cocoercive(matrix),
    }


def refuse_non_monotone(matrix: np.ndarray) -> None:
    """Checks that B + B^T is positive semi-definite, but for rounding.

    Raises:
        ValueError: if it is not.
    """
    if strong(matrix) is None:
        full = np.asarray(matrix, float)
        rule = (
            "must have a positive semi-definite symmetric part, or gap is not defined"
        )
        found = f"an eigenvalue of {np.linalg.eigvalsh((full + full.T) / 2)[0]:.3g}"
        way_out = "look at the norm of operator(x)"
        raise _checks.refuse("matrix", rule, _checks.Text(found), way_out)


def _rounding(matrix: np.ndarray, full: np.ndarray) -> float:
    """What rounding B to its dtype can change an eigenvalue by."""
    return float(len(full) * np.finfo(matrix.dtype).eps * np.linalg.norm(full, 2))
