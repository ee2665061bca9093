"""Without a quantizer: the mean of all workers' vectors, and it is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, vectors

pytestmark = pytest.mark.quick

plainly = pytest.mark.plainly


@plainly
@pytest.mark.parametrize("collective", ["auto", "all_gather"])
def test_without_a_quantizer_the_mean_is_exact(collective):
    with jax.enable_x64(True):
        flats = jnp.asarray(vectors(5, 30, dtype=np.float64))
        exchange = qgenx.exchange(AXIS, None, collective=collective)

        def run(flat):
            (mean, own, scalars), _ = exchange.send(
                flat, exchange.init(), scalar=lambda own: own[0]
            )
            return (mean, scalars), own

        mapped = jax.vmap(run, axis_name=AXIS, out_axes=(None, 0))
        (mean, scalars), own = jax.jit(mapped)(flats)
        np.testing.assert_allclose(mean, np.mean(flats, axis=0), rtol=1e-14, atol=1e-15)
        np.testing.assert_array_equal(own, flats)
        np.testing.assert_array_equal(scalars, flats[:, 0])
