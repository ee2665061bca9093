"""What the protocol promises, for every problem of the room."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

problems = qgenx.problems
FEATURES = np.random.default_rng(0).normal(size=(11, 3))
LABELS = np.sign(FEATURES[:, 0] + np.random.default_rng(1).normal(size=11))
PROBLEMS = {
    "bilinear": lambda: problems.bilinear(6),
    "quadratic_game": lambda: problems.quadratic_game(5),
    "cocoercive": lambda: problems.cocoercive(5, condition=10, skew=0.3),
    "box": lambda: problems.constrained(problems.quadratic_game(5), box=(-0.3, 0.3)),
    "orthant": lambda: problems.constrained(
        problems.quadratic_game(5), box=(0.0, np.inf)
    ),
    "simplex": lambda: problems.constrained(problems.quadratic_game(5), simplex=True),
    "matrix_game": lambda: problems.random_matrix_game(4, 3, seed=1),
    "rock_paper_scissors": problems.rock_paper_scissors,
    "kuhn_poker": problems.kuhn_poker,
    "equality_constrained": lambda: problems.equality_constrained(
        np.diag([1.0, 0.0, 2.0]), np.ones(3), np.array([[1.0, 2.0, 0.0]]), np.ones(1)
    ),
    "resource_allocation": lambda: problems.resource_allocation(
        [2.0, 1.0, 1.5], [1.0, 0.5, 2.0], [[1.0, 1.0, 0.2], [0.1, 2.0, 1]], [1.0, 9.0]
    ),
    "least_squares": lambda: problems.least_squares(FEATURES, LABELS, ridge=0.1),
    "logistic_regression": lambda: problems.logistic_regression(FEATURES, LABELS),
    "robust_logistic_regression": lambda: problems.robust_logistic_regression(
        FEATURES, LABELS
    ),
    "dirac_gan": problems.dirac_gan,
    "wasserstein_gan_2d": lambda: problems.wasserstein_gan_2d(16, width=3),
}
NON_MONOTONE = {"dirac_gan", "wasserstein_gan_2d"}


def points(problem, seed, count=2):
    """Feasible points around the start."""
    flat, unravel = ravel_pytree(problem.start)
    project = problem.projection or (lambda x: x)
    moves = np.random.default_rng(seed).normal(size=(count, flat.size))
    return [project(unravel(flat + jnp.asarray(z, flat.dtype))) for z in moves]


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_follows_the_protocol(name):
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        assert isinstance(problem, problems.Problem)
        vector = problem.operator(problem.start)
        assert jax.tree.structure(vector) == jax.tree.structure(problem.start)
        assert jnp.shape(flat(vector)) == jnp.shape(flat(problem.start))
        if problem.solution is not None:
            structure = jax.tree.structure(problem.start)
            assert jax.tree.structure(problem.solution) == structure
            if name not in NON_MONOTONE:
                gap = problem.gap(problem.solution)
                assert float(gap) == pytest.approx(0, abs=1e-8)
                assert float(problem.gap(problem.start)) > 1e-6


@pytest.mark.parametrize("name", PROBLEMS)
def test_starts_solutions_and_projections_are_feasible(name):
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        if problem.projection is None:
            return
        feasible = [problem.start, *points(problem, 1)]
        if problem.solution is not None:
            feasible.append(problem.solution)
        for point in feasible:
            once = problem.projection(point)
            np.testing.assert_allclose(flat(once), flat(point), atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_constants_hold_for_random_pairs(name):
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        operator = jax.jit(problem.operator)
        for seed in range(30):
            x, y = points(problem, seed)
            difference = flat(operator(x)) - flat(operator(y))
            step = flat(x) - flat(y)
            inner, square = difference @ step, step @ step
            if problem.strong is not None:
                assert inner >= problem.strong * square - 1e-10
            if problem.lipschitz is not None:
                bound = problem.lipschitz**2 * square
                assert difference @ difference <= bound * (1 + 1e-9) + 1e-12
            if problem.cocoercive is not None:
                bound = problem.cocoercive * (difference @ difference)
                assert inner >= bound * (1 - 1e-9) - 1e-10


@pytest.mark.parametrize("name", PROBLEMS)
def test_workers_operators_average_to_the_operator(name):
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        oracle = problem.oracle(workers=3, spread=0.7)
        (x,) = points(problem, 5, 1)
        key = jax.random.key(0)
        own = [flat(oracle(x, key, worker)) for worker in range(3)]
        np.testing.assert_allclose(
            np.mean(own, axis=0), flat(problem.operator(x)), rtol=1e-12, atol=1e-12
        )
        assert np.abs(own[0] - own[1]).max() > 1e-3


@pytest.mark.parametrize("name", PROBLEMS)
def test_oracles_and_gaps_can_be_mapped(name):
    """In float32, as most users run them."""
    problem = PROBLEMS[name]()
    two = jax.tree.map(lambda *x: jnp.stack(x), *points(problem, 3))
    oracle = problem.oracle("absolute", 0.1, workers=2, spread=0.5)
    keys = jax.random.split(jax.random.key(0), 2)
    g = jax.jit(jax.vmap(oracle))(two, keys, jnp.arange(2))
    assert jax.tree.map(jnp.shape, g) == jax.tree.map(jnp.shape, two)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(g))
    if name not in NON_MONOTONE:
        gaps = jax.jit(jax.vmap(problem.gap))(two)
        assert gaps.shape == (2,)
        assert (gaps > 0).all()
