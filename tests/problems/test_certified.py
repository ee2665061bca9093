"""Bounds of gaps: the true maximum, by SciPy, lies between them, and they are close."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from qgenx_jax.problems import certified
from qgenx_jax.problems.sets import Box, Product, Simplex

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

SETS = {
    "box": Product((Box(-np.ones(6), np.linspace(0, 2, 6)),)),
    "simplex": Product((Simplex(6),)),
    "both": Product((Simplex(4), Box(np.zeros(2), np.ones(2)))),
}


def largest(matrix, offset, bounded, x, start):
    """max of <B y + b, x - y> over the set, a concave function, by SLSQP."""
    (g, h), (e, f) = bounded.inequalities(), bounded.equalities()
    constraints = [{"type": "ineq", "fun": lambda y: g @ y - h, "jac": lambda y: g}]
    if len(f):
        row = {"type": "eq", "fun": lambda y: e @ y - f, "jac": lambda y: e}
        constraints.append(row)
    found = optimize.minimize(
        lambda y: -(matrix @ y + offset) @ (x - y),
        start,
        jac=lambda y: (matrix + matrix.T) @ y - matrix.T @ x + offset,
        method="SLSQP",
        constraints=constraints,
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return -found.fun


@pytest.mark.parametrize("kind", ["general", "skew", "ill-conditioned", "singular"])
@pytest.mark.parametrize("name", SETS)
def test_the_gap_lies_between_its_bounds(name, kind):
    rng = np.random.default_rng(3)
    factor, skew = rng.normal(size=(2, 6, 6))
    basis = np.linalg.qr(factor)[0]
    spectrum = {
        "general": np.linspace(0.1, 1, 6),
        "skew": np.zeros(6),
        "ill-conditioned": np.geomspace(1e-6, 1, 6),
        "singular": np.array([0, 0, 0, 0.5, 1, 1]),
    }[kind]
    matrix = (basis * spectrum) @ basis.T + (skew - skew.T) / 4
    offset = rng.normal(size=6)
    bounded = SETS[name]
    with jax.enable_x64(True):
        bounds = jax.jit(lambda x: certified.gap_bounds(matrix, offset, bounded, x))
        for _ in range(4):
            x = bounded.project(jnp.asarray(rng.normal(size=6)))
            lower, upper = map(float, bounds(x))
            starts = [x, bounded.project(jnp.asarray(rng.normal(size=6)))]
            found = [largest(matrix, offset, bounded, np.asarray(x), y) for y in starts]
            expected = max(0, *found)
            assert lower <= upper <= lower + 1e-9 * upper + 1e-14
            np.testing.assert_allclose(upper, expected, rtol=1e-6, atol=1e-8)
            assert expected <= upper * (1 + 1e-9) + 1e-14  # SLSQP leaves the set a bit
    single = certified.gap_bounds(matrix, offset, bounded, x.astype(jnp.float32))
    np.testing.assert_allclose(single, (lower, upper), rtol=1e-4, atol=1e-5)


def test_bounds_hold_where_the_steps_run_out(monkeypatch):
    monkeypatch.setattr(certified, "_STEPS", 3)
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = (basis * np.geomspace(1e-4, 1, 6)) @ basis.T
    offset, bounded = rng.normal(size=6), SETS["box"]
    with jax.enable_x64(True):
        x = bounded.project(jnp.asarray(rng.normal(size=6)))
        lower, upper = certified.gap_bounds(matrix, offset, bounded, x)
        expected = largest(matrix, offset, bounded, np.asarray(x), x)
        assert lower <= expected + 1e-9
        assert expected <= upper
        assert upper - lower > 1e-6
