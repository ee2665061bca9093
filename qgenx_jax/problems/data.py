"""Problems made of data: rows that all workers hold, or a share for each."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array, DualVector, Params
from qgenx_jax.problems.arrays import real_array
from qgenx_jax.problems.game_problem import GameProblem, game_problem
from qgenx_jax.problems.games import game_operator


def data_problem(
    losses: Mapping[str, Callable[[Params, Array], Array]],
    start: Params,
    rows: int,
    **known: Any,
) -> GameProblem:
    """A game whose losses are sums over rows, to be split over workers.

    With `spread`, worker k's operator is A_k = A + spread (A^k - A), where A^k is of
    the rows k n / K to (k + 1) n / K alone, each K times its weight in A: so the mean
    over the workers is A, and A^k the mean over its rows where shares are equal.

    Args:
        losses: for each player `loss(params, weights)`, affine in the rows' weights,
            which are 1 for all the data.
        start: X_1, a mapping from the players.
        rows: n.
        **known: further fields of `GameProblem`.

    Returns:
        The problem.

    Raises:
        ValueError: when an oracle of more workers than rows is called.
    """
    operator = game_operator(losses)
    ones = jnp.ones(rows)

    def of_all(loss: Callable[[Params, Array], Array]) -> Callable[[Params], Array]:
        return lambda x: loss(x, ones)

    def apart(x: Params, worker: int | Array, workers: int) -> DualVector:
        _checks.whole_number("workers", workers, 1, rows)
        own = jnp.where(owners(rows, workers) == worker, float(workers), 0.0)
        return jax.tree.map(jnp.subtract, operator(x, own), operator(x, ones))

    whole = game_problem(
        {k: of_all(loss) for k, loss in losses.items()}, start, **known
    )
    return dataclasses.replace(whole, apart=apart)


def owners(rows: int, workers: int) -> np.ndarray:
    """The worker of each row: runs of rows, of lengths that differ by at most 1.

    Args:
        rows: n.
        workers: K.

    Returns:
        int (n,), not decreasing.
    """
    return np.arange(rows) * workers // rows


def labelled(features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """(features, labels) in float64, checked.

    Raises:
        ValueError: if they are no matrix and vector of one length, or a label is not
            -1 or 1.
    """
    rows = real_array("features", features, (None, None))
    signs = real_array("labels", labels, (len(rows),))
    wrong = signs[np.abs(signs) != 1]
    if len(wrong):
        found = _checks.Text(f"{wrong[0]:g} among them")
        way_out = "for labels 0 and 1 pass 2 * labels - 1"
        raise _checks.refuse("labels", "must be -1 or 1", found, way_out)
    return rows, signs
