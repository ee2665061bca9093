"""Constants of affine operators against random pairs of points, and closed forms."""

import numpy as np
import pytest

from qgenx_jax.problems import spectra

pytestmark = pytest.mark.quick

ROTATION = np.array([[0.0, 1.0], [-1.0, 0.0]])
PSD = np.diag([2.0, 0.5, 0.0])
MATRICES = {
    # B: mu, beta
    "identity": (np.eye(2), 1.0, 1.0),
    "rotation": (ROTATION, 0.0, None),
    "spiral": (np.eye(2) + 2 * ROTATION, 1.0, 1 / 5),
    "singular": (PSD, 0.0, 0.5),
    "zero": (np.zeros((2, 2)), 0.0, float("inf")),
    "indefinite": (np.diag([1.0, -0.1]), None, None),
    "rotation beside a quadratic": (
        np.block([[ROTATION, np.zeros((2, 1))], [np.zeros((1, 2)), np.eye(1)]]),
        0.0,
        None,
    ),
}


def near(expected):
    return expected if expected is None else pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MATRICES)
def test_constants_are_those_of_closed_forms(name, dtype):
    matrix, strong, cocoercive = MATRICES[name]
    assert spectra.strong(matrix.astype(dtype)) == near(strong)
    if name != "indefinite":
        found = spectra.cocoercive(matrix.astype(dtype))
        assert found == near(cocoercive)


def test_constants_hold_for_random_pairs_and_no_larger_ones_do():
    rng = np.random.default_rng(0)
    for _ in range(20):
        factor, skew = rng.normal(size=(2, 4, 4))
        matrix = factor @ factor.T / 4 + (skew - skew.T)
        strong, cocoercive = spectra.strong(matrix), spectra.cocoercive(matrix)
        assert strong is not None
        assert cocoercive is not None
        z = rng.normal(size=(4, 2000))
        inner = ((matrix @ z) * z).sum(axis=0)
        assert (inner >= strong * (z**2).sum(axis=0) - 1e-9).all()
        assert (inner >= cocoercive * ((matrix @ z) ** 2).sum(axis=0) - 1e-9).all()
        # the least of <z, B z> - beta |B z|^2 is 0: beta cannot be larger
        symmetric = (matrix + matrix.T) / 2
        least = np.linalg.eigvalsh(symmetric - cocoercive * matrix.T @ matrix)[0]
        assert least == pytest.approx(0, abs=1e-9)


def test_all_constants_at_once():
    found = spectra.constants(np.eye(2) + 2 * ROTATION)
    expected = {"lipschitz": 5**0.5, "strong": 1.0, "cocoercive": 0.2}
    assert found == pytest.approx(expected)


def test_non_monotone_matrices_are_refused():
    spectra.refuse_non_monotone(PSD)
    message = "matrix must have a positive .* got an eigenvalue of -0.1: look at"
    with pytest.raises(ValueError, match=f"^{message}"):
        spectra.refuse_non_monotone(np.diag([1.0, -0.1]))
