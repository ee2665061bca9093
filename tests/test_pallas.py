"""The kernel for GPUs, interpreted: the bytes of the reference path, and no others."""

import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax import _pallas
from tests.lib import extreme as nasty
from tests.lib.helpers import AXIS, mesh_of

LENGTH, KINDS = 512, 20
CASES = [
    pytest.param(family, bits, id=f"{family.__name__} {bits}")
    for family in (qgenx.uniform, qgenx.min_max)
    for bits in (8, 4, 2, 1)
]


def kernel_of(quantizer, size, dtype="float32"):
    form = quantizer._format(size, np.dtype(dtype))
    return _pallas.kernel_for(quantizer._codec(None), *form)


def interpreted(quantizer, key, x):
    """The records of the full buckets."""
    kernel = kernel_of(quantizer, x.size)
    assert kernel is not None, f"no kernel for {quantizer} and {x.size} coordinates"
    return np.asarray(jax.jit(lambda x: kernel(x, key, interpret=True))(x))


def assert_same_bytes(quantizer, x, what):
    """The kernel's records begin the payload that XLA makes."""
    records = interpreted(quantizer, jax.random.key(7), x)
    payload = np.asarray(jax.jit(quantizer.encode)(jax.random.key(7), x).data)
    expected = payload[: records.size].reshape(records.shape)
    off = [what(row) for row in np.unique(np.nonzero(records != expected)[0])]
    assert not off, f"other bytes than XLA's in buckets of {off}"


@pytest.mark.parametrize(("family", "bits"), CASES)
def test_bytes_are_those_of_the_reference_path(family, bits):
    quantizer = family(bits=bits, bucket_size=LENGTH)
    rng = np.random.default_rng(bits)
    grid = nasty.grid_of(quantizer.family, bits, ())
    rows, kinds = nasty.vectors(rng, KINDS + 12, LENGTH, np.float32, grid)
    signs = np.where(rng.uniform(size=(3, LENGTH)) < 0.5, -0.0, 0.0)
    signs[1, 5], signs[2, 5] = 1, -1  # the other zero is the maximum, the minimum
    x = np.concatenate([rows, np.float32(signs)]).ravel()
    x = np.concatenate([x, rng.normal(size=100).astype(np.float32)])  # a short bucket
    names = [*kinds, "signed zeros", "signed zeros and 1", "signed zeros and -1"]
    assert_same_bytes(quantizer, x, names.__getitem__)


@pytest.mark.parametrize(
    ("quantizer", "size", "dtype"),
    [
        pytest.param(qgenx.uniform(4), 1024, np.float32, id="one bucket"),
        pytest.param(qgenx.uniform(8), 3 * 1024 + 1, jnp.bfloat16, id="bfloat16"),
        pytest.param(qgenx.uniform(4, bucket_size=None), 4096, np.float16, id="None"),
    ],
)
def test_other_sizes_and_dtypes(quantizer, size, dtype):
    x = np.random.default_rng(size).normal(size=size).astype(dtype)
    assert_same_bytes(quantizer, jnp.asarray(x), str)


