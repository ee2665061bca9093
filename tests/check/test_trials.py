"""Exchanges run of vectors made for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.check import trials
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.plainly
LIKE = {"a": jnp.zeros((8, 4)), "b": jax.ShapeDtypeStruct((3,), jnp.bfloat16)}


@pytest.mark.quick
def test_trees_are_those_that_are_wanted():
    found = trials.tree_of(jnp.arange(35.0), LIKE)
    assert found["a"].shape == (8, 4)
    assert found["b"].dtype == jnp.bfloat16
    assert found["b"].tolist() == [32, 33, 34]


@pytest.mark.quick
def test_vectors_differ_or_do_not():
    unlike = trials.vectors(3, LIKE, 0, equal=False)
    alike = trials.vectors(3, LIKE, 0, equal=True)
    assert unlike.shape == alike.shape == (3, 35)
    assert (alike == alike[0]).all()
    assert (unlike[0] != unlike[1]).any()


def test_an_exact_exchange_has_no_error_and_equal_prints():
    found = trials.trials(
        qgenx.exchange(AXIS, None), mesh_of(3), LIKE, 4, 0, equal=False
    )
    assert np.abs(found.errors).max() < 1e-5
    assert (found.prints == found.prints[:, :1]).all()
    assert found.products is not None
    assert (found.products == 0).all()


def test_errors_are_those_of_other_keys():
    one = qgenx.exchange(AXIS, qgenx.uniform(2))
    found = trials.trials(one, mesh_of(3), LIKE, 4, 0, equal=True)
    assert len({error.tobytes() for error in found.errors}) == 4
    again = trials.trials(one, mesh_of(3), LIKE, 4, 0, equal=True)
    np.testing.assert_array_equal(found.errors, again.errors)
