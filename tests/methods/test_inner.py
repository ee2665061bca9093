"""Plain transformations within others: which may be, and whose state they get."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from qgenx_jax._methods.inner import Plain, check_plain
from tests.lib.helpers import traced

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

X = jnp.array([1.0, -2.0])
PAIR = qgenx.extra_sgd(0.1)
PLAIN = {
    "optax's": optax.adam(0.1),
    "with extra arguments": optax.with_extra_args_support(optax.sgd(0.1)),
    "ours": qgenx.quantized_mean(None, None, exact=None),
    "a chain": optax.chain(optax.clip(1.0), optax.sgd(0.1)),
}
NOT_PLAIN = {
    "pair": (PAIR, r"got ExtragradientPair"),
    "extrapolation": (PAIR.extrapolation, r"got one side of a pair"),
    "update": (PAIR.update, r"got one side of a pair"),
    "function": (optax.adam, r"got <function adam"),
    "nothing": (None, r"got None"),
}
WHOLE = {
    "alternating": qgenx.alternating(PAIR),
    "accumulate": qgenx.accumulate(2, optax.sgd(0.1)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_transformations_pass(name):
    check_plain("base", PLAIN[name], "pass another one")
    check_plain("base", PLAIN[name], "pass another one", may_be_whole=True)


@pytest.mark.parametrize("name", NOT_PLAIN)
@pytest.mark.parametrize("may_be_whole", [False, True])
def test_pairs_and_their_sides_are_refused(name, may_be_whole):
    value, found = NOT_PLAIN[name]
    rule = r"^base must be an optax.GradientTransformation, .*"
    with pytest.raises(ValueError, match=rule + found + r".*: pass another one$"):
        check_plain("base", value, "pass another one", may_be_whole=may_be_whole)


@pytest.mark.parametrize("name", WHOLE)
def test_what_goes_around_all_else_is_refused_inside(name):
    check_plain("optimizer", WHOLE[name], "no", may_be_whole=True)
    with pytest.raises(ValueError, match=r"got what alternating, accumulate or"):
        check_plain("base", WHOLE[name], "put it around")


def test_the_update_is_the_transformations_own():
    """Heavy-ball momentum, in NumPy."""
    rate, decay = 0.25, 0.5
    base = optax.sgd(rate, momentum=decay)
    update, state, trace = Plain("base", base).update, base.init(X), np.zeros(2)
    for vector in np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32):
        moves, state = update(jnp.asarray(vector), state, X)
        trace = vector + decay * trace
        np.testing.assert_allclose(moves, -rate * trace, rtol=1e-6)


def test_extra_arguments_reach_those_that_know_them():
    def scaled(updates, state, params=None, *, by, **extra):
        return jax.tree.map(lambda x: by * x, updates), state

    knows = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), scaled)
    found, _ = Plain("base", knows).update(X, optax.EmptyState(), X, by=3, other=1)
    np.testing.assert_array_equal(found, [3, -6])
    ignores = optax.scale(2.0)
    found, _ = Plain("base", ignores).update(X, ignores.init(X), X, by=3)
    np.testing.assert_array_equal(found, [2, -4])


def test_a_state_of_another_transformation_or_other_parameters_is_refused():
    update = Plain("base", optax.adam(0.1)).update
    rule = r"state must be, for a transformation inside, of the structure .*: make the"
    for state in (optax.sgd(0.1).init(X), optax.adam(0.1).init({"x": X}), None):
        with pytest.raises(ValueError, match=rule):
            traced(lambda state=state: update(X, state, X))


def test_a_state_made_from_values_is_taken_as_it_is():
    """Its structure cannot be known from shapes, so there is nothing to compare."""

    def init(params):
        return [jnp.zeros(())] * int(abs(params).sum())

    base = optax.GradientTransformation(init, lambda updates, s, p=None: (updates, s))
    state = init(X)
    assert len(state) == 3
    found, after = jax.jit(Plain("base", base).update)(X, state, X)
    np.testing.assert_array_equal(found, X)
    assert len(after) == 3
