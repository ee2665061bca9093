"""Mistakes in arguments of `bounds` are refused, and told what to do."""

import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick

bound = qgenx.bounds.variance_bound
exact = qgenx.bounds.exact_variance
X = np.ones(3, np.float32)
VARIANCE = {
    "form": (
        lambda: bound(qgenx.uniform(4), 9, form="best"),
        "form must be one of 'theorem', 'sharp', got 'best': choose one of them",
    ),
    "size": (
        lambda: bound(qgenx.uniform(4), 0),
        "size must be a whole number of at least 1, got 0: pass an int",
    ),
    "workers": (
        lambda: bound(qgenx.uniform(4), 9, workers=0.5),
        "workers must be a whole number of at least 1, got 0.5: pass an int",
    ),
    "None": (
        lambda: bound(None, 9),
        "quantizer must be a Quantizer, got None: pass one, or levels in its place",
    ),
    "second": (
        lambda: bound(qgenx.uniform(4), 9, second=[0.5]),
        "norm must be one of 1, 2, inf, got None: choose",
    ),
    "norm twice": (
        lambda: bound(qgenx.uniform(4), 9, norm=2),
        "norm must be left out where a quantizer has one, got 2: leave it out",
    ),
    "no norm": (
        lambda: bound([0.5, 1.0], 9),
        "norm must be one of 1, 2, inf, got None: choose one of them",
    ),
    "levels for uniform": (
        lambda: bound(qgenx.uniform(4), 9, levels=np.ones(3, np.float32)),
        "levels must be left out where the family fixes them, got .*: make",
    ),
    "levels for levels": (
        lambda: bound([0.5, 1.0], 9, levels=np.ones(2), norm=2),
        r"quantizer must be a Quantizer, got \[0.5, 1.0\]: pass one",
    ),
}
VECTORS = {
    "integers": (
        lambda: exact(np.arange(3), qgenx.uniform(4)),
        "vector must be a real floating-point array, got int32: cast it",
    ),
    "tree": (
        lambda: exact({"a": X}, qgenx.uniform(4)),
        "vector must be one array, got",
    ),
    "None": (lambda: exact(None, qgenx.uniform(4)), "vector must be a tree, .* None"),
    "quantizer": (
        lambda: exact(X, 4),
        "quantizer must be of type Quantizer, got int: make one",
    ),
    "levels": (
        lambda: exact(X, qgenx.uniform(4), levels=X),
        "levels must be left out where the family fixes them, got .*: make",
    ),
    "no coordinate": (
        lambda: qgenx.bounds.code_probabilities(X[:0], qgenx.uniform(4)),
        r"vector must have a coordinate at least, got \(0,\): leave it out",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(*row, id=name)
        for name, row in [*VARIANCE.items(), *VECTORS.items()]
    ],
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
