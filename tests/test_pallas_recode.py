"""Records to the record of their mean by the kernel for GPUs, interpreted.

The bytes are those of the reference path: the mean as one program, its records as
another.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax import _pallas_recode, _rounding
from tests.lib import extreme as nasty
from tests.lib.helpers import AXIS, mesh_of

LENGTH = 256
FLOAT32 = np.dtype("float32")
KEY = jax.random.key(7)


def uniform(bits, **options):
    return qgenx.uniform(bits, **{"bucket_size": LENGTH, **options})


def min_max(bits, **options):
    return qgenx.min_max(bits, **{"bucket_size": LENGTH, **options})


def recoder_of(first, second, size, shape, dtype=FLOAT32):
    forms = [
        (x._codec(None), x._format(size, np.dtype(dtype))) for x in (first, second)
    ]
    return _pallas_recode.recoder_for(*forms[0], *forms[1], shape)


def nasty_vectors(rng, quantizer, workers):
    """(K, rows, LENGTH), and what every row is; the first ones hold no surprise."""
    grid = nasty.grid_of(quantizer.family, quantizer.bits, ())
    rows = [nasty.vectors(rng, 20, LENGTH, np.float32, grid) for _ in range(workers)]
    x, names = np.stack([x for x, _ in rows]), list(rows[0][1])
    alike = {"3e38": 3e38, "-3e38": -3e38, "1e-38": 1e-38, "0": 0, "-0": -0.0}
    more = np.float32([[[value] * LENGTH] * workers for value in alike.values()])
    bad = rng.normal(size=(2, workers, LENGTH)).astype(np.float32)
    bad[0, -1, 3], bad[1, 0, 5] = np.nan, np.inf
    x = np.concatenate([x, *more[:, :, None], *bad[:, :, None]], axis=1)
    return x, [*names, *alike, "NaN of the last worker", "infinity of the first"]


def payloads_of(quantizer, x, start=0, tail=0):
    """uint8 (K, bytes), others before and after."""
    keys = jax.random.split(jax.random.key(1), len(x))
    data = np.asarray(jax.jit(jax.vmap(quantizer.encode))(keys, x).data)
    rng = np.random.default_rng(0)
    around = [
        rng.integers(256, size=(len(x), n), dtype=np.uint8) for n in (start, tail)
    ]
    return np.concatenate([around[0], data, around[1]], axis=1)


def expected(first, second, payloads, size, start, key=KEY):
    mean = first.mean_of(payloads, size, FLOAT32, None, start)
    return np.asarray(second.records_of(key, mean, size, None))


@pytest.mark.parametrize(
    ("first", "second", "workers", "start"),
    [
        pytest.param(*case, id=" ".join([f"{x.family} {x.bits}" for x in case[:2]]))
        for case in (
            (uniform(1), min_max(8), 3, 5),
            (uniform(2), uniform(4), 3, 4),
            (uniform(4, norm=2, source="threefry"), uniform(4), 2, 0),
            (uniform(8), min_max(8), 3, 7),
            (min_max(1), min_max(1), 4, 2),
            (min_max(2), uniform(8), 9, 1),
            (min_max(4), min_max(2), 1, 3),
            (min_max(8), uniform(1), 2, 0),
        )
    ],
)
def test_bytes_are_those_of_the_reference_path(first, second, workers, start):
    rng = np.random.default_rng(first.bits + second.bits)
    x, names = nasty_vectors(rng, first, workers)
    size = x[0].size + 20  # a short bucket
    flat = np.concatenate([x.reshape(workers, -1), np.ones((workers, 20))], axis=1)
    payloads = payloads_of(first, np.float32(flat), start, tail=5)
    recoder = recoder_of(first, second, size, payloads.shape)
    assert recoder is not None, f"no kernel for {first} and {second}"
    run = jax.jit(lambda payloads: recoder(payloads, KEY, start, interpret=True))
    found = np.asarray(run(payloads))
    wanted = expected(first, second, payloads, size, start)
    wanted = wanted[: found.size].reshape(found.shape)
    off = [names[row] for row in np.unique(np.nonzero(found != wanted)[0])]
    assert not off, f"other bytes than XLA's in buckets of {off}"


class _LosesNaN(_rounding.MinMax):
    """Clips as Triton does."""

    def decode(self, codes, meta):
        largest = np.finfo(np.float32).max
        return jnp.nan_to_num(super().decode(codes, meta), nan=-largest)


def test_a_bucket_that_is_not_finite_stays_so_where_clipping_loses_nan():
    first, second = min_max(4), uniform(8)
    x = np.random.default_rng(3).normal(size=(3, 4 * LENGTH)).astype(np.float32)
    x[0, 0] = x[1, LENGTH] = x[2, 2 * LENGTH] = np.nan
    payloads = payloads_of(first, x)
    recoder = recoder_of(first, second, 4 * LENGTH, payloads.shape)
    recoder = recoder._replace(codec=_LosesNaN(4))
    run = jax.jit(lambda payloads: recoder(payloads, KEY, interpret=True))
    wanted = expected(first, second, payloads, 4 * LENGTH, 0)
    np.testing.assert_array_equal(np.asarray(run(payloads)).ravel(), wanted)


def test_under_vmap_and_in_shard_map():
    first, second, size = uniform(4), uniform(4), 2 * LENGTH
    x = np.random.default_rng(0).normal(size=(3, 2, size)).astype(np.float32)
    payloads = np.stack([payloads_of(first, x) for x in x])
    keys = jax.random.split(jax.random.key(0), 3)
    recoder = recoder_of(first, second, size, payloads.shape[1:])

    def worker(payloads, key):
        return recoder(payloads, key, interpret=True)

    def on_mesh(payloads, key):
        return recoder(payloads[0], key[0])[None]

    found = np.asarray(jax.jit(jax.vmap(worker))(payloads, keys)).reshape(3, -1)
    for records, each, key in zip(found, payloads, keys, strict=True):
        wanted = expected(first, second, each, size, 0, key)
        np.testing.assert_array_equal(records, wanted)
    # traced, though not compiled
    mapped = jax.shard_map(
        on_mesh, mesh=mesh_of(3), in_specs=P(AXIS), out_specs=P(AXIS)
    )
    shape = jax.eval_shape(mapped, payloads, keys).shape
    assert shape == (3, 2, second.n_bytes(LENGTH))


SHAPE = 3, 2**16
NONE = [
    pytest.param(uniform(4), uniform(3), SHAPE, "float32", id="to 3 bits"),
    pytest.param(uniform(3), uniform(4), SHAPE, "float32", id="from 3 bits"),
    pytest.param(uniform(4), uniform(4, norm=2), SHAPE, "float32", id="norm 2"),
    pytest.param(
        uniform(4), uniform(4, source="threefry"), SHAPE, "float32", id="threefry"
    ),
    pytest.param(
        qgenx.exponential(4, bucket_size=LENGTH),
        uniform(4),
        SHAPE,
        "float32",
        id="levels",
    ),
    pytest.param(uniform(4), qgenx.uniform(4), SHAPE, "float32", id="other buckets"),
    pytest.param(uniform(4), uniform(4), SHAPE, "float64", id="float64"),
    pytest.param(uniform(4), uniform(4), (4, 2**29), "float32", id="places of 32 bits"),
]


@pytest.mark.parametrize(("first", "second", "shape", "dtype"), NONE)
def test_what_has_no_kernel(first, second, shape, dtype):
    assert recoder_of(first, second, 2**14, shape, dtype) is None
    assert recoder_of(first, second, 0, shape, dtype) is None


@pytest.mark.parametrize(
    ("first", "second", "workers"),
    [
        pytest.param(uniform(1), min_max(8), 9, id="uniform 1 min_max 8"),
        pytest.param(uniform(8), uniform(1), 2, id="uniform 8 uniform 1"),
        pytest.param(min_max(4), uniform(2), 1, id="min_max 4 uniform 2"),
    ],
)
def test_triton_knows_all_operations(first, second, workers):
    """Lowered for GPUs, which needs none; compiled by tests/gpu_programs.py."""
    payloads = jax.ShapeDtypeStruct((workers, first.n_bytes(512)), jnp.uint8)
    recoder = recoder_of(first, second, 512, payloads.shape)
    traced = jax.jit(lambda payloads: recoder(payloads, KEY)).trace(payloads)
    assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()
