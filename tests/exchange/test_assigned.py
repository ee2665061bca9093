"""Groups of leaves and their bytes, which are those that an exchange counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._exchange.assigned import cost, grouped
from qgenx_jax._exchange.recorded import recorded

pytestmark = pytest.mark.quick
TREE = {
    "a": jnp.ones((50, 30)),
    "b": jnp.ones(7, jnp.bfloat16),
    "c": jnp.ones(1000),
    "d": jnp.ones(9),
}
OF = recorded([TREE], None)
UNITS = {path: [i] for i, path in enumerate(OF.paths)}
FOUR, OTHER = qgenx.uniform(4), qgenx.uniform(4, bucket_size=64)


def test_leaves_of_one_quantizer_share_a_label():
    made = grouped(OF, UNITS, [FOUR, None, OTHER, FOUR], by_leaf=True)
    assert made.members == {"uniform_4": [0, 3], "exact": [1], "uniform_4_2": [2]}
    assert made.quantizers == {"uniform_4": FOUR, "exact": None, "uniform_4_2": OTHER}
    expected = {"uniform_4": FOUR.n_bytes(1509), "exact": 14}
    assert made.bytes_of == expected | {"uniform_4_2": OTHER.n_bytes(1000)}
    assert made.payload_bytes == sum(made.bytes_of.values())


def test_groups_of_ones_own_stay_as_they_are():
    units = {"x": [0, 1], "y": [2], "z": [3]}
    made = grouped(OF, units, [FOUR, FOUR, None], by_leaf=False)
    assert made.members == units
    assert made.bytes_of == {"x": FOUR.n_bytes(1507), "y": FOUR.n_bytes(1000), "z": 36}


def test_where_all_are_exact_narrow_leaves_travel_in_float32():
    made = grouped(OF, UNITS, [None] * 4, by_leaf=True)
    exchange = qgenx.exchange("data", None)
    payload = exchange.traffic(TREE, workers=3).payload_bytes
    assert made.payload_bytes == payload == 4 * 2516


@pytest.mark.parametrize("quantizer", [FOUR, OTHER, qgenx.min_max(3), None], ids=str)
def test_costs_are_exact_or_a_little_less(quantizer):
    sizes = [1, 7, 1000, 1023, 1024, 5000]
    for several in ([s] for s in sizes):
        of = recorded([[jnp.ones(s) for s in several]], None)
        size, members = sum(several), list(range(len(several)))
        exact = 4 * size if quantizer is None else quantizer.n_bytes(size)
        assert cost(of, members, quantizer, runs_on=False) == exact
        least = cost(of, members, quantizer, runs_on=True)
        assert exact - 12 <= least <= exact


def test_one_bucket_for_all_shares_its_norm():
    of = recorded([[np.ones(100, "f4")]], None)
    whole = qgenx.uniform(4, bucket_size=None)
    assert cost(of, [0], whole, runs_on=True) == 50
    assert cost(of, [0], whole, runs_on=False) == 54


def test_float64_takes_longer_norms():
    with jax.enable_x64(True):
        of = recorded([[np.ones(100)]], None)
        made = grouped(of, {"a": [0]}, [FOUR], by_leaf=True)
        assert made.bytes_of == {"uniform_4": 58}
        assert cost(of, [0], FOUR, runs_on=False) == 58
