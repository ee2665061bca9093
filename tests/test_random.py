"""Keys: what is one, what stays of its kind, and that none is used twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax import _random

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("seed", [0, 7, -1, 2**32 - 1, np.int64(7)])
def test_seeds_are_keys(seed):
    found, again = _random.canonical_key(seed), jax.random.key(int(seed))
    assert jnp.array_equal(jax.random.key_data(found), jax.random.key_data(again))


@pytest.mark.parametrize(
    "key",
    [2**32, -(2**31) - 1, True, 1.0, None, np.zeros(2), np.zeros(3, np.uint32), "0"],
    ids=str,
)
def test_what_is_no_key_is_refused(key):
    """Seeds of more than 32 bits, too: JAX drops the rest, and keys would be equal."""
    with pytest.raises(ValueError, match=r"^key must be .*, got "):
        _random.canonical_key(key)
    with pytest.raises(ValueError, match=r"^key must be one PRNG key"):
        _random.canonical_key(jax.random.split(jax.random.key(0)))


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_keys_stay_what_they_are_and_are_used_once(make):
    """Raw ones stay raw, for serializers that know no typed keys; bits are equal."""
    key = _random.canonical_key(make(5))
    assert key.dtype == make(5).dtype
    seen = []
    for _ in range(4):
        key, used = _random.next_key(key)
        assert key.dtype == make(5).dtype
        assert jnp.issubdtype(used.dtype, jax.dtypes.prng_key)
        seen += [jax.random.key_data(x) for x in (_random.typed(key), used)]
    assert len({tuple(np.asarray(x)) for x in seen}) == len(seen)
    expected, _ = _random.next_key(jax.random.key(5))
    first, _ = _random.next_key(_random.canonical_key(make(5)))
    found, expected = (jax.random.key_data(_random.typed(x)) for x in (first, expected))
    np.testing.assert_array_equal(found, expected)
