"""What an exchange remembers, as users and checkpoints see it."""

import jax
import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick


def test_the_fields_are_those_that_a_configuration_needs():
    exact = qgenx.exchange("data", None).init()
    fixed = qgenx.exchange("data", qgenx.uniform(4)).init()
    given = qgenx.exchange("data", qgenx.user_levels([0.1, 1.0])).init()
    fitted = qgenx.exchange("data", qgenx.adaptive(3)).init()
    for state in (exact, fixed):
        assert state.levels == {}
        assert state.adaptation is None
    np.testing.assert_allclose(given.levels["all"], [0.1, 1.0], rtol=2**-12)
    assert given.adaptation is None
    np.testing.assert_allclose(fitted.levels["all"] * 7, [1, 3, 5, 7], rtol=2**-11)
    assert int(fitted.adaptation.count) == 0
    assert float(fitted.adaptation.predicted["all"]) == 0


def test_all_of_it_is_plain_arrays_that_are_equal_on_all_workers():
    state = qgenx.exchange("data", qgenx.adaptive(3)).init()
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
    assert state.per_worker is None
    specs = qgenx.state_specs(state, "data")
    assert set(jax.tree.leaves(specs)) == {jax.P()}
