"""Robust logistic regression, on a small public set, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import optimize
from sklearn import datasets

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

robust = qgenx.problems.robust_logistic_regression


def flowers():
    """The last two kinds of Fisher's irises, which overlap: every third, scaled."""
    x, kinds = datasets.load_iris(return_X_y=True)
    x, labels = x[50::3], np.where(kinds[50::3] == 1, -1.0, 1.0)
    return (x - x.mean(axis=0)) / x.std(axis=0), labels


X, Y = flowers()
N = len(Y)


def value(w, p, ridge=0.01, penalty=0.1):
    off = penalty * N * ((p - 1 / N) ** 2).sum() / 2
    return p @ np.logaddexp(0, -Y * (X @ w)) + ridge * w @ w / 2 - off


def test_the_solution_against_a_program_of_scipy():
    """min over w of a maximum over p that SLSQP cannot tell from the one known."""
    with jax.enable_x64(True):
        problem = robust(X, Y)
        w, p = (np.asarray(problem.solution[k]) for k in ("weights", "examples"))
        assert p.sum() == pytest.approx(1, abs=1e-14)
        assert (p == 0).any()
        assert (p > 1 / N).any()
        best = optimize.minimize(lambda w: value(w, p), np.zeros(4), tol=1e-12)
        np.testing.assert_allclose(best.x, w, atol=1e-6)
        worst = optimize.minimize(
            lambda q: -value(w, q),
            np.full(N, 1 / N),
            bounds=[(0, 1)] * N,
            constraints={"type": "eq", "fun": lambda q: q.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-16, "maxiter": 500},
        )
        np.testing.assert_allclose(worst.x, p, atol=1e-6)
        a = problem.operator(problem.solution)
        np.testing.assert_allclose(a["weights"], 0, atol=1e-12)
        moved = jax.tree.map(jnp.subtract, problem.solution, a)
        moved = problem.projection(moved)["examples"]
        np.testing.assert_allclose(moved, p, atol=1e-12)
        assert 0 <= float(problem.gap(problem.solution)) < 1e-12


def test_the_operator_against_finite_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        w, p = rng.normal(size=4), rng.dirichlet(np.ones(N))
        a = robust(X, Y).operator(
            {"weights": jnp.asarray(w), "examples": jnp.asarray(p)}
        )
        expected = optimize.approx_fprime(w, lambda z: value(z, p), 1e-7)
        np.testing.assert_allclose(a["weights"], expected, atol=1e-5)
        expected = -optimize.approx_fprime(p, lambda q: value(w, q), 1e-7)
        np.testing.assert_allclose(a["examples"], expected, atol=1e-5)


def test_the_gap_is_the_duality_gap_and_above_the_restricted_one():
    with jax.enable_x64(True):
        problem = robust(X, Y)
        rng = np.random.default_rng(1)
        far, few = 3 * rng.normal(size=4), rng.dirichlet(np.full(N, 0.1))
        x = {"weights": jnp.asarray(far), "examples": jnp.asarray(few)}
        lower, upper = problem.gap_bounds(x)
        least = optimize.minimize(lambda w: value(w, few), np.zeros(4), tol=1e-12).fun
        shifted = jnp.asarray(1 / N + np.logaddexp(0, -Y * (X @ far)) / (0.1 * N))
        onto = problem.projection({**x, "examples": shifted})["examples"]
        expected = value(far, np.asarray(onto)) - least
        assert float(upper) == pytest.approx(expected, rel=1e-9)
        flat, unravel = ravel_pytree(x)
        center, _ = ravel_pytree(problem.solution)

        def at(y):
            return ravel_pytree(problem.operator(unravel(y)))[0] @ (flat - y)

        between = jnp.linspace(0, 1, 50)[:, None]
        found = jax.vmap(at)(center[None] + between * (flat - center)[None])
        assert 0 < float(lower) <= float(found.max()) * (1 + 1e-3)
        assert float(found.max()) <= float(upper)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: robust(X, Y * 2), "labels must be -1 or 1, got"),
        (lambda: robust(X, Y, ridge=0), "ridge must be a positive, finite number"),
        (lambda: robust(X, Y, penalty=-1), "penalty must be a positive, finite number"),
        (lambda: robust(X[0], Y), "features must be an array of finite numbers"),
    ],
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
