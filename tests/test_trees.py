"""Sums over workers: in their order, however many there are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax import _trees
from tests.lib.helpers import AXIS, assert_trees_identical, vectors


@pytest.mark.quick
@pytest.mark.parametrize("count", [1, 2, 8, 9, 16])
def test_sums_are_in_the_order_of_the_workers(count):
    """Unrolled or in a loop, bit for bit: ((x_0 + x_1) + x_2) + ..."""
    numbers = vectors(count, 50)
    expected = numbers[0]
    for worker in range(1, count):
        expected = expected + numbers[worker]
    add_up = functools.partial(_trees.add_up, count)
    total = jax.jit(lambda rows: add_up(lambda worker: rows[worker]))(numbers)
    np.testing.assert_array_equal(total, expected)


def test_many_workers_add_up_in_the_same_order_as_few(monkeypatch):
    """The loop for many workers gives the bits of the unrolled sum."""
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4, bucket_size=32))
    flats = jnp.asarray(vectors(20, 100))

    def mean():
        run = lambda v: exchange.send(v, exchange.init())[0][0]  # noqa: E731
        return jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=None))(flats)

    looped = mean()
    monkeypatch.setattr(_trees, "UNROLLED", 100)
    jax.clear_caches()
    assert_trees_identical(mean(), looped, "unrolled against looped")
