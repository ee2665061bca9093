"""Problems made of players' losses, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.problems.game_problem import refuse_infeasible

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

problems = qgenx.problems
LOSSES = {
    "x": lambda p: jnp.sum(p["x"] * p["y"]),
    "y": lambda p: -jnp.sum(p["x"] * p["y"]),
}


def start():
    return {"x": jnp.array([1.0]), "y": jnp.array([2.0])}


def problem(**known):
    return problems.game_problem(LOSSES, start(), **known)


def test_the_operator_is_the_games():
    found = problem().operator(start())
    assert float(found["x"][0]) == 2.0
    assert float(found["y"][0]) == -1.0


def test_the_gap_is_the_upper_bound():
    made = problem(strong=0.0, merit=lambda x, radius: (radius, radius + 1))
    assert made.gap(start(), 2.0) == 3.0
    assert made.gap_bounds(start(), 2.0) == (2.0, 3.0)


def test_workers_differ_as_the_problem_says():
    def apart(x, worker, workers):
        return jax.tree.map(lambda leaf: (worker - 0.5) * leaf, x)

    oracle = problem(apart=apart).oracle(workers=2, spread=0.5)
    found = oracle(start(), jax.random.key(0), 1)
    assert float(found["x"][0]) == 2.0 + 0.25 * 1.0


def shared():
    one = jnp.ones(1)
    return problems.game_problem(LOSSES, {"x": one, "y": one})


def infeasible():
    return problem(projection=lambda x: jax.tree.map(jnp.zeros_like, x))


ROWS = {
    "shared parameters": (
        shared,
        "start must hold no array of two players: .* got one array for 'x' and 'y': co",
    ),
    "infeasible": (
        infeasible,
        "start must be a feasible point, got .* is 2 away: pass",
    ),
    "other players": (
        lambda: problems.game_problem(LOSSES, {"x": jnp.ones(1)}),
        r"params must be a mapping with exactly the players \['x', 'y'\]",
    ),
    "no gap": (
        lambda: problem().gap(start()),
        r"gap must be of a monotone operator, .*: look at the norm of operator\(x\)",
    ),
    "radius": (
        lambda: problem(strong=0.0, merit=lambda x, r: (r, r)).gap(start(), -1.0),
        "radius must be a positive, finite number, got -1.0: 1.0 is usual",
    ),
    "a point of another structure": (
        lambda: problem().operator({"x": jnp.ones(1)}),
        "x must have the tree structure of start",
    ),
    "points at once": (
        lambda: problem().operator({"x": jnp.ones((3, 1)), "y": jnp.ones((3, 1))}),
        r"leaf \['x'\] of x must have the shape \(1,\) .*: use jax.vmap over points",
    ),
}


@pytest.mark.parametrize(
    ("call", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_a_feasible_start_passes_with_its_rounding():
    third = jnp.full(3, 1 / 3)
    refuse_infeasible(third, lambda x: x + 1e-7)
    np.testing.assert_array_equal(third, jnp.full(3, 1 / 3))
