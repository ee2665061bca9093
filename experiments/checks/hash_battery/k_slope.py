"""How the variance of the mean of roundings falls with the number of workers."""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.checks.hash_battery.deviates import Row, many, normal
from experiments.checks.hash_battery.draws import Source
from qgenx_jax._codec.families.uniform import Uniform

WORKERS = (1, 2, 4, 8, 16, 32, 64)


@functools.partial(jax.jit, static_argnums=0)
def squared_errors(
    source: Source, key: jax.Array, vector: jax.Array, workers: int
) -> jax.Array:
    """Of the mean of the workers' roundings of a vector (chunks, rows, 1024), summed.

    Workers K to 2 K - 1 of the key, so that no two K share a stream.
    """
    rounding = Uniform(4, math.inf, 32)

    def one(chunk):
        start, bucket = chunk
        grid, meta = rounding.measure(bucket)

        def add(k, total):
            r16 = source(jax.random.fold_in(key, k), bucket.shape, start)
            codes = rounding.round(bucket, grid, r16).astype(jnp.int32)
            return total + rounding.values(codes, [meta])

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
