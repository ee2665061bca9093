"""Rows that are split over workers, and labels that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.problems import data

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=8)


def test_rows_belong_to_workers_in_runs():
    np.testing.assert_array_equal(data.owners(7, 3), [0, 0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(data.owners(4, 4), [0, 1, 2, 3])


def test_a_worker_has_the_problem_of_its_own_rows():
    with jax.enable_x64(True):
        whole = qgenx.problems.least_squares(X, Y, ridge=0.2)
        x = {"weights": jnp.array([0.3, -1.0, 2.0])}
        full = whole.oracle(workers=2, spread=1.0)
        half = whole.oracle(workers=2, spread=0.5)
        for worker, rows in enumerate((slice(0, 4), slice(4, 8))):
            own = qgenx.problems.least_squares(X[rows], Y[rows], ridge=0.2)
            key, expected = jax.random.key(0), own.operator(x)["weights"]
            found = full(x, key, worker)["weights"]
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            between = (expected + whole.operator(x)["weights"]) / 2
            found = half(x, key, worker)["weights"]
            np.testing.assert_allclose(found, between, rtol=1e-12)


def test_more_workers_than_rows_are_refused():
    problem = qgenx.problems.least_squares(X, Y)
    oracle = problem.oracle(workers=9, spread=1.0)
    message = "workers must be a whole number from 1 to 8, got 9"
    with pytest.raises(ValueError, match=f"^{message}"):
        oracle(problem.start, jax.random.key(0), 0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "labels must be -1 or 1, got 0 among them: for labels 0 and 1 pass"),
        ([1, 1, 1], r"labels must be an array .* of shape \(2\), got shape \(3,\)"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        data.labelled(np.ones((2, 1)), labels)
