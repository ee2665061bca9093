"""The hash source passes the battery, at a smaller size, and worse sources fail it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments.checks.hash_battery import __main__ as hash_battery
from experiments.checks.hash_battery.draws import chosen_words, coordinates
from tests.lib import reference

SIZE = 2**18


def positions(shape, offset):
    """Row-major, as the source counts them."""
    count = lax.iota(jnp.uint32, int(np.prod(shape)))
    return count.reshape(shape) + jnp.uint32(offset)


def words_of(key):
    return jax.random.bits(key, (2,), jnp.uint32)


def skewed(key, shape, offset=0):
    """Never has a 0 for its low byte."""
    bits = coordinates(key, shape, offset)
    return bits + (bits % 256 == 0)


def weyl(key, shape, offset=0):
    """Multiples of a constant."""
    x = positions(shape, offset) * jnp.uint32(0x9E3779B9) + words_of(key)[0]
    return (x >> 16).astype(jnp.int32)


def one_round(key, shape, offset=0):
    """A multiplication and a xor-shift."""
    x = positions(shape, offset) * jnp.uint32(0x9E3779B9) + words_of(key)[0]
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    return (x >> 16).astype(jnp.int32)


def two_rounds(key, shape, offset=0):
    """The hash without its first round."""
    x = positions(shape, offset) + words_of(key).sum()
    x = (x ^ (x >> 11)) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    x ^= x >> 14
    return (x >> 16).astype(jnp.int32)


def shared(key, shape, offset=0):
    """One stream for all."""
    return coordinates(jax.random.key(0), shape, offset)


def shifted(key, shape, offset=0):
    """One stream, which every key enters near its beginning."""
    offset = offset + words_of(key)[0] % 4096
    return coordinates(jax.random.key(0), shape, offset)


def added(key, shape, offset=0):
    """One stream, to which a number of the key is added."""
    bits = shared(key, shape, offset) + (words_of(key)[0] >> 16).astype(jnp.int32)
    return bits % 2**16


def repeating(key, shape, offset=0):
    """Every 16th position has what was there 1000 positions before."""
    at = positions(shape, offset)
    at = jnp.where((at % 16 == 5) & (at > 1000), at - 1000, at)
    return jax.vmap(lambda i: coordinates(key, (), i))(at.ravel()).reshape(shape)


def failures(name, source):
    for row in hash_battery.TESTS[name](source, jax.random.key(1), SIZE):
        if not row.ok:
            yield f"{row.test}: z = {row.z:.1f}"


@pytest.mark.parametrize("name", hash_battery.TESTS)
def test_the_source_passes(name):
    failed = list(failures(name, coordinates))
    assert not failed, f"not as independent bits are: {failed}"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("values", skewed),
        ("values", weyl),
        ("pairs", repeating),
        ("pairs", one_round),
        ("serial", repeating),
        ("serial", one_round),
        ("serial", shifted),
        ("streams", shared),
        ("streams", one_round),
        ("keys", skewed),
        ("keys", added),
        ("avalanche", two_rounds),
        ("avalanche", shared),
        ("k_slope", shared),
        ("k_slope", weyl),
    ],
)
def test_a_worse_source_fails(name, source):
    assert any(failures(name, source)), (
        f"{name} does not see that {source.__name__} is bad"
    )


def test_chosen_words_are_the_hash_of_these_words():
    words = np.array([[5, 2**31], [2**32 - 1, 7]], np.uint32)

    @jax.jit
    @jax.vmap
    def draw(pair):
        key = chosen_words(pair)
        return coordinates(key, (1024,), jnp.uint32(2**31))

    drawn = reference.hash_words(words, np.arange(2**30, 2**30 + 512))
    np.testing.assert_array_equal(draw(words), reference.halves(drawn, 1024))
