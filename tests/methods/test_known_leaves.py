"""Trees with hidden leaves, put together by hand."""

import jax
import numpy as np
import optax
import pytest

from qgenx_jax._methods import known_leaves

pytestmark = pytest.mark.quick
HIDDEN = optax.MaskedNode()
PARAMS = {"a": {"x": np.ones(2), "y": np.zeros(3)}, "b": (np.ones(1), None)}
HEAD = {"a": HIDDEN, "b": (np.full(1, 7.0), None)}
Y = {"a": {"x": HIDDEN, "y": np.full(3, 5.0)}, "b": HIDDEN}


def assert_equal(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, tree, expected)


def test_what_is_hidden_is_hidden_in_the_parameters_too():
    seen = known_leaves.hidden_like(PARAMS, HEAD, "pass them")
    assert_equal(seen, {"a": HIDDEN, "b": (np.ones(1), None)})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"b": PARAMS["b"]}, r"params must have the tree structure of the state"),
        (PARAMS | {"b": (np.ones(9), None)}, r"leaf \['b'\]\[0\] of params .*\(1,\)"),
        (PARAMS | {"b": 1.0}, r"params must have the tree structure of the state"),
    ],
)
def test_other_parameters_are_refused(params, words):
    with pytest.raises(ValueError, match=words):
        known_leaves.hidden_like(params, HEAD, "pass them")


@pytest.mark.parametrize("parts", [(HEAD, Y), (Y, HEAD)])
def test_each_part_says_what_it_knows_and_the_parameters_the_rest(parts):
    whole = known_leaves.overlaid(parts, "Average", "pass one")
    expected = {"a": {"x": HIDDEN, "y": np.full(3, 5.0)}, "b": HEAD["b"]}
    assert_equal(whole, expected)
    a = {"x": np.ones(2), "y": np.full(3, 5.0)}
    assert_equal(known_leaves.filled(whole, PARAMS), {"a": a, "b": HEAD["b"]})


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (HEAD, HEAD, r"exactly one Average .* 2 of them that know leaf \['b'\]\[0\]"),
        (np.ones(2), np.ones(2), r"got 2 of them that know params: pass one"),
        (Y, {"a": (HIDDEN, 1.0), "b": HIDDEN}, r"that know leaf \['a'\] of params"),
    ],
)
def test_two_that_know_one_leaf_are_refused(one, other, words):
    with pytest.raises(ValueError, match=words):
        known_leaves.overlaid([one, other], "Average", "pass one")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}),
        ({"a": HIDDEN, "b": {"c": 2, "d": 3}}, {"c": 2, "d": 3}),
        ({"a": 1, "b": HIDDEN, "c": (4, HIDDEN)}, [1, 4]),
        ({"a": HIDDEN}, []),
        (HIDDEN, []),
        (5, 5),
    ],
)
def test_what_is_seen(tree, expected):
    assert known_leaves.seen(tree) == expected
