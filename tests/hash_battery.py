"""A battery of statistical tests for the source of the bits that decide roundings.

    python -m tests.hash_battery --log2=26 --seed=0

draws 2^log2 numbers for each test from `coordinates`, prints a table and exits with 1
if a statistic is 5 standard deviations or more from what independent, uniform bits
give. A test with many statistics (lags, pairs of streams, pairs of bits) has a row for
their sum and one for the worst of them, whose p value counts how many they are; z is
the normal deviate of that p value. A row alone is a false alarm once in 1.7 million.

- values: chi-square of bytes and of all 2^16 values along one stream, which are
  drawn without replacement from the 2^32 words of a bijection; gaps and collisions.
- pairs: chi-square of the table of two bytes at distance `LAGS`, given its margins.
- serial: correlations of values, and of "below a threshold", which a rounding sees,
  along a stream and across two workers, at every distance (by an FFT) and at `LAGS`.
- streams: the same at equal positions of the streams of one exchange and the next
  (steps, parts, workers, chunks, phases), of the keys of successive seeds, and of keys
  that share one of their two words.
- keys: one position over many keys, as one coordinate sees it while training goes on.
- avalanche: one bit of the position, of the key, or of the two words that are drawn
  from it flips each bit of the result with probability 1/2; the joint distribution of
  the flips, and the second word, are held to less (see `avalanche`).
- k_slope: the variance of the mean of K workers' roundings of one vector falls as 1/K.
"""

import argparse
import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import random as prng

from qgenx_jax import _random, _rounding
from tests.deviates import Row, chi_square, deviates, many, normal
from tests.lib.helpers import coordinates

Source = Callable[..., jax.Array]  # (key, shape, offset) -> 16 bits as int32

WIDTHS = (100, 768, 1000, 3072, 11008, 50257, 151936, 1023, 1025, 65535, 65537)
LAGS = sorted({*(2**e for e in range(23)), 3, 5, 7, *WIDTHS})
MEAN, SD = (2**16 - 1) / 2, math.sqrt((2**32 - 1) / 12)
FEATURES = ("value", "below 1/2", "below 1/100")


# ---- drawing


@functools.partial(jax.jit, static_argnums=(0, 2))
def stream(source: Source, key: jax.Array, n: int) -> jax.Array:
    return source(key, (n,), 0).astype(jnp.uint16)


@jax.jit
def counts(values: jax.Array) -> jax.Array:
    """How often each of 2^16 values occurs."""
    return jnp.zeros(2**16, jnp.int32).at[values.astype(jnp.int32)].add(1)


def feature(bits: jax.Array, name: str) -> jax.Array:
    """A function of bits with mean 0 and variance 1."""
    if name == "value":
        return (bits.astype(jnp.float32) - MEAN) / SD
    until = 2**16 // int(name.rpartition("/")[2])
    p = until / 2**16
    return ((bits < until) - jnp.float32(p)) / math.sqrt(p * (1 - p))


def chosen_words(words: jax.Array) -> jax.Array:
    """A key whose `jax.random.bits(key, (2,))` are these two words."""
    return jax.random.wrap_key_data(words, impl=WORDS)


WORDS = prng.define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jnp.stack([seed, seed]).astype(jnp.uint32),
    split=lambda key, shape: jnp.broadcast_to(key, (*shape, 2)),
    random_bits=lambda key, width, shape: key,
    fold_in=lambda key, data: key,
    name="words",
)


@jax.jit
def exchange_keys(key: jax.Array) -> jax.Array:
    """Keys of two exchanges of two parts between four workers, as they are made.

    Six of each worker: of `all_gather`, and of both phases of `reduce_scatter`.
    """

    def six(used, part, worker):
        own = jax.random.fold_in(jax.random.fold_in(used, part), worker)
        chunks = jax.vmap(jax.random.fold_in, (None, 0))(own, jnp.arange(5))
        return jnp.concatenate([own[None], chunks])

    key, first = _random.next_key(key)
    steps = jnp.stack([first, _random.next_key(key)[1]])
    step, part, worker = np.indices((2, 2, 4)).reshape(3, -1)
    return jax.vmap(six)(steps[step], part, worker).ravel()


