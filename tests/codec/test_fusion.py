"""The codec is compiled apart on CPUs, once, and for every platform."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax import _fusion, _records

QUANTIZER = qgenx.uniform(4, bucket_size=64)
X = jax.ShapeDtypeStruct((3, 256), "float32")


def round_trip(x):
    payload = QUANTIZER.encode(0, 2 * x)
    return payload.data, QUANTIZER.decode(payload) + 1


@pytest.mark.quick
def test_a_call_is_not_inlined_and_what_it_calls_is():
    """Without it encoders take several times as long, and nothing else would tell."""
    compiled = jax.jit(round_trip).lower(X).compile().as_text()
    entry = compiled[compiled.index("\nENTRY") :]
    calls = re.findall(r" call\(.*inlineable=\"false\"", entry)
    assert len(calls) == 2, (
        f"an encoder and a decoder apart, got {len(calls)}:\n{entry}"
    )
    others = compiled.count('inlineable="false"') - len(calls)
    assert others == 0, "calls in the codec are not inlined"


@pytest.mark.quick
def test_it_is_a_call_for_cpus_only():
    text = {
        platform: jax.jit(round_trip).trace(X).lower(lowering_platforms=(platform,))
        for platform in ("cpu", "cuda", "tpu")
    }
    apart = {
        name: 'inlineable = "false"' in low.as_text() for name, low in text.items()
    }
    assert apart == {"cpu": True, "cuda": False, "tpu": False}


def test_an_export_for_several_platforms_gives_the_same_bytes():
    exported = jax.export.export(jax.jit(round_trip), platforms=("cpu", "cuda", "tpu"))(
        X
    )
    x = jax.random.normal(jax.random.key(0), X.shape)
    for found, expected in zip(exported.call(x), round_trip(x), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_outside_jit_nothing_is_traced_twice(monkeypatch):
    traced = []
    encode, mean = _records.Format.encode, _records.Format.mean

    def counted(function):
        def count(*args):
            traced.append(function)
            return function(*args)

        return count

    monkeypatch.setattr(_records.Format, "encode", counted(encode))
    monkeypatch.setattr(_records.Format, "mean", counted(mean))
    x = jnp.arange(77.0)
    first = QUANTIZER.decode(QUANTIZER.encode(0, x))
    once = len(traced)
    assert once >= 2
    second = QUANTIZER.decode(QUANTIZER.encode(1, x))
    assert len(traced) == once, "encoders or decoders were traced again"
    assert not np.array_equal(first, second), "two keys, equal roundings"
    exchange = qgenx.exchange("data", QUANTIZER, collective="reduce_scatter")
    run = jax.vmap(lambda x: exchange.send(x, exchange.init())[0][0], axis_name="data")
    run(jnp.ones((3, 200)))
    once = len(traced)
    run(jnp.zeros((3, 200)))
    assert len(traced) == once, "an exchange was traced again"


def test_what_is_apart_is_differentiated_and_mapped():
    function = lambda x: _fusion.apart(lambda x: x**2, x)  # noqa: E731
    x = jnp.arange(4.0)
    np.testing.assert_array_equal(jax.vmap(jax.grad(function))(x), 2 * x)


@pytest.mark.quick
@pytest.mark.parametrize("sizes", [(), (0,), (9,), (9, 0, 2), (1, 5, 300)])
def test_joined_parts(sizes):
    parts = [jnp.full(size, i + 1, jnp.int8) for i, size in enumerate(sizes)]
    found = jax.jit(lambda parts: _fusion.joined(parts, "int8"))(parts)
    assert found.dtype == jnp.int8
    np.testing.assert_array_equal(found, np.repeat(np.arange(len(sizes)) + 1, sizes))
