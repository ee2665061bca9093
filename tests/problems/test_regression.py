"""Least squares and logistic regression against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import qgenx_jax as qgenx
from qgenx_jax.problems import regression

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

problems = qgenx.problems
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 4)), RNG.normal(size=20)
LABELS = np.sign(X[:, 0] + Y)


def logistic(w, ridge=0.01):
    return np.logaddexp(0, -LABELS * (X @ w)).mean() + ridge * w @ w / 2


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_least_squares_against_scipy(ridge):
    with jax.enable_x64(True):
        problem = problems.least_squares(X, Y, ridge=ridge)
        rows = np.concatenate([X, np.sqrt(20 * ridge) * np.eye(4)])
        expected = optimize.lsq_linear(rows, np.r_[Y, np.zeros(4)]).x
        np.testing.assert_allclose(problem.solution["weights"], expected, atol=1e-10)
        w = jnp.array([1.0, -2.0, 0.5, 0.0])
        expected = X.T @ (X @ w - Y) / 20 + ridge * w
        np.testing.assert_allclose(
            problem.operator({"weights": w})["weights"], expected
        )


def test_least_squares_with_several_solutions_has_none_to_name():
    twice = np.c_[X[:, :1], X[:, :1]]
    problem = problems.least_squares(twice, Y)
    assert problem.solution is None
    assert problem.strong == pytest.approx(0, abs=1e-12)
    assert float(problem.gap(problem.start)) > 0


def test_logistic_regression_against_scipy():
    with jax.enable_x64(True):
        problem = problems.logistic_regression(X, LABELS)
        options = {"gtol": 1e-12}
        found = optimize.minimize(logistic, np.zeros(4), options=options, tol=1e-14)
        np.testing.assert_allclose(problem.solution["weights"], found.x, atol=1e-6)
        slope = problem.operator(problem.solution)["weights"]
        np.testing.assert_allclose(slope, 0, atol=1e-14)
        w = np.array([1.0, -2.0, 0.5, 0.0])
        expected = optimize.approx_fprime(w, logistic, 1e-7)
        a = problem.operator({"weights": jnp.asarray(w)})["weights"]
        np.testing.assert_allclose(a, expected, atol=1e-6)


@pytest.mark.parametrize("radius", [0.5, 5.0])
def test_the_restricted_gap_lies_between_the_bounds(radius):
    with jax.enable_x64(True):
        problem = problems.logistic_regression(X, LABELS)
        center, w = np.asarray(problem.solution["weights"]), np.ones(4)
        lower, upper = problem.gap_bounds({"weights": jnp.asarray(w)}, radius)
        assert float(upper) == pytest.approx(logistic(w) - logistic(center), abs=1e-12)
        moves = np.random.default_rng(1).normal(size=(500, 4))
        moves *= radius / np.linalg.norm(moves, axis=1, keepdims=True)
        near = [center + t * z for z in moves for t in (1.0, 0.5)]
        near = near + [center + t * (w - center) for t in np.linspace(0, 1, 50)]
        near = [y for y in near if np.linalg.norm(y - center) <= radius * (1 + 1e-12)]

        def value(y):
            return problem.operator({"weights": y})["weights"] @ (w - y)

        best = float(jax.vmap(value)(jnp.asarray(near)).max())
        assert 0 < float(lower) <= best + 1e-3
        assert best <= float(upper)
        assert float(problem.gap({"weights": jnp.asarray(w)})) == float(upper)


def test_newton_finds_the_minimum_from_far():
    def parts(x):
        slope = x / np.sqrt(1 + x**2) + 0.01 * x
        curvature = np.diag((1 + x**2) ** -1.5 + 0.01)
        return np.sqrt(1 + x**2).sum() + 0.005 * x @ x, slope, curvature

    found = regression.newton(parts, np.array([30.0, -5.0]))
    np.testing.assert_allclose(found, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problems.least_squares(X, Y[:3]), r"targets must be .* \(20\), got"),
        (lambda: problems.least_squares(Y, Y), r"features must be .* \(any, any\)"),
        (lambda: problems.least_squares(X, Y, ridge=-1), "ridge must be a finite numb"),
        (lambda: problems.logistic_regression(X, Y), "labels must be -1 or 1, got"),
        (
            lambda: problems.logistic_regression(X, LABELS, ridge=0),
            "ridge must be a positive, finite number, got 0: 0.01 is the default",
        ),
    ],
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
