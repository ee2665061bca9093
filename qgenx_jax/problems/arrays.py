"""Arrays that problems are made of: finite numbers of a shape."""

from typing import Any

import numpy as np

from qgenx_jax import _checks


def real_array(argument: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """A float64 array of finite numbers of a shape; None stands for any length above 0.

    Raises:
        ValueError: if the value is none.
    """
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        array = None
    sizes = "(" + ", ".join("any" if k is None else str(k) for k in shape) + ")"
    rule = f"must be an array of finite numbers, of shape {sizes}"
    if array is None:
        found = _checks.Text(type(value).__name__)
        raise _checks.refuse(argument, rule, found, "pass numbers")
    fits = array.ndim == len(shape) and array.size > 0
    fits = fits and all(
        k in (None, own) for k, own in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        found = _checks.Text(f"shape {array.shape}" if not fits else "inf or nan")
        raise _checks.refuse(argument, rule, found, "see the other arguments' shapes")
    return array
