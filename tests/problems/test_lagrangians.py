"""Quadratic programs by their Lagrangians, against SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import optimize

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

problems = qgenx.problems


def program(seed=0, n=5, m=2):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, n - 1))  # Q is singular
    return factor @ factor.T, rng.normal(size=n), rng.normal(size=(m, n)), np.ones(m)


def allocation(seed=0, n=6, m=3):
    rng = np.random.default_rng(seed)
    v, q = rng.uniform(-0.3, 2, size=n), rng.uniform(0.5, 1.5, size=n)
    return v, q, rng.uniform(size=(m, n)), rng.uniform(0.3, 3, size=m)


def test_equality_constrained_against_scipy():
    q, c, e, d = program()
    with jax.enable_x64(True):
        problem = problems.equality_constrained(q, c, e, d)
        x = problem.solution
        expected = optimize.minimize(
            lambda z: z @ q @ z / 2 + c @ z,
            np.zeros(5),
            jac=lambda z: q @ z + c,
            method="SLSQP",
            constraints={"type": "eq", "fun": lambda z: e @ z - d, "jac": lambda z: e},
            options={"ftol": 1e-16, "maxiter": 500},
        ).x
        np.testing.assert_allclose(x["primal"], expected, atol=1e-6)
        zeros = ravel_pytree(problem.operator(x))[0]
        np.testing.assert_allclose(zeros, 0, atol=1e-12)


def test_operators_against_their_formulas():
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        q, c, e, d = program()
        x, y = rng.normal(size=5), rng.normal(size=2)
        point = {"primal": jnp.asarray(x), "multiplier": jnp.asarray(y)}
        a = problems.equality_constrained(q, c, e, d).operator(point)
        np.testing.assert_allclose(a["primal"], q @ x + c + e.T @ y)
        np.testing.assert_allclose(a["multiplier"], d - e @ x)
        v, q, r, c = allocation()
        x, y = rng.uniform(size=6), rng.uniform(size=3)
        point = {"amounts": jnp.asarray(x), "prices": jnp.asarray(y)}
        a = problems.resource_allocation(v, q, r, c).operator(point)
        np.testing.assert_allclose(a["amounts"], q * x - v + r.T @ y)
        np.testing.assert_allclose(a["prices"], c - r @ x)


@pytest.mark.parametrize("seed", range(3))
def test_resource_allocation_against_scipy(seed):
    v, q, r, c = allocation(seed)
    with jax.enable_x64(True):
        problem = problems.resource_allocation(v, q, r, c)
        found = problem.solution
        expected = optimize.minimize(
            lambda z: q @ z**2 / 2 - v @ z,
            np.zeros(6),
            jac=lambda z: q * z - v,
            method="SLSQP",
            bounds=[(0, None)] * 6,
            constraints={"type": "ineq", "fun": lambda z: c - r @ z},
            options={"ftol": 1e-16, "maxiter": 500},
        ).x
        np.testing.assert_allclose(found["amounts"], expected, atol=1e-6)
        slack = c - r @ found["amounts"]
        np.testing.assert_allclose(slack * found["prices"], 0, atol=1e-12)
        assert (np.asarray(found["prices"]) >= 0).all()
        assert (np.asarray(found["amounts"]) == 0).any()
        assert (np.asarray(found["prices"]) > 1e-3).any()


@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_gaps_against_scipy(radius):
    """Over a Euclidean ball, and over the feasible part of one of the largest norm."""
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        for problem, ball in (
            (problems.equality_constrained(*program()), True),
            (problems.resource_allocation(*allocation()), False),
        ):
            center, unravel = ravel_pytree(problem.solution)
            start = jnp.abs(jnp.asarray(rng.normal(size=center.size)))
            operator = jax.jit(
                lambda z, p=problem, u=unravel: ravel_pytree(p.operator(u(z)))[0]
            )
            lows = np.full(center.size, -np.inf) if ball else np.zeros(center.size)
            limits = {
                "bounds": np.c_[np.maximum(lows, center - radius), center + radius]
            }
            if ball:
                limits["constraints"] = {
                    "type": "ineq",
                    "fun": lambda y, c=center: radius**2 - ((y - c) ** 2).sum(),
                }
            best = optimize.minimize(
                lambda y, a=operator, x=start: float(-a(jnp.asarray(y)) @ (x - y)),
                np.asarray(center) + 0.01,
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
                **limits,
            )
            lower, upper = problem.gap_bounds(unravel(start), radius)
            np.testing.assert_allclose(lower, upper, rtol=1e-8)
            np.testing.assert_allclose(upper, -best.fun, rtol=1e-5)


def test_redundant_prices_are_not_one_solution():
    v, q, r, c = [2.0], [1.0], [[1.0], [1.0]], [1.0, 1.0]
    problem = problems.resource_allocation(v, q, r, c)
    assert problem.solution is None
    assert float(problem.gap(problem.start)) > 0.1


Q, C, E, D = program()
V, W, R, K = allocation()
equal, allocate = problems.equality_constrained, problems.resource_allocation
ROWS = {
    "Q is not symmetric": (
        lambda: equal(np.triu(np.ones((5, 5))), C, E, D),
        "quadratic must be symmetric, got a matrix",
    ),
    "Q is not square": (
        lambda: equal(np.ones((4, 5)), C[:4], E[:, :4], D),
        r"quadratic must be symmetric, got a matrix of shape \(4, 5\): pass",
    ),
    "Q is not psd": (lambda: equal(-Q, C, E, D), "matrix must have a positive semi-d"),
    "shape of c": (
        lambda: equal(Q, C[:3], E, D),
        r"linear must be .* of shape \(5\), got shape \(3,\): see the other arg",
    ),
    "shape of E": (lambda: equal(Q, C, D, D), r"rows must be .* shape \(any, 5\)"),
    "nan": (lambda: equal(Q, C, E, D * np.nan), "ends must be .*, got inf or nan"),
    "words": (lambda: equal("Q", C, E, D), "quadratic must be .*, got str: pass num"),
    "redundant rows": (
        lambda: equal(Q, C, np.ones((2, 5)), D),
        "rows must have full rank, .*: leave out redundant rows",
    ),
    "curvature": (lambda: allocate(V, -W, R, K), "curvatures must be positive, got -"),
    "usage": (lambda: allocate(V, W, -R, K), "usage must not be negative, got -"),
    "capacity": (lambda: allocate(V, W, R, 0 * K), "capacity must be positive, got 0"),
}


@pytest.mark.parametrize(
    ("call", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
