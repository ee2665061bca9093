"""How far a flip of one bit that goes in is from a flip of each bit that comes out."""

import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.checks.hash_battery.deviates import Row, many
from experiments.checks.hash_battery.draws import Source, chosen_words, counts

BITS = ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).astype(np.float64)
BIAS, SPREAD = 2.0**-6, 2.0**-7


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def differences(
    source: Source,
    as_key: Callable[[jax.Array], jax.Array],
    raw: jax.Array,
    block: int,
    flips: jax.Array,
    start: jax.Array,
) -> jax.Array:
    """How often each difference of 16 bits occurs.

    Between `block` positions from 0 on of keys made of `raw` (m, 2), and as many from
    `start` on of keys made of raw ^ flips.
    """

    def one(pair):
        before = source(as_key(pair), (block,), jnp.uint32(0))
        return before ^ source(as_key(pair ^ flips), (block,), start)

    def add(total, some):
        return total + counts(jax.vmap(one)(some).ravel()), None

    batches = raw.reshape(-1, min(16, len(raw)), 2)
    return jax.lax.scan(add, jnp.zeros(2**16, jnp.int32), batches)[0]


def avalanche_tables(
    source: Source, key: jax.Array, n: int
) -> Iterator[tuple[str, np.ndarray]]:
    """For each group of 32 input bits, counts (32, 2^16) of the differences of n draws.

    Positions that differ in one bit are 2^bit apart, and words are added to them.
    """
    block = min(n, 2**14)
    raw = jax.random.bits(key, (n // block, 2), jnp.uint32)
    masks = np.uint32(1) << np.arange(32, dtype=np.uint32)
    first, second = np.eye(2, dtype=np.uint32)
    for name, as_key, flip, start in (
        ("position", chosen_words, 0 * first, 1),
        ("key word 0", chosen_words, first, 0),
        ("key word 1", chosen_words, second, 0),
        ("key half 0", jax.random.wrap_key_data, first, 0),
        ("key half 1", jax.random.wrap_key_data, second, 0),
    ):
        draw = functools.partial(differences, source, as_key, raw, block)
        yield name, np.stack([draw(flip * x, np.uint32(start) * x) for x in masks])


def avalanche(source: Source, key: jax.Array, n: int) -> Iterator[Row]:
    """Of the position, of the words that a key draws, and of the key's own two halves.

    Three multiplications make no ideal hash, so two rows have bounds that do not shrink
    with the draws. `SPREAD` bounds, for each input bit, the relative deviation (root
    mean square) of the chances of the 2^16 differences; half of it bounds the error of
    the chance of any event that depends on a difference. `BIAS` is for flips by word 1,
    which enters after the first round, so that its highest bits pass through two rounds
    only: two keys have words that differ in one bit of it once in 2^59.
    """
    df = 2**16 - 1
    for group, table in avalanche_tables(source, key, n):
        bias, sd = table @ BITS / n - 0.5, 0.5 / math.sqrt(n)
        if group == "key word 1":
            largest = float(np.abs(bias).max())
            z, bound = max(largest - BIAS, 0.0) / sd, f"at most {BIAS:.3g}"
            yield Row(f"avalanche, {group}, largest bias", largest, 0.0, bound, z)
            continue
        yield from many(f"avalanche, {group}", bias / sd)
        excess = ((table - n / 2**16) ** 2).sum(1) / (n / 2**16) - df
        most = n * SPREAD**2  # is added to the mean of chi-square
        z = np.maximum((excess - most) / math.sqrt(2 * (df + 2 * most)), 0)
        (worst,) = many("", z, total=False)
        name, bound = f"avalanche, {group}, largest spread", f"at most {SPREAD:.3g}"
        yield Row(name, math.sqrt(max(*excess, 0) / n), 0.0, bound, max(worst.z, 0.0))
