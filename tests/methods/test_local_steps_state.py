"""Where a worker stands, of what `local_steps` keeps."""

import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._methods.local_steps_state import LocalStepsState, moved

pytestmark = pytest.mark.quick


def test_a_point_has_the_dtype_of_the_parameters():
    found = moved({"x": jnp.ones(3, jnp.bfloat16)}, {"x": jnp.full(3, 0.25)})
    assert found["x"].dtype == jnp.bfloat16
    assert found["x"].tolist() == [1.25] * 3


def test_counts_stay_counts_for_other_workers():
    rule = LocalStepsState.reshard_rule
    assert rule(np.array([3, 3, 3]), 2).tolist() == [3, 3]
    assert rule(np.array([1.0, 2.0, 6.0]), 2).tolist() == [3.0, 3.0]
