"""Operators of games, and the problems with known solutions."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import qgenx_jax as qgenx
from tests.lib.helpers import within_5_sigma

pytestmark = pytest.mark.usefixtures("compiled_plainly")

problems = qgenx.problems
PROBLEMS = {
    "bilinear": lambda: problems.bilinear(8, seed=1),
    "quadratic": lambda: problems.quadratic_game(7, strong=0.2, seed=2),
}


def test_game_operator_is_each_players_gradient_of_its_own_loss():
    losses = {
        "g": lambda p, s: s * jnp.sum(p["g"] * p["d"] ** 2),
        "d": lambda p, s: jnp.sum(p["d"] ** 3 * p["g"]) + s,
    }
    params = {"g": jnp.array([1.0, 2.0]), "d": jnp.array([3.0, -1.0])}
    vector = qgenx.game_operator(losses)(params, 2.0)
    np.testing.assert_allclose(vector["g"], 2 * params["d"] ** 2)
    np.testing.assert_allclose(vector["d"], 3 * params["d"] ** 2 * params["g"])
    with_aux = {k: lambda p, s, f=f, k=k: (f(p, s), k) for k, f in losses.items()}
    vector, values = qgenx.game_operator(with_aux, has_aux=True)(params, 2.0)
    np.testing.assert_allclose(vector["g"], 2 * params["d"] ** 2)
    np.testing.assert_allclose(values["d"][0], losses["d"](params, 2.0))
    ordered = collections.OrderedDict(params)
    vector = qgenx.game_operator(losses)(ordered, 2.0)
    assert jax.tree.structure(vector) == jax.tree.structure(ordered)
    with pytest.raises(
        ValueError, match=r"exactly the players \['d', 'g'\], got \['g'"
    ):
        qgenx.game_operator(losses)({"g": jnp.ones(2)}, 1.0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_monotone_with_that_solution(name):
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        eigenvalues = np.linalg.eigvalsh(np.asarray(problem.matrix + problem.matrix.T))
        assert eigenvalues.min() >= (-1e-12 if name == "bilinear" else 0.4 - 1e-12)
        np.testing.assert_allclose(problem.operator(problem.solution), 0, atol=1e-14)
        np.testing.assert_allclose(jnp.linalg.norm(problem.solution), 1)
        assert float(problem.gap(problem.solution)) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("radius", [0.3, 2.0])
@pytest.mark.parametrize("name", PROBLEMS)
def test_gap_is_the_supremum_over_the_ball(name, radius):
    """Against a general-purpose constrained optimizer; closed form where skew."""
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        b, x_star = np.asarray(problem.matrix), np.asarray(problem.solution)
        x = x_star + np.random.default_rng(0).normal(size=x_star.size)

        def negative(z):
            return -(b @ z) @ (x - x_star - z)

        best = max(
            -optimize.minimize(
                negative,
                start * radius / np.linalg.norm(start),
                method="SLSQP",
                constraints={"type": "ineq", "fun": lambda z: radius**2 - z @ z},
                options={"ftol": 1e-14, "maxiter": 500},
            ).fun
            for start in np.random.default_rng(1).normal(size=(4, x.size))
        )
        np.testing.assert_allclose(problem.gap(jnp.asarray(x), radius), best, rtol=1e-7)
        if name == "bilinear":
            expected = radius * np.linalg.norm(b @ (x - x_star))
            np.testing.assert_allclose(problem.gap(x, radius), expected, rtol=1e-13)


NOISES = {
    "none": lambda a: 0.0,
    "absolute": lambda a: 0.5**2,
    "multiplicative": lambda a: 0.5 * a @ a,
    "coordinates": lambda a: (a.size - 1) * (a @ a),
}


@pytest.mark.parametrize("noise", NOISES)
def test_oracles_are_unbiased_with_the_stated_variance(noise):
    draws = 40_000
    problem = problems.quadratic_game(6, seed=3)
    oracle = problem.oracle(noise, 0.5)
    x = jnp.arange(6.0) / 3
    keys = jax.random.split(jax.random.key(0), draws)
    samples = np.asarray(jax.jit(jax.vmap(oracle, (None, 0)))(x, keys), np.float64)
    a = np.asarray(problem.operator(x), np.float64)
    deviation = samples.std(axis=0) / np.sqrt(draws) + 1e-6
    within_5_sigma(samples.mean(axis=0), a, deviation, f"mean of {noise}")
    square = ((samples - a) ** 2).sum(axis=1)
    within_5_sigma(
        square.mean(),
        NOISES[noise](a),
        square.std() / np.sqrt(draws) + 1e-6,
        f"variance of {noise}",
    )
