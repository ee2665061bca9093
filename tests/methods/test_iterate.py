"""`iterate`: the oracle calls of an iteration."""

import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


def test_iterate_gives_each_oracle_call_its_own_batch_and_its_aux():
    pair = qgenx.extra_sgd(0.5)
    step = qgenx.iterate(pair, lambda x, b: (x - b, {"seen": b.sum()}), has_aux=True)
    x = jnp.zeros(2)
    batches = jnp.array([[1.0, 1.0], [2.0, 4.0]])
    x, _, aux = step(x, pair.init(x), batches)
    # half = 0 - 0.5 (0 - 1) = 0.5;  x = 0 - 0.5 (0.5 - (2, 4)) = (0.75, 1.75)
    np.testing.assert_allclose(x, [0.75, 1.75])
    np.testing.assert_array_equal(aux["seen"], [2, 6])
