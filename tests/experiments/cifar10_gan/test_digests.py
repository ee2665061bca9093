"""Digests of arrays: by every bit, and by no layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from experiments.cifar10_gan import digests
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.quick
TREE = {
    "kernel": np.arange(24, dtype=np.float32).reshape(4, 3, 2),
    "narrow": jnp.arange(6, dtype=jnp.bfloat16),
    "flag": np.array(True),
    "empty": np.zeros((0, 3), np.float32),
    "long": np.zeros(5000, np.int32),
}


def laid_out(tree, spec):
    place = NamedSharding(mesh_of(4), spec)
    return {name: jax.device_put(x, place) for name, x in tree.items()}


def test_a_digest_is_of_the_array_and_not_of_its_layout():
    four = {name: TREE[name] for name in ("kernel", "long")}
    everywhere = digests.digests(laid_out(TREE, PartitionSpec()))
    shared = digests.digests(laid_out(four, PartitionSpec(AXIS)))
    assert set(everywhere) == set(TREE)
    assert {name: everywhere[name] for name in four} == shared


def test_rows_of_several_processes_add_up():
    x = TREE["kernel"]
    parts = [digests._of_rows(x[k : k + 2], k, x.shape) for k in (0, 2)]
    assert sum(parts) % 2**32 == digests._of_rows(x, 0, x.shape)
    swapped = [digests._of_rows(x[k : k + 2], 2 - k, x.shape) for k in (0, 2)]
    assert sum(swapped) % 2**32 != digests._of_rows(x, 0, x.shape)


@pytest.mark.parametrize("name", ["kernel", "narrow", "flag", "long"])
def test_every_bit_counts(name):
    x = np.array(TREE[name])
    known = digests._of_rows(x, 0, x.shape)
    bits = x.reshape(-1).view(np.uint8)
    for place in range(0, bits.size, max(bits.size // 16, 1)):
        for bit in range(8):
            bits[place] ^= 1 << bit
            assert digests._of_rows(x, 0, x.shape) != known
            bits[place] ^= 1 << bit
    assert digests._of_rows(x, 0, x.shape) == known


def test_the_odd_process_is_named(monkeypatch):
    def gathered(value, name):
        return [value, {**value, "kernel": 7}, value]

    monkeypatch.setattr(digests, "gathered", gathered)
    with pytest.raises(
        digests.Damaged, match=r"kernel must be equal.*odd one is process 1"
    ):
        digests.digests(laid_out(TREE, PartitionSpec()))


def test_facts_have_one_whatever_their_order():
    assert digests.of_facts({"a": 1, "b": [2.5]}) == digests.of_facts(
        {"b": [2.5], "a": 1}
    )
    assert digests.of_facts({"a": 1}) != digests.of_facts({"a": 2})