def test_workers_by_vmap():
    quantizer = qgenx.uniform(4, bucket_size=LENGTH)
    kernel = kernel_of(quantizer, 2 * LENGTH)
    x = np.random.default_rng(0).normal(size=(3, 2 * LENGTH)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    records = jax.jit(jax.vmap(lambda x, key: kernel(x, key, interpret=True)))(x, keys)
    payloads = jax.jit(jax.vmap(quantizer.encode))(keys, x)
    np.testing.assert_array_equal(records.reshape(3, -1), payloads.data)


def test_roundings_to_the_nearest():
    """Also of products, which must be rounded before they are added to anything."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=2**16).astype(np.float32) * 100
    b = np.exp2(rng.integers(-9, 8, 2**16)).astype(np.float32)
    b[::2] *= rng.uniform(1, 2, 2**15).astype(np.float32)
    a[:8] = [0.5, -0.5, 1.5, 2.5, -2.5, 0, -0.0, 2.0**22 - 0.5]
    b[:8] = 1
    found = np.asarray(jax.jit(lambda a, b: _pallas.nearest(a * b))(a, b))
    np.testing.assert_array_equal(found, np.round(a * b))
    assert np.isnan(_pallas.nearest(jnp.float32([np.nan, np.inf, -np.inf]))[0])


QUANTIZER = qgenx.uniform(4, bucket_size=LENGTH)
BY_PALLAS = qgenx.uniform(4, bucket_size=LENGTH, kernel="pallas")


def test_the_kernel_is_no_part_of_what_is_sent():
    assert QUANTIZER != BY_PALLAS, "jit's caches have to tell them apart"
    assert qgenx.min_max(kernel="pallas").kernel == "pallas"
    with pytest.raises(ValueError, match="kernel must be"):
        qgenx.uniform(kernel="triton")
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    payload = BY_PALLAS.encode(0, x)
    np.testing.assert_array_equal(payload.data, QUANTIZER.encode(0, x).data)
    QUANTIZER.decode(payload)


def test_without_a_gpu_the_program_is_the_reference_path():
    x = jax.ShapeDtypeStruct((5000,), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    operations = [
        re.findall(r" = \S+ ([\w-]+)\(", jax.jit(f).lower(key, x).compile().as_text())
        for f in (QUANTIZER.encode, BY_PALLAS.encode)
    ]
    assert len(operations[0]) > 50
    assert operations[0] == operations[1]


def test_in_shard_map_and_vmap_with_gradients():
    """Where the kernel is traced, though not compiled."""
    x = np.random.default_rng(0).normal(size=(3, 2 * LENGTH)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)

    def worker(x, key):
        quantizer = BY_PALLAS

        def loss(x):
            return x.sum() + quantizer.decode(quantizer.encode(key, x)).sum()

        return quantizer.encode(key, x).data, jax.grad(loss)(x)

    def on_mesh(x, key):
        return jax.tree.map(lambda y: y[None], worker(x[0], key[0]))

    mesh = mesh_of(3)
    mapped = jax.shard_map(on_mesh, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS))
    expected = jax.jit(jax.vmap(QUANTIZER.encode))(keys, x).data
    for run in (mapped, jax.vmap(worker)):
        data, gradient = jax.jit(run)(x, keys)
        np.testing.assert_array_equal(data, expected)
        np.testing.assert_array_equal(gradient, np.ones_like(x))


@pytest.mark.parametrize(
    ("quantizer", "dtype"),
    [
        pytest.param(qgenx.uniform(3), "float32", id="3 bits"),
        pytest.param(qgenx.uniform(4, norm=2), "float32", id="norm 2"),
        pytest.param(qgenx.uniform(4, source="threefry"), "float32", id="threefry"),
        pytest.param(qgenx.uniform(4, bucket_size=1000), "float32", id="1000"),
        pytest.param(qgenx.uniform(4, bucket_size=128), "float32", id="short"),
        pytest.param(qgenx.uniform(4, bucket_size=2**15), "float32", id="long"),
        pytest.param(qgenx.uniform(4), "float64", id="float64"),
        pytest.param(qgenx.exponential(4, norm=np.inf), "float32", id="levels"),
    ],
)
def test_what_has_no_kernel(quantizer, dtype):
    assert kernel_of(quantizer, 2**16, dtype) is None
    assert kernel_of(quantizer, 0, dtype) is None


def test_without_pallas(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas", None)
    x = np.random.default_rng(1).normal(size=LENGTH).astype(np.float32)
    payload = BY_PALLAS.encode(0, x)
    np.testing.assert_array_equal(payload.data, QUANTIZER.encode(0, x).data)


@pytest.mark.parametrize(("capability", "expected"), [("7.5", False), ("9.0", True)])
def test_gpus_that_are_too_old(monkeypatch, capability, expected):
    gpu = types.SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "local_devices", lambda backend: [gpu])
    calls = []
    kernel = kernel_of(QUANTIZER, LENGTH)
    monkeypatch.setattr(
        _pallas.lax, "platform_dependent", lambda *args, **by: calls.append(by)
    )
    args = np.zeros(LENGTH, np.float32), jax.random.key(0)
    _pallas.where_compiled(kernel, lambda *args: [], lambda *args: [], *args)
    assert bool(calls) == expected


@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
def test_an_exchange_by_either_kernel_has_the_same_bits(collective):
    """Payloads of one are opened by the other, and means and own vectors are equal."""
    vectors = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1500)), jnp.float32)
    found = []
    for quantizer in (QUANTIZER, BY_PALLAS):
        exchange = qgenx.exchange("data", quantizer, collective=collective)

        def run(vector, exchange=exchange):
            (mean, own, _), _ = exchange.send(vector, exchange.init())
            return mean, own

        mapped = jax.vmap(run, axis_name="data", out_axes=(None, 0))
        found.append(jax.jit(mapped)(vectors))
    jax.tree.map(np.testing.assert_array_equal, *found)
    payload = BY_PALLAS.encode(0, vectors[0])
    np.testing.assert_array_equal(QUANTIZER.decode(payload), BY_PALLAS.decode(payload))