# ---- tests of one stream


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
    found = np.count_nonzero(two[1:] == two[:-1])
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


# ---- avalanche

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


# ---- K-slope

WORKERS = (1, 2, 4, 8, 16, 32, 64)


@functools.partial(jax.jit, static_argnums=0)
def squared_errors(
    source: Source, key: jax.Array, vector: jax.Array, workers: int
) -> jax.Array:
    """Of the mean of the workers' roundings of a vector (chunks, rows, 1024), summed.

    Workers K to 2 K - 1 of the key, so that no two K share a stream.
    """
    codec = _rounding.Uniform(4, math.inf)

    def one(chunk):
        start, bucket = chunk
        grid, meta = codec.measure(bucket)

        def add(k, total):
            r16 = source(jax.random.fold_in(key, k), bucket.shape, start)
            codes = codec.round(bucket, grid, r16).astype(jnp.int32)
            return total + codec.decode(codes, [meta])

        total = jax.lax.fori_loop(workers, 2 * workers, add, jnp.zeros_like(bucket))
        return ((total / workers - bucket) ** 2).sum()

    starts = jnp.arange(len(vector), dtype=jnp.uint32) * vector[0].size
    return jax.lax.map(one, (starts, vector))


def k_slope(source: Source, key: jax.Array, n: int) -> Iterator[Row]:
    """Each K with its own workers; the steps of 4-bit roundings have the length 1."""
    rng, rows = np.random.default_rng(0), n // 2**17
    place = rng.integers(0, 2**16, (rows, 1024))
    place[:, 0] = 0
    vector = (rng.integers(-6, 6, place.shape) + place / 2**16).astype(np.float32)
    vector[:, 0] = 7  # the norm is 7 steps
    chunks = vector.reshape(-1, min(rows, 16), 1024)
    q = (place / 2**16) * (1 - place / 2**16)  # the variance of one rounding
    ratios, sds = [], []
    for k in WORKERS:
        found = np.asarray(squared_errors(source, key, chunks, k), np.float64)
        ratios.append(found.sum() / (q.sum() / k))
        fourth = (q * (1 - 3 * q) + 3 * (k - 1) * q**2) / k**3  # moment of the mean
        sds.append(math.sqrt((fourth - (q / k) ** 2).sum()) / (q.sum() / k))
    z = (np.array(ratios) - 1) / sds
    yield from many("K-slope: variance times K, K = 1 to 64", z)
    x, weight = np.log(WORKERS), 1 / np.array(sds) ** 2
    x = x - (weight * x).sum() / weight.sum()
    sd = 1 / math.sqrt((weight * x**2).sum())
    slope = (weight * x * (np.log(ratios) - np.log(WORKERS))).sum() * sd**2
    yield normal("K-slope: log variance over log K", slope, -1.0, sd)


ALL = (values, pairs, serial, streams, keys, avalanche, k_slope)
TESTS = {test.__name__: test for test in ALL}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser("tests.hash_battery", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--log2", type=int, default=26, help="of the draws, 18 to 28")
    parser.add_argument("--seed", type=int, default=0, help="of the keys, 0")
    parser.add_argument("--tests", nargs="+", choices=TESTS, default=list(TESTS))
    options = parser.parse_args()
    if not 18 <= options.log2 <= 28:
        parser.error(f"--log2 must be from 18 to 28, got {options.log2}")
    key, rows = jax.random.key(options.seed), []
    print(f"{'test':<52}{'statistic':>13}{'expected':>13}{'':>14}{'z':>8}")
    for name in options.tests:
        start = time.monotonic()
        for row in TESTS[name](coordinates, key, 2**options.log2):
            rows.append(row)
            numbers = f"{row.statistic:>13.6g}{row.expected:>13.6g}{row.spread:>14}"
            verdict = "" if row.ok else "  FAILS"
            print(f"{row.test:<52}{numbers}{row.z:>8.2f}{verdict}", flush=True)
        print(f"# {name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    failed = sum(not row.ok for row in rows)
    print(f"{len(rows)} rows of 2^{options.log2} draws, {failed} beyond 5 sigma")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
