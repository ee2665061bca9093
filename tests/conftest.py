"""Strict settings for all tests, and eight simulated devices, before JAX starts."""

import os

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
