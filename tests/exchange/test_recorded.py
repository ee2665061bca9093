"""Recorded vectors and the variances on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._exchange.recorded import recorded

pytestmark = [pytest.mark.quick, pytest.mark.plainly]
RNG = np.random.default_rng(0)
TREES = [
    {"a": RNG.normal(size=(40, 50)).astype("f4"), "b": RNG.normal(size=300) * 9}
    for _ in range(2)
]
TREES = [jax.tree.map(lambda x: x.astype("f4"), tree) for tree in TREES]
QUANTIZERS = [qgenx.uniform(3, bucket_size=128), qgenx.min_max(4), qgenx.exponential(4)]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_the_variance_is_the_exact_one_of_leaves_one_after_the_other(quantizer):
    of = recorded(TREES, None)
    exact = [
        qgenx.bounds.exact_variance(
            np.concatenate([tree["a"].ravel(), tree["b"]]), quantizer
        ).sum()
        for tree in TREES
    ]
    assert of.variance([0, 1], quantizer) == pytest.approx(np.mean(exact), rel=2e-3)
    assert of.variance([0, 1], None) == 0
    norms = [sum(np.sum(np.square(x, dtype="f8")) for x in t.values()) for t in TREES]
    assert of.energy([0, 1]) == pytest.approx(np.mean(norms))


def test_weights_multiply_errors():
    quantizer = qgenx.uniform(3, bucket_size=None)
    plain = recorded(TREES, None)
    for weights in (
        {"a": 3.0, "b": 0},
        {"a": np.full((40, 50), 3), "b": np.zeros(300)},
    ):
        of = recorded(TREES, weights)
        nine = 9 * plain.variance([0], quantizer)
        assert of.variance([0], quantizer) == pytest.approx(nine)
        assert of.variance([1], quantizer) == 0
        assert of.energy([0, 1]) == pytest.approx(9 * plain.energy([0]))
    each = np.zeros((40, 50))
    each[3, 7] = 2.0
    of = recorded(TREES, {"a": each, "b": 0.0})
    u = [tree["a"].ravel() / np.abs(tree["a"]).max() * 3 for tree in TREES]  # steps
    scale = [np.abs(tree["a"]).max() / 3 for tree in TREES]
    places = [x[3 * 50 + 7] - np.floor(x[3 * 50 + 7]) for x in u]
    by_hand = [4 * s**2 * f * (1 - f) for s, f in zip(scale, places, strict=True)]
    assert of.variance([0], quantizer) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_a_weight_for_a_subtree():
    tree = {"x": TREES[0], "y": TREES[1]}
    of = recorded([tree], {"x": 2.0, "y": 1.0})
    assert of.energy([0, 1]) == pytest.approx(
        4 * recorded([TREES[0]], None).energy([0, 1])
    )
    assert of.paths == ["['x']['a']", "['x']['b']", "['y']['a']", "['y']['b']"]


def test_narrow_leaves_are_widened_and_zeros_are_told():
    of = recorded([{"a": jnp.ones(3, jnp.bfloat16), "b": jnp.zeros(2)}], None)
    assert of.leaves[0][0].dtype == np.float32
    assert not of.is_zero([0])
    assert of.is_zero([1])
    assert (of.size, of.sizes) == (5, [3, 2])


NAN = {"a": TREES[0]["a"], "b": np.full(300, np.nan, "f4")}
REFUSED = {
    "no vector": ([], None, r"vectors must be one dual vector at least"),
    "no leaf": ([{}], None, r"vectors must have a coordinate at least"),
    "no coordinate": ([{"a": np.zeros(0, "f4")}], None, r"must have a coordinate at"),
    "whole numbers": ([{"a": np.ones(3, int)}], None, r"real floating-point array"),
    "a NaN": ([NAN], None, r"leaf \['b'\] of vectors must be finite, got a NaN"),
    "zeros": ([{"a": np.zeros(3, "f4")}], None, r"must have a coordinate other than"),
    "another tree": (
        [TREES[0], NAN["b"]],
        None,
        r"vectors\[1\] must have the tr",
    ),
    "another model": ([TREES[0]], {"c": 1.0}, r"weights must be a prefix of the vec"),
    "another shape": (
        [TREES[0]],
        {"a": np.ones(3), "b": 1},
        r"leaf \['a'\] of wei",
    ),
    "negative": ([TREES[0]], {"a": -1.0, "b": 1}, r"at least 0, got -1.0"),
    "text": ([TREES[0]], {"a": "1", "b": 1}, r"weights must be real, finite"),
    "infinite": ([TREES[0]], {"a": 1, "b": np.full(300, np.inf)}, r"an array with"),
    "no weight": ([TREES[0]], 0.0, r"weights must be positive for a coordinate"),
}


@pytest.mark.parametrize(
    ("vectors", "weights", "message"), REFUSED.values(), ids=REFUSED
)
def test_what_cannot_be_planned_for_is_refused(vectors, weights, message):
    with pytest.raises(ValueError, match=message):
        recorded(vectors, weights)


def test_traced_vectors_are_refused():
    with pytest.raises(ValueError, match=r"vectors must be known, got a traced array"):
        jax.jit(lambda x: recorded([x], None).size)(jnp.ones(3))
