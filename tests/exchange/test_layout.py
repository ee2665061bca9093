"""Which leaves are quantized."""

import jax
import pytest

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick


def test_small_leaves_are_vectors_and_those_under_1024():
    shapes = {(32, 32): False, (33, 31): True, (1024,): True, (): True, (4, 0): True}
    for shape, small in shapes.items():
        leaf = jax.ShapeDtypeStruct(shape, "float32")
        assert qgenx.small_leaves("", leaf) == small, f"shape {shape}"
