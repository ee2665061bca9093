"""Matrix games against linear programs and games with known values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

problems = qgenx.problems


def by_linear_program(table):
    """(value, an optimal mixed strategy of row): maximise v with P^T r >= v."""
    n, m = table.shape
    found = optimize.linprog(
        np.r_[np.zeros(n), -1],
        A_ub=np.c_[-table.T, np.ones(m)],
        b_ub=np.zeros(m),
        A_eq=np.r_[np.ones(n), 0][None],
        b_eq=[1],
        bounds=[(0, None)] * n + [(None, None)],
    )
    return -found.fun, found.x[:n]


@pytest.mark.parametrize(("n", "m", "seed"), [(5, 5, 0), (4, 9, 1), (8, 3, 2)])
def test_random_games_against_linear_programs(n, m, seed):
    with jax.enable_x64(True):
        game = problems.random_matrix_game(n, m, seed=seed)
        table = np.asarray(game.payoff)
        value, row = by_linear_program(table)
        _, column = by_linear_program(-table.T)
        assert game.value == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(game.solution["row"], row, atol=1e-10)
        np.testing.assert_allclose(game.solution["column"], column, atol=1e-10)
        assert float(game.exploitability(game.solution)) < 1e-12
        assert np.linalg.norm(table, 2) == pytest.approx(1)


def test_operator_and_gap_are_those_of_the_table():
    with jax.enable_x64(True):
        game = problems.random_matrix_game(3, 4, seed=5)
        rng = np.random.default_rng(0)
        row, column = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4))
        x = {"row": jnp.asarray(row), "column": jnp.asarray(column)}
        table = np.asarray(game.payoff)
        a = game.operator(x)
        np.testing.assert_allclose(a["row"], -table @ column, rtol=1e-12)
        np.testing.assert_allclose(a["column"], table.T @ row, rtol=1e-12)
        # sup of <A(y), x - y> is attained at a pair of pure strategies
        best = max(
            (-table[:, j]) @ (row - np.eye(3)[i]) + table[i] @ (column - np.eye(4)[j])
            for i in range(3)
            for j in range(4)
        )
        assert float(game.gap(x)) == pytest.approx(best, rel=1e-12)
        assert float(game.exploitability(x)) == pytest.approx(best, rel=1e-12)


def test_rock_paper_scissors_has_the_uniform_equilibrium():
    game = problems.rock_paper_scissors()
    for player in ("row", "column"):
        np.testing.assert_allclose(game.solution[player], 1 / 3, rtol=1e-6)
    assert game.value == pytest.approx(0, abs=1e-12)


def test_kuhn_poker_has_its_value_and_known_equilibria():
    game = problems.kuhn_poker()
    table = np.asarray(game.payoff, float)
    assert table.shape == (27, 64)
    assert game.solution is None
    assert game.value == pytest.approx(-1 / 18, abs=1e-9)
    assert by_linear_program(table)[0] == pytest.approx(-1 / 18, abs=1e-7)
    # Kuhn's family: bet 1 with a, 3 with 3a; call with 2 with a + 1/3; never bet 2
    for a in (0.0, 0.2, 1 / 3):
        plans = {"fold": 0, "call": 1, "bet": 2}
        own = np.zeros((3, 3))
        own[0, [plans["bet"], plans["fold"]]] = a, 1 - a
        own[1, [plans["call"], plans["fold"]]] = a + 1 / 3, 2 / 3 - a
        own[2, [plans["bet"], plans["call"]]] = 3 * a, 1 - 3 * a
        row = np.einsum("i,j,k->ijk", *own).ravel()
        assert (row @ table).min() == pytest.approx(-1 / 18, abs=1e-7)


def test_a_game_of_one_strategy_each():
    game = problems.matrix_game([[3.0]])
    assert game.value == pytest.approx(3)
    assert float(game.gap(game.start)) == 0


ROWS = {
    "a vector": (
        lambda: problems.matrix_game([1.0, 2.0]),
        r"payoff must be a matrix .* got an array of shape \(2,\): pass for instance",
    ),
    "nan": (lambda: problems.matrix_game([[np.nan]]), "payoff must be .* inf or nan"),
    "words": (lambda: problems.matrix_game([["a"]]), "payoff must be a matrix of fin"),
    "ragged": (lambda: problems.matrix_game([[1], [1, 2]]), "payoff must be a matrix"),
    "start": (
        lambda: problems.matrix_game(
            np.eye(2), {"row": jnp.ones(2), "column": jnp.ones(2) / 2}
        ),
        "start must be a feasible point, got one whose projection is 0.5 away",
    ),
    "start without a player": (
        lambda: problems.matrix_game(np.eye(2), {"row": jnp.ones(2)}),
        "start must have the tree structure of the game",
    ),
    "size": (
        lambda: problems.random_matrix_game(-1, 2),
        "n must be a whole number of at least 1, got -1: pass an int",
    ),
    "radius": (
        lambda: (game := problems.rock_paper_scissors()).gap(game.start, 1.0),
        "radius must be left out on simplices",
    ),
}


@pytest.mark.parametrize(
    ("call", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
