"""Keys: one in each state, the same on all workers, split wherever it is used.

States hold a key's words, an ordinary uint32 array, which every tool for trees of
arrays takes. Which generator they belong to is no array: it is fixed where an exchange
is made, and `typed` puts the two together.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array

KeyOrSeed = chex.PRNGKey | int


def is_typed(key: Any) -> bool:
    """Whether it is an array of typed keys, which know their generator."""
    dtype = getattr(key, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def generator_of(key: KeyOrSeed) -> Any:
    """The generator of a key, as `jax.random.wrap_key_data` takes it for `impl`.

    That of a typed key is its own, that of a raw key or a seed JAX's default at the
    moment (`jax_default_prng_impl`).
    """
    if is_typed(key):
        return jax.random.key_impl(key)
    config: Any = jax.config  # its flags are not known to type checkers
    return config.jax_default_prng_impl


def canonical_key(
    key: KeyOrSeed, generator: Any = None, argument: str = "key"
) -> Array:
    """A key from a key (typed, or a raw uint32 one) or from a whole-number seed.

    A raw key stays raw; `typed` makes it a typed one where it is used.

    Args:
        key: the key or seed.
        generator: of a raw key or a seed, see `generator_of`; None for JAX's default.
        argument: its name in an error.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        # JAX drops what is above the lowest 32 bits: other seeds, equal keys
        seed = _checks.whole_number(argument, key, -(2**31), 2**32 - 1)
        return jax.random.key(seed, impl=generator)
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    raw_shape = _raw_shape(generator)
    is_raw = dtype == jnp.uint32 and shape == raw_shape
    if not (is_raw or (is_typed(key) and shape == ())):
        raise _checks.refuse(
            argument,
            "must be one PRNG key or a whole-number seed",
            key,
            "pass jax.random.key(seed) or the seed itself; a raw key of "
            f"{generator_of(0) if generator is None else generator} is a uint32 array "
            f"of shape {raw_shape}",
        )
    return jnp.asarray(key)


def _raw_shape(generator: Any) -> tuple[int, ...]:
    """Of a raw key of a generator."""
    return jax.eval_shape(
        lambda: jax.random.key_data(jax.random.key(0, impl=generator))
    ).shape


def words(key: Array) -> Array:
    """A key's uint32 words, in a buffer of their own."""
    return jnp.array(jax.random.key_data(key) if is_typed(key) else key, copy=True)


def typed(key: Array, generator: Any = None) -> Array:
    """A typed key from a typed one, or from a raw one of a generator."""
    return key if is_typed(key) else jax.random.wrap_key_data(key, impl=generator)


def next_key(key: Array, generator: Any = None) -> tuple[Array, Array]:
    """The key to keep, of the kind it was (typed or raw), and a typed one to use."""
    kept, used = jax.random.split(typed(key, generator))
    return kept if is_typed(key) else jax.random.key_data(kept), used
