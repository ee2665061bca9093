"""Zero-sum games of two players with a table of payoffs, over mixed strategies."""

import dataclasses
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array, Params
from qgenx_jax.problems import interior
from qgenx_jax.problems.game_problem import (
    GameProblem,
    game_problem,
    on_trees,
    refuse_infeasible,
)
from qgenx_jax.problems.sets import Product, Simplex


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MatrixGame(GameProblem):
    """The problem of a matrix game.

    Attributes:
        payoff: P, shape (n, m).
        value: the game's value, what row wins on average if both play optimally.
    """

    payoff: Array
    value: float

    def exploitability(self, x: Params) -> Array:
        """What both players together could win by best responses to x; also `gap`.

            max_i (P c)_i - min_j (P^T r)_j

        Args:
            x: {"row": r, "column": c}.

        Returns:
            Scalar, not negative for strategies; 0 at equilibria alone.
        """
        return _exploitability(self.payoff, x)


def matrix_game(payoff: Any, start: Params | None = None) -> MatrixGame:
    """The game in which row plays i, column plays j, and row wins payoff[i, j] of it.

        max over r, min over c of r^T P c,    A(r, c) = (-P c, P^T r),

    with r and c on probability simplices.

    Args:
        payoff: P, a matrix of finite numbers, shape (n, m).
        start: X_1, {"row": r, "column": c}; uniform by default.

    Returns:
        The problem, of players "row", shape (n,), and "column", shape (m,). `solution`
        is None where it is not certain that there is one equilibrium only. `gap` is
        over all strategies: A is skew, so that it is exactly the exploitability.

    Raises:
        ValueError: if the payoff is no such matrix, or the start is not feasible.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> game = qgenx.problems.matrix_game([[1.0, -1.0], [-1.0, 1.0]])
        >>> game.solution["row"]
        Array([0.5, 0.5], dtype=float32)
        >>> x = {"row": jnp.array([0.75, 0.25]), "column": jnp.array([0.5, 0.5])}
        >>> float(game.exploitability(x))
        0.5
    """
    try:
        table = np.asarray(payoff, float)
    except (TypeError, ValueError):
        table = np.zeros(0)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        rule = (
            "must be a matrix of finite numbers, a row per strategy of the row player"
        )
        found = _checks.Text(f"an array of shape {table.shape}")
        if table.size and table.ndim == 2:
            found = _checks.Text("one with inf or nan")
        way_out = "pass for instance [[1, -1], [-1, 1]]"
        raise _checks.refuse("payoff", rule, found, way_out)
    n, m = len(table), len(table[0])
    feasible = Product((Simplex(m), Simplex(n)))  # raveled in the order of the names
    unit = table / (np.abs(table).max() or 1)  # the same equilibria
    matrix = np.block([[np.zeros((m, m)), unit.T], [-unit, np.zeros((n, n))]])
    flat, unique = interior.solve(matrix, np.zeros(m + n), feasible)
    solution = {"row": jnp.asarray(flat[m:]), "column": jnp.asarray(flat[:m])}
    entries = jnp.asarray(table)
    even = {"row": jnp.full(n, 1 / n), "column": jnp.full(m, 1 / m)}
    start = even if start is None else start
    way_out = 'pass {"row": r, "column": c}'
    _checks.same_structure("start", start, "the game", even, way_out)
    losses = {
        "row": lambda x: -(x["row"] @ entries @ x["column"]),
        "column": lambda x: x["row"] @ entries @ x["column"],
    }
    project = on_trees(feasible)
    refuse_infeasible(start, project)

    def merit(x: Params, radius: float | None) -> tuple[Array, Array]:
        feasible.near(flat, radius)  # refuses a radius
        gap = _exploitability(entries, x)
        return gap, gap

    of_losses = game_problem(losses, start)
    return MatrixGame(
        vector=of_losses.vector,
        start=start,
        solution=solution if unique else None,
        projection=project,
        lipschitz=float(np.linalg.norm(table, 2)),
        strong=0.0,
        merit=merit,
        payoff=entries,
        value=float(flat[m:] @ table @ flat[:m]),
    )


def _exploitability(payoff: Array, x: Params) -> Array:
    return jnp.max(payoff @ x["column"]) - jnp.min(x["row"] @ payoff)


def rock_paper_scissors() -> MatrixGame:
    """Rock, paper, scissors, mostly rock against mostly paper; one uniform equilibrium.

    Returns:
        The problem; its value is 0. It starts away from the equilibrium.

    Example:
        >>> import qgenx_jax as qgenx
        >>> game = qgenx.problems.rock_paper_scissors()
        >>> round(float(game.exploitability(game.start)), 6)
        1.4
    """
    rock, paper = jnp.array([0.8, 0.1, 0.1]), jnp.array([0.1, 0.8, 0.1])
    table = [[0, -1, 1], [1, 0, -1], [-1, 1, 0]]
    return matrix_game(table, {"row": rock, "column": paper})


def random_matrix_game(n: int = 10, m: int = 10, *, seed: int = 0) -> MatrixGame:
    """A matrix game of normal payoffs, scaled to spectral norm 1.

    Args:
        n: strategies of row.
        m: strategies of column.
        seed: of the payoffs.

    Returns:
        The problem, with Lipschitz constant 1, starting from uniform strategies.

    Raises:
        ValueError: for a size below 1, or a negative seed.

    Example:
        >>> import qgenx_jax as qgenx
        >>> game = qgenx.problems.random_matrix_game(5, 3)
        >>> game.start["row"].shape, bool(game.gap(game.solution) < 1e-6)
        ((5,), True)
    """
    _checks.whole_number("n", n, 1, None)
    _checks.whole_number("m", m, 1, None)
    _checks.whole_number("seed", seed, 0, None)
    table = np.random.default_rng(seed).normal(size=(n, m))
    return matrix_game(table / np.linalg.norm(table, 2))


def kuhn_poker() -> MatrixGame:
    """Kuhn's poker with three cards, in normal form: 27 by 64 pure strategies.

    Each player antes 1 and is dealt one of the cards 1, 2, 3. Row passes or bets 1.
    After a bet, column folds or calls. After a pass, column passes, which ends it, or
    bets, and row folds or calls. The higher card wins the pot. A strategy of row says
    for each card: pass and fold, pass and call, or bet; one of column says for each
    card whether it bets after a pass, and whether it calls a bet.

    Returns:
        The problem, payoffs averaged over the six deals. Its value is -1/18; there are
        many equilibria, so that `solution` is None.

    Example:
        >>> import qgenx_jax as qgenx
        >>> round(qgenx.problems.kuhn_poker().value * 18, 6)
        -1.0

    References:
        Kuhn, A Simplified Two-Person Poker, Contributions to the Theory of Games I,
        Princeton University Press 1950.
    """
    rows = list(itertools.product(("fold", "call", "bet"), repeat=3))
    answers = [(bets, calls) for bets in (False, True) for calls in (False, True)]
    columns = list(itertools.product(answers, repeat=3))
    deals = list(itertools.permutations(range(3), 2))
    table = [
        [
            sum(_won(row[mine], column[other], mine > other) for mine, other in deals)
            / len(deals)
            for column in columns
        ]
        for row in rows
    ]
    return matrix_game(table)


def _won(plan: str, answers: tuple[bool, bool], higher: bool) -> int:
    """What row wins of one deal, by its plan and column's for the cards they hold."""
    bets, calls = answers
    sign = 1 if higher else -1
    if plan == "bet":
        return 2 * sign if calls else 1
    if not bets:
        return sign
    return 2 * sign if plan == "call" else -1
