"""Decoding, averaging and encoding again at once: the bytes of one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.quantizer import coder_of
from qgenx_jax._codec.rounding import DECODED_TWICE
from tests.lib import extreme

START, LENGTH, SIZE = 13, 64, 2**16
LEVELS = qgenx.user_levels([0.1, 0.4, 1.0], bucket_size=LENGTH)
PAIRS = [
    (qgenx.uniform(8, bucket_size=LENGTH), qgenx.min_max(8, bucket_size=LENGTH)),
    (qgenx.min_max(3, bucket_size=LENGTH), qgenx.uniform(8, bucket_size=LENGTH)),
    (qgenx.uniform(2, norm=2, bucket_size=100), qgenx.min_max(8, bucket_size=50)),
    (qgenx.uniform(1, bucket_size=LENGTH), qgenx.uniform(3, bucket_size=LENGTH)),
    (LEVELS, qgenx.exponential(3, bucket_size=LENGTH)),
]


def prepared(first, second, x):
    """Both quantizations, and rows in whose middle the payloads of (K, size) are."""
    keys = jax.random.split(jax.random.key(0), len(x))
    rows = jax.jit(jax.vmap(lambda key, x: first.encode(key, x).data))(keys, x)
    rows = jnp.pad(rows, ((0, 0), (START, 5)), constant_values=200)
    by, then = (coder_of(q, x.dtype) for q in (first, second))
    return by, then, rows


@pytest.mark.parametrize(
    ("workers", "dtype", "which"),
    [
        (1, "float32", (0, 4)),
        (3, "float32", range(len(PAIRS))),
        (9, "float64", (1, 2, 3)),
    ],
)
def test_recoding_is_one_after_the_other(workers, dtype, which):
    """For extreme buckets, too, and with padding that is kept out of a minimum."""
    pairs = [PAIRS[index] for index in which]
    rng = np.random.default_rng(workers)
    grid = extreme.grid_of("uniform", 8, ())
    x = [
        extreme.vectors(rng, 20, LENGTH, dtype, grid)[0].ravel() for _ in range(workers)
    ]
    x = np.stack([np.append(x, x[:30]) for x in x])  # a short bucket
    end = x.shape[1] - 40

    def filled(mean):  # what a minimum counts for
        return jnp.where(jnp.arange(mean.size) < end, mean, mean[end - 1])

    def at_once(rows, key):
        return [
            by.recode(row, x.shape[1], START, then, key, real)
            for (by, then, _), row, real in zip(cases, rows, reals, strict=True)
        ]

    def in_turn(rows, key):
        return [
            then.encode(key, mean if real is None else filled(mean), x.shape[1])
            for mean, (_, then, _), real in zip(rows, cases, reals, strict=True)
        ]

    def means(rows):
        return [
            jnp.concatenate(by.mean(row, x.shape[1], START))
            for (by, _, _), row in zip(cases, rows, strict=True)
        ]

    with jax.enable_x64(dtype == "float64"):
        cases = [prepared(*pair, x) for pair in pairs]
        reals = [jnp.asarray(end) if index == 2 else None for index in which]
        rows, key = [rows for _, _, rows in cases], jax.random.key(3)
        found = jax.jit(at_once)(rows, key)
        expected = jax.jit(in_turn)(jax.jit(means)(rows), key)
    for pair, actual, wanted in zip(pairs, found, expected, strict=True):
        assert actual.size == pair[1].n_bytes(x.shape[1], dtype)
        np.testing.assert_array_equal(actual, wanted, err_msg=str(pair))


@pytest.mark.parametrize("bits", [8, 4, 2, pytest.param(1, marks=pytest.mark.quick)])
@pytest.mark.parametrize("family", [qgenx.uniform, qgenx.min_max])
def test_the_mean_of_few_workers_is_not_stored(family, bits):
    """Not on CPUs either, where encoding and decoding are programs of their own."""
    quantizer = family(bits, bucket_size=256)
    assert stored_by(quantizer, DECODED_TWICE) < 2 * SIZE, "float32 has 4 bytes each"
    if bits == 8:  # where to decode twice takes longer
        assert stored_by(quantizer, DECODED_TWICE + 1) > 4 * SIZE


def stored_by(quantizer, workers):
    """Temporary bytes of decoding, averaging and encoding again."""
    x = np.random.default_rng(0).normal(size=(workers, SIZE)).astype(np.float32)
    by, then, rows = prepared(quantizer, quantizer, x)
    program = jax.jit(lambda rows, key: by.recode(rows, SIZE, 0, then, key, None))
    compiled = program.lower(rows[:, START:-5], jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes
