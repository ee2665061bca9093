"""The codec is compiled apart on CPUs, once, and for every platform."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec import fusion, records
from tests.lib.helpers import assert_trees_identical

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
    encode, mean = records.encode, records.mean

    def counted(function):
        def count(*args, **kwargs):
            traced.append(function)
            return function(*args, **kwargs)

        return count

    monkeypatch.setattr(records, "encode", counted(encode))
    monkeypatch.setattr(records, "mean", counted(mean))
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
    function = lambda x: fusion.apart(lambda x: x**2, x)  # noqa: E731
    x = jnp.arange(4.0)
    np.testing.assert_array_equal(jax.vmap(jax.grad(function))(x), 2 * x)


@pytest.mark.quick
@pytest.mark.parametrize("sizes", [(), (0,), (9,), (9, 0, 2), (1, 5, 300)])
def test_joined_parts(sizes):
    parts = [jnp.full(size, i + 1, jnp.int8) for i, size in enumerate(sizes)]
    found = jax.jit(lambda parts: fusion.joined(parts, "int8"))(parts)
    assert found.dtype == jnp.int8
    np.testing.assert_array_equal(found, np.repeat(np.arange(len(sizes)) + 1, sizes))


SHAPES = ((2, 3), (5,), (0,), (), (2, 3), (5,), (2, 0), (3, 2), (2, 3), (5,))


@pytest.mark.parametrize("joint", [0, 6, 14, 37, 40])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_leaves_are_the_runs_of_a_vector(joint, dtype):
    """In vmap and under grad, too, wherever the joint lies."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in SHAPES])
    x = jnp.arange(ends[-1], dtype=dtype)
    expected = [
        part.reshape(shape)
        for part, shape in zip(jnp.split(x, ends[:-1]), SHAPES, strict=True)
    ]
    cut = lambda x: fusion.cut((x[:joint], x[joint:]), SHAPES, dtype)  # noqa: E731
    for found in (cut(x), jax.jit(cut)(x)):
        assert_trees_identical(found, expected, f"joint at {joint}")
    in_vmap = jax.jit(jax.vmap(cut))(jnp.stack([x, x]))
    assert_trees_identical([y[1] for y in in_vmap], expected, "the second of two")
    total = lambda x: sum(jnp.sum(y) for y in cut(x))  # noqa: E731
    np.testing.assert_array_equal(jax.jit(jax.grad(total))(x), jnp.ones_like(x))


def test_leaves_of_nothing():
    found = fusion.cut((), ((0,), (2, 0), (0,), (2, 0)), "float32")
    assert [x.shape for x in found] == [(0,), (2, 0), (0,), (2, 0)]


def test_offsets_are_known_late_on_cpus_only():
    """Of leaves that share a shape with others; elsewhere they are constants."""
    x = jax.ShapeDtypeStruct((40,), "float32")
    shapes = (4, 4), (8,), (4, 4)
    cut = jax.jit(lambda x: [2 * y for y in fusion.cut((x,), shapes, x.dtype)])
    text = {
        platform: cut.trace(x).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    late = {name: 'inlineable = "false"' in lowered for name, lowered in text.items()}
    assert late == {"cpu": True, "cuda": False, "tpu": False}
    compiled = cut.lower(x).compile().as_text()
    assert len(re.findall(r" dynamic-slice\(", compiled)) == 2, compiled
    others = jax.jit(lambda x: fusion.cut((x,), ((4, 4), (24,)), x.dtype)).lower(x)
    assert "inlineable" not in others.as_text(), "no two leaves share a shape"


def test_a_leaf_across_a_joint_is_put_together_apart():
    def joined(a, b):
        return [3 * x for x in fusion.cut((a, b), ((4,), (6,)), a.dtype)]

    a, b = (jax.ShapeDtypeStruct((size,), "float32") for size in (7, 3))
    compiled = jax.jit(joined).lower(a, b).compile().as_text()
    entry = compiled[compiled.index("\nENTRY") :]
    assert len(re.findall(r" call\(.*inlineable=\"false\"", entry)) == 1, entry
    assert len(re.findall(r" concatenate\(", compiled)) == 1, compiled
