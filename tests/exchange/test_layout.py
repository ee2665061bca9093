"""Which leaves are quantized, and which share a vector."""

import jax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax._exchange import groups
from qgenx_jax._exchange.layout import held

pytestmark = pytest.mark.quick


def test_small_leaves_are_vectors_and_those_under_1024():
    shapes = {(32, 32): False, (33, 31): True, (1024,): True, (): True, (4, 0): True}
    for shape, small in shapes.items():
        leaf = jax.ShapeDtypeStruct(shape, "float32")
        assert qgenx.small_leaves("", leaf) == small, f"shape {shape}"


def test_a_vector_for_each_label_dtype_and_set_of_axes():
    auto = (AxisType.Auto,) * 3
    mesh = jax.make_mesh((2, 2, 2), ("data", "model", "stage"), auto)

    def leaf(*shape, cut=(), dtype="float32"):
        sharding = NamedSharding(mesh, P(*cut))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    tree = {
        "a": leaf(4, 6, cut=("model",)),
        "b": leaf(4, 6),
        "c": leaf(8, 2, cut=(("stage", "model"), "data")),
        "d": leaf(6, cut=("model",), dtype="bfloat16"),
        "e": leaf(4, 6, cut=("data", "model")),  # over "data" are the workers
    }
    quantizers = {"all": qgenx.uniform(8)}
    found = groups.layout(tree, quantizers, None, lambda path, _: "d" in path, "data")
    assert [(v.label, v.leaves, v.size, v.over) for v in found.vectors] == [
        ("all", (0, 4), 12 + 12, {"model"}),
        ("all", (1,), 24, set()),
        ("all", (2,), 4, {"model", "stage"}),
        (None, (3,), 3, {"model"}),
    ]
    # the workers' axes too count for one that has none
    assert held(tree["e"], None)[1] == {"data", "model"}
    assert held(3.0, "data") == (jax.ShapeDtypeStruct((), "float32"), set())
