"""Keys: one in each state, the same on all workers, split wherever it is used."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax._checks import refuse, whole_number
from qgenx_jax._types import Array

KeyOrSeed = chex.PRNGKey | int


def canonical_key(key: KeyOrSeed) -> Array:
    """A key from a key (typed, or a raw uint32 one) or from a whole-number seed.

    A raw key stays raw; `typed` makes it a typed one where it is used.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        # JAX drops what is above the lowest 32 bits: other seeds, equal keys
        return jax.random.key(whole_number("key", key, -(2**31), 2**32 - 1))
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    is_raw = dtype == jnp.uint32 and shape == _raw_shape()
    if not (is_raw or (is_typed and shape == ())):
        raise refuse(
            "key",
            "must be one PRNG key or a whole-number seed",
            key,
            "pass jax.random.key(seed) or the seed itself",
        )
    return jnp.asarray(key)


def _raw_shape() -> tuple[int, ...]:
    """Of a raw key of JAX's default generator."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape


def typed(key: Array) -> Array:
    """A typed key from a typed or a raw one."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def next_key(key: Array) -> tuple[Array, Array]:
    """The key to keep, of the kind it was (typed or raw), and a typed one to use."""
    kept, used = jax.random.split(typed(key))
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return kept if is_typed else jax.random.key_data(kept), used
