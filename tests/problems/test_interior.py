"""Solutions of affine VIs against enumerated active sets and SciPy's solvers."""

import itertools

import numpy as np
import pytest
from scipy import optimize

from qgenx_jax.problems import interior
from qgenx_jax.problems.sets import Box, Product, Simplex

pytestmark = pytest.mark.quick


def monotone(d, seed, strong=0.1):
    rng = np.random.default_rng(seed)
    factor, skew = rng.normal(size=(2, d, d))
    return factor @ factor.T / d + strong * np.eye(d) + skew - skew.T, rng.normal(
        size=d
    )


def by_enumeration(matrix, offset, low, high):
    """Each coordinate at its low end, its high end, or free: the one that fits."""
    for kinds in itertools.product((-1, 0, 1), repeat=len(offset)):
        kinds = np.array(kinds)
        x, free = np.where(kinds < 0, low, high), kinds == 0
        rest = offset[free] + matrix[np.ix_(free, ~free)] @ x[~free]
        x[free] = np.linalg.solve(matrix[np.ix_(free, free)], -rest)
        a = matrix @ x + offset
        inside = (x >= low - 1e-12).all() and (x <= high + 1e-12).all()
        if inside and (a[kinds < 0] >= 0).all() and (a[kinds > 0] <= 0).all():
            return x
    raise AssertionError("none fits")


@pytest.mark.parametrize("seed", range(5))
def test_box_against_all_active_sets(seed):
    matrix, offset = monotone(5, seed)
    low, high = np.full(5, -0.2), np.full(5, 0.3)
    box = Product((Box(low, high),))
    x, unique = interior.solve(matrix, offset, box)
    np.testing.assert_allclose(x, by_enumeration(matrix, offset, low, high), atol=1e-12)
    assert unique
    assert interior.residual(matrix, offset, box, x) < 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_simplex_against_a_quadratic_program(seed):
    matrix, offset = monotone(6, seed)
    matrix = (matrix + matrix.T) / 2
    simplex = Product((Simplex(6),))
    x, unique = interior.solve(matrix, offset, simplex)
    expected = optimize.minimize(
        lambda y: y @ matrix @ y / 2 + offset @ y,
        np.full(6, 1 / 6),
        jac=lambda y: matrix @ y + offset,
        bounds=[(0, None)] * 6,
        constraints={"type": "eq", "fun": lambda y: y.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 500},
    ).x
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert unique
    assert interior.residual(matrix, offset, simplex, x) < 1e-12
    assert x.sum() == pytest.approx(1, abs=1e-14)


def test_simplices_against_a_skew_operator_with_offset():
    """Not symmetric, where no function is minimised: the residual tells."""
    for seed in range(5):
        matrix, offset = monotone(7, seed)
        feasible = Product((Simplex(4), Box(np.zeros(3), np.full(3, np.inf))))
        x, unique = interior.solve(matrix, offset, feasible)
        assert interior.residual(matrix, offset, feasible, x) < 1e-12
        assert unique


def test_where_several_solve_it_that_is_said():
    flat = np.diag([1.0, 0.0])
    box = Product((Box(-np.ones(2), np.ones(2)),))
    x, unique = interior.solve(flat, np.array([-0.5, 0.0]), box)
    assert not unique
    assert x[0] == pytest.approx(0.5, abs=1e-12)
    assert x[1] == pytest.approx(0, abs=1e-6)  # in the middle
    assert interior.solve(flat, np.array([-0.5, 1.0]), box).unique


def test_the_residual_is_zero_at_solutions_alone():
    matrix, offset = monotone(4, 0)
    everywhere = Product((Box(np.full(4, -np.inf), np.full(4, np.inf)),))
    x = np.linalg.solve(matrix, -offset)
    assert interior.residual(matrix, offset, everywhere, x) < 1e-14
    assert interior.residual(matrix, offset, everywhere, x + 0.1) > 1e-2
    np.testing.assert_allclose(interior.solve(matrix, offset, everywhere).x, x)


def test_a_problem_without_a_solution_is_refused():
    half = Product((Box(np.zeros(1), np.array([np.inf])),))
    message = "matrix and offset must be those of a VI with a solution, .*: bound the"
    with pytest.raises(ValueError, match=f"^{message}"):
        interior.solve(np.zeros((1, 1)), np.array([-1.0]), half)
