"""Strict settings for all tests, and eight simulated devices, before JAX starts."""

import os

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


@pytest.fixture(scope="module")
def compiled_plainly():
    """XLA compiles a module's programs with fewer optimizations, in less time.

    For contracts that do not depend on how a program is compiled. What is claimed of
    bits and roundings is tested as users run it.
    """
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)
