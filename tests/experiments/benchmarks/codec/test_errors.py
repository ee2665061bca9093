"""Errors of the codec benchmark, beside roundings of the library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.codec import errors


@pytest.mark.usefixtures("compiled_plainly")
def test_errors_are_those_of_a_rounding():
    x = jax.random.normal(jax.random.key(0), (2**16,))
    for family in ("uniform", "range_levels", "best"):
        quantizer = codec_calls.create_quantizer(family, 4)
        off = quantizer.decode(quantizer.encode(1, x), key=1) - x
        found = errors.error_of(quantizer, x)
        measured = jnp.vdot(off, off) / jnp.vdot(x, x)
        np.testing.assert_allclose(found, measured, rtol=0.03, err_msg=family)
    uniform = errors.error_of(qgenx.uniform(4), x)
    peers = errors.error_of_peers(x, 4, 1024)
    np.testing.assert_allclose(peers, uniform, rtol=0.03)
