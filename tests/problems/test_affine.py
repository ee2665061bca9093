"""The problems with known solutions: spectra, gaps and noise."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import qgenx_jax as qgenx
from tests.lib.helpers import assert_trees_identical, within_5_sigma

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

X = np.ones(3, np.float32)
problems = qgenx.problems
PROBLEMS = {
    "bilinear": lambda: problems.bilinear(8, seed=1),
    "quadratic": lambda: problems.quadratic_game(7, strong=0.2, seed=2),
    "cocoercive": lambda: problems.cocoercive(5, condition=1e3, skew=0.4, seed=3),
}

LEAST = {"bilinear": 0, "quadratic": 0.4, "cocoercive": 2e-3}


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_monotone_with_that_solution(name):
    with jax.enable_x64(True):
        problem = PROBLEMS[name]()
        eigenvalues = np.linalg.eigvalsh(np.asarray(problem.matrix + problem.matrix.T))
        assert eigenvalues.min() >= LEAST[name] - 1e-12
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
    "players": lambda a: a @ a,
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


def test_defaults_of_the_problems_are_the_documented_ones():
    problems = qgenx.problems
    assert_trees_identical(
        problems.bilinear(), problems.bilinear(20, seed=0, distance=1.0), "bilinear"
    )
    assert_trees_identical(
        problems.quadratic_game(),
        problems.quadratic_game(20, strong=0.1, seed=0, distance=1.0),
        "quadratic game",
    )
    assert_trees_identical(
        problems.cocoercive(),
        problems.cocoercive(20, condition=100, skew=0, seed=0, distance=1.0),
        "cocoercive",
    )
    for method, name in (
        (problems.AffineProblem.gap, "radius"),
        (problems.AffineProblem.oracle, "size"),
    ):
        assert inspect.signature(method).parameters[name].default == 1.0


def test_spectra_of_the_problems_are_the_documented_ones():
    with jax.enable_x64(True):
        for strong, d, seed in [(0.25, 6, 0), (1.0, 6, 0), (0.5, 2, 0), (0.5, 2, 1)]:
            problem = qgenx.problems.quadratic_game(
                d, strong=strong, seed=seed, distance=3.0
            )
            matrix = np.asarray(problem.matrix)
            symmetric, skew = (matrix + matrix.T) / 2, (matrix - matrix.T) / 2
            expected = np.geomspace(strong, 1, d)
            np.testing.assert_allclose(np.linalg.eigvalsh(symmetric), expected)
            np.testing.assert_allclose(np.linalg.norm(skew, 2), 1 - strong, atol=1e-15)
            np.testing.assert_allclose(np.linalg.norm(problem.solution), 3.0)
        matrix = np.asarray(qgenx.problems.bilinear(6).matrix)
        np.testing.assert_array_equal(matrix, -matrix.T)
        np.testing.assert_allclose(np.linalg.norm(matrix, 2), 1)
        assert (matrix[:3, :3] == 0).all()


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_cocoercive_problem_has_the_documented_constants(dimension):
    for skew in (0.0, 0.7):
        options = {"condition": 1e6, "skew": skew, "seed": 1}
        with jax.enable_x64(True):
            problem = problems.cocoercive(dimension, **options)
            matrix = np.asarray(problem.matrix)
            spectrum = np.linalg.eigvalsh((matrix + matrix.T) / 2)
            expected = np.geomspace(1, 1e-6, dimension)[::-1]
            np.testing.assert_allclose(spectrum, expected, rtol=1e-9)
            turned = skew if dimension > 1 else 0.0
            assert problem.cocoercive == pytest.approx(1 / (1 + turned**2))
            assert problem.strong == pytest.approx(expected[0])
            assert problem.lipschitz == pytest.approx(np.linalg.norm(matrix, 2))
    single = problems.cocoercive(dimension, condition=1e6, seed=1)  # in float32
    assert single.cocoercive == pytest.approx(1, rel=1e-3)
    assert single.strong == pytest.approx(expected[0], rel=0.2)


def test_the_constants_of_the_older_problems():
    assert problems.bilinear(8).lipschitz == pytest.approx(1)
    assert problems.bilinear(8).strong == 0.0
    assert problems.bilinear(8).cocoercive is None
    assert problems.quadratic_game(6, strong=0.2).strong == pytest.approx(0.2)
    assert problems.bilinear(8).projection is None
    assert (problems.bilinear(8).start == 0).all()


def test_limits_of_arguments():
    """The last value that is allowed, and the first that is not."""
    problems = qgenx.problems
    assert problems.bilinear(2).solution.shape == (2,)
    assert problems.quadratic_game(1, strong=1).matrix == pytest.approx(1)
    assert (problems.bilinear(2, distance=0).solution == 0).all()
    for wrong in (0, -2):
        with pytest.raises(ValueError, match=r"dimension must be a whole number"):
            problems.bilinear(wrong)
    for strong in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"strong must be in \(0, 1\]"):
            problems.quadratic_game(3, strong=strong)


def problem():
    return qgenx.problems.bilinear(4)


POSITIVE = "must be a positive, finite number, got "
ROWS = {
    "dimension": (
        lambda: qgenx.problems.bilinear(3),
        "dimension must be even, got 3: players share it",
    ),
    "seed None, which would not be repeated": (
        lambda: qgenx.problems.bilinear(4, seed=None),
        "seed must be a whole number of at least 0, got None: pass an int",
    ),
    "distance": (
        lambda: qgenx.problems.bilinear(4, distance=np.inf),
        "distance must be a finite number of at least 0, got inf: 1.0 is usual",
    ),
    "strong": (
        lambda: qgenx.problems.quadratic_game(3, strong=0),
        r"strong must be in \(0, 1\], got 0: 0.1 is the default",
    ),
    "noise": (
        lambda: problem().oracle("laplace"),
        "noise must be one of 'none', .*, got 'laplace': choose",
    ),
    "noise of negative size": (
        lambda: problem().oracle("absolute", -1.0),
        "size must be a finite number of at least 0, got -1.0: 1.0 is the default",
    ),
    "condition": (
        lambda: qgenx.problems.cocoercive(3, condition=0.5),
        "condition must be a finite number of at least 1, got 0.5: 100.0 is the def",
    ),
    "skew": (
        lambda: qgenx.problems.cocoercive(3, skew=-1),
        "skew must be a finite number of at least 0, got -1: 0.0, the default, is",
    ),
    "a gap that means nothing": (
        lambda: qgenx.problems.AffineProblem(-jnp.eye(3), X, X).gap(X),
        "matrix must have a positive semi-definite symmetric part, .* of -1: look at",
    ),
    "radius": (
        lambda: problem().gap(X, np.inf),
        "radius " + POSITIVE + "inf: 1.0 is usual",
    ),
    "a point of another shape, which would be broadcast": (
        lambda: problem().operator(np.ones((4, 4))),
        r"x must be an array of shape \(4,\), got \(4, 4\): use jax.vmap over points",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
