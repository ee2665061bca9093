"""Tests of one stream, and of many."""

import functools
import itertools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.checks.hash_battery.deviates import (
    Row,
    chi_square,
    deviates,
    many,
    normal,
)
from experiments.checks.hash_battery.draws import (
    FEATURES,
    Source,
    chosen_words,
    counts,
    exchange_keys,
    feature,
    stream,
)

WIDTHS = (100, 768, 1000, 3072, 11008, 50257, 151936, 1023, 1025, 65535, 65537)
LAGS = sorted({*(2**e for e in range(23)), 3, 5, 7, *WIDTHS})


def uniform(test: str, bits: jax.Array, left: float = 1.0) -> Iterator[Row]:
    """Chi-square of bytes and of whole values, whose variance is `left` of a draw's."""
    table = np.asarray(counts(bits)).reshape(256, 256)
    cells = {"low byte": table.sum(0), "high byte": table.sum(1), "16 bits": table}
    for what, found in cells.items():
        expected = bits.size / found.size
        statistic = ((found - expected) ** 2).sum() / expected / left
        yield chi_square(f"{test}, {what}", statistic, found.size - 1)


def values(source: Source, key: jax.Array, n: int) -> Iterator[Row]:
    """Along a stream, which draws from 2^32 words without replacement."""
    yield from uniform("values", bits := stream(source, key, n), 1 - n / 2**32)
    for name in FEATURES[1:]:
        p = 2**16 // int(name.rpartition("/")[2]) / 2**16
        gaps = np.diff(np.flatnonzero(np.asarray(bits) < p * 2**16)) - 1
        last = int(math.log(100 / gaps.size) / math.log1p(-p))  # has 100 or more
        chances = p * (1 - p) ** np.arange(last + 1)
        chances[-1] = (1 - p) ** last
        found = np.bincount(np.minimum(gaps, last), minlength=last + 1)
        statistic = ((found - gaps.size * chances) ** 2 / (gaps.size * chances)).sum()
        yield chi_square(f"gaps between draws {name}", statistic, last)
    two = np.sort(np.asarray(bits).view(np.uint32))
    found = int(np.count_nonzero(two[1:] == two[:-1]))
    expected = two.size + 2**32 * math.expm1(two.size * math.log1p(-(2.0**-32)))
    yield normal("collisions of pairs", found, expected, math.sqrt(expected))


@jax.jit
def dependence(a: jax.Array, b: jax.Array, byte: int, lag: int = 0) -> jax.Array:
    """Chi-square of the table of a byte of a and of b, given its margins."""
    a, b = ((x.astype(jnp.int32) >> (8 * byte)) & 255 for x in (a, jnp.roll(b, -lag)))
    table = counts(a * 256 + b).reshape(256, 256).astype(jnp.float32)
    rows, columns = table.sum(1, keepdims=True), table.sum(0, keepdims=True)
    expected = rows * (columns / table.sum())
    return ((table - expected) ** 2 / jnp.maximum(expected, 1e-9)).sum()


def pairs(source: Source, key: jax.Array, n: int) -> Iterator[Row]:
    """Tables of two bytes at distances along a stream."""
    bits = stream(source, key, n)
    lags = [lag for lag in LAGS if lag <= n // 4]
    for byte, name in enumerate(("low", "high")):
        found = [dependence(bits, bits, byte, lag) for lag in lags]
        yield from many(f"pairs of {name} bytes at lags", deviates(found, 255**2))


@jax.jit
def correlations(a: jax.Array, b: jax.Array) -> jax.Array:
    """z of the correlation of a with b, at every distance, around a circle."""
    spectrum = jnp.fft.rfft(a).conj() * jnp.fft.rfft(b)
    return jnp.fft.irfft(spectrum, a.size) / math.sqrt(a.size)


def serial(source: Source, key: jax.Array, n: int) -> Iterator[Row]:
    """Along a stream, and across those of two workers."""
    first = stream(source, jax.random.fold_in(key, 0), n)
    second = stream(source, jax.random.fold_in(key, 1), n)
    lags = np.array([lag for lag in LAGS if lag <= n // 4])
    for name in FEATURES:
        a, b = feature(first, name), feature(second, name)
        z = np.asarray(correlations(a, a))[1 : n // 2]
        yield from many(f"serial, {name}, all lags", z, total=False)
        yield from many(f"serial, {name}, chosen lags", z[lags - 1])
        z = np.asarray(correlations(a, b))
        yield from many(f"two workers, {name}, all shifts", z, total=False)


# ---- tests of many streams


@functools.partial(jax.jit, static_argnums=(0, 2))
def grams(source: Source, keys: jax.Array, n: int) -> jax.Array:
    """z of the correlations of all pairs of streams, for each feature."""
    chunk = min(n, 2**14)

    def add(total, start):
        bits = jax.vmap(lambda key: source(key, (chunk,), start))(keys)
        x = jnp.stack([feature(bits, name) for name in FEATURES])
        return total + jnp.einsum("fai,fbi->fab", x, x), None

    zero = jnp.zeros((len(FEATURES), keys.size, keys.size), jnp.float32)
    starts = jnp.arange(n // chunk, dtype=jnp.uint32) * chunk
    return jax.lax.scan(add, zero, starts)[0] / math.sqrt(n)


def streams(source: Source, key: jax.Array, n: int) -> Iterator[Row]:
    """Equal positions of streams whose keys are of one family."""
    keys = exchange_keys(key)
    words = jax.random.bits(key, (2, 32), jnp.uint32)
    families = {
        "streams of exchanges": keys,
        "streams of seeds": jax.vmap(jax.random.key)(jnp.arange(32)),
        "streams of equal words 0": chosen_words(words.at[0].set(words[0, 0]).T),
        "streams of equal words 1": chosen_words(words.at[1].set(words[1, 0]).T),
    }
    for what, some in families.items():
        z = np.asarray(grams(source, some, n))
        for name, gram in zip(FEATURES, z, strict=True):
            yield from many(f"{what}, {name}", gram[np.triu_indices(some.size, 1)])
    # neighbours among 16 workers of parts and steps, and the six streams of the first
    some = [stream(source, key, n) for key in (*keys[::6], *keys[:6])]
    for byte, name in enumerate(("low", "high")):
        found = [dependence(a, b, byte) for a, b in itertools.pairwise(some)]
        yield from many(f"{name} bytes of two streams", deviates(found, 255**2))


@functools.partial(jax.jit, static_argnums=(0, 2))
def over_keys(source: Source, key: jax.Array, n: int) -> jax.Array:
    """Two neighbouring positions (n, 2), each row from another key."""

    def draw(i):
        return source(jax.random.fold_in(key, i), (2,), 0).astype(jnp.uint16)

    return jax.lax.map(draw, jnp.arange(n), batch_size=2**14)


def keys(source: Source, key: jax.Array, n: int) -> Iterator[Row]:
    """The values of one position over keys, of neighbouring positions and keys."""
    here, there = over_keys(source, key, n).T
    yield from uniform("over keys", here)
    for byte, name in enumerate(("low", "high")):
        found = [dependence(here, there, byte), dependence(here, here, byte, 1)]
        yield from many(f"over keys, two {name} bytes", deviates(found, 255**2))
