"""Boxes and simplices in place of the whole space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

problems = qgenx.problems


def game():
    return problems.quadratic_game(6, seed=1)


@pytest.mark.parametrize("options", [{"box": (-0.2, 0.2)}, {"simplex": True}])
def test_the_solution_is_partly_on_the_boundary_and_is_reached(options):
    """By extra-gradient, which shares nothing with how the solution was computed."""
    with jax.enable_x64(True):
        problem = problems.constrained(game(), **options)
        x = problem.start

        @jax.jit
        def step(x):
            half = problem.projection(x - 0.5 * problem.operator(x))
            return problem.projection(x - 0.5 * problem.operator(half))

        for _ in range(600):
            x = step(x)
        np.testing.assert_allclose(x, problem.solution, atol=1e-9)
        ends = np.isin(np.asarray(problem.solution), [-0.2, 0.0, 0.2])
        assert 0 < ends.sum() < 6
        assert float(problem.gap(x)) < 1e-8
        assert jnp.linalg.norm(problem.operator(problem.solution)) > 1e-3


def test_the_gap_of_a_part_of_the_box():
    with jax.enable_x64(True):
        problem = problems.constrained(game(), box=(-0.2, 0.2))
        small, large = problem.gap(problem.start, 0.01), problem.gap(problem.start, 9.0)
        assert small < large
        assert large == pytest.approx(float(problem.gap(problem.start)), rel=1e-8)
        orthant = problems.constrained(game(), box=(0.0, np.inf))
        default = orthant.gap(orthant.start)
        assert default == pytest.approx(float(orthant.gap(orthant.start, 1.0)))


def test_constants_are_those_of_the_affine_problem():
    problem = problems.constrained(game(), box=(np.full(6, -1.0), 1.0))
    for name in ("lipschitz", "strong", "cocoercive"):
        assert getattr(problem, name) == getattr(game(), name)


def refused(**options):
    return lambda: problems.constrained(game(), **options)


def non_monotone():
    x = jnp.ones(2)
    wrong = problems.AffineProblem(-jnp.eye(2), x, x)
    return problems.constrained(wrong, box=(0, 1))


ROWS = {
    "no set": (refused(), "box must be given where simplex is not True, .* got None"),
    "two sets": (refused(box=(0, 1), simplex=True), "box must be given where simplex"),
    "one end": (refused(box=1.0), r"box must be \(low, high\), .* got 1.0: pass for"),
    "order": (refused(box=(1.0, 0.0)), r"box must be .* low <= high, got \(1.0, 0.0\)"),
    "shape": (refused(box=(np.zeros(3), 1.0)), r"box must be .* got shapes \[\(3,\)"),
    "nan": (refused(box=(np.nan, 1.0)), r"box must be \(low, high\)"),
    "start": (
        refused(box=(0, 1), start=jnp.full(6, 1.5)),
        "start must be a feasible point, got one whose projection is 0.5 away: pass",
    ),
    "start of another shape": (
        refused(box=(0, 1), start=jnp.zeros(5)),
        r"start must have the shape \(6,\)",
    ),
    "problem": (
        lambda: problems.constrained(np.eye(2), box=(0, 1)),
        "problem must be of type AffineProblem, got ndarray: pass for instance bilin",
    ),
    "not monotone": (non_monotone, "matrix must have a positive semi-definite symmet"),
    "radius on a simplex": (
        lambda: problems.constrained(game(), simplex=True).gap(jnp.ones(6) / 6, 1.0),
        "radius must be left out on simplices",
    ),
}


@pytest.mark.parametrize(
    ("call", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
