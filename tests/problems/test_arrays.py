"""What is an array of finite numbers of a shape, and what is not."""

import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax.problems.arrays import real_array

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("value", [[[1, 2]], np.ones((3, 2)), jnp.ones((1, 2), int)])
def test_arrays_that_fit_become_float64(value):
    found = real_array("a", value, (None, 2))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([1, 2], r"shape \(2,\)"),
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (np.ones((0, 2)), r"shape \(0, 2\)"),
        ([[1, np.nan]], "inf or nan"),
        ("ab", "str"),
        ([[1], [1, 2]], "list"),
    ],
)
def test_others_are_refused(value, found):
    rule = r"a must be an array of finite numbers, of shape \(any, 2\)"
    with pytest.raises(ValueError, match=f"^{rule}, got {found}: "):
        real_array("a", value, (None, 2))
