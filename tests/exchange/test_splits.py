"""Leaves of one quantizer in groups by scale: where it saves, and what it leaves."""

import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._exchange.assigned import grouped
from qgenx_jax._exchange.recorded import recorded
from qgenx_jax._exchange.splits import split

pytestmark = pytest.mark.quick
SCALES = [1, 100, 1, 100, 1, 100, 1, 100]
RNG = np.random.default_rng(0)
TREE = [(s * RNG.normal(size=300)).astype("f4") for s in SCALES]
WEIGHTS = [1 / s for s in SCALES]
FOUR = qgenx.uniform(4)


def of_and_groups(tree, weights, quantizers):
    of = recorded([tree], weights)
    units = {path: [i] for i, path in enumerate(of.paths)}
    return of, grouped(of, units, quantizers, by_leaf=True)


def variance(of, groups):
    return sum(of.variance(groups.members[x], q) for x, q in groups.quantizers.items())


def test_leaves_that_are_weighed_alike_get_a_group_for_each_scale():
    of, groups = of_and_groups(TREE, WEIGHTS, [FOUR] * 8)
    found = split(of, groups, 2)
    assert found.members == {
        "uniform_4_scale_1": [0, 2, 4, 6],
        "uniform_4_scale_2": [1, 3, 5, 7],
    }
    assert set(found.quantizers.values()) == {FOUR}
    assert found.bytes_of == dict.fromkeys(found.members, FOUR.n_bytes(1200))
    assert variance(of, found) < variance(of, groups) / 100


def test_most_is_kept_and_nothing_is_split_for_nothing():
    of, groups = of_and_groups(TREE, WEIGHTS, [FOUR] * 8)
    assert split(of, groups, 1) is groups
    whole_buckets = [RNG.normal(size=2048).astype("f4") for _ in range(3)]
    of, groups = of_and_groups(whole_buckets, None, [FOUR] * 3)
    assert split(of, groups, 9) is groups
    of, groups = of_and_groups(TREE, WEIGHTS, [None] * 8)
    assert split(of, groups, 9) is groups


def test_other_groups_stay_and_names_stay_apart():
    other = qgenx.uniform(4, bucket_size=512)
    of, groups = of_and_groups(TREE, WEIGHTS, [FOUR] * 4 + [other] * 3 + [None])
    found = split(of, groups, 5)
    assert len(found.quantizers) == 5
    assert sorted(i for x in found.members.values() for i in x) == list(range(8))
    for label, members in found.members.items():
        assert len({SCALES[i] for i in members}) == 1, label
    assert found.quantizers["exact"] is None
    limited = split(of, groups, 4)
    assert len(limited.quantizers) == 4
    assert variance(of, limited) < variance(of, groups)


def test_one_bucket_for_a_whole_group():
    whole = qgenx.uniform(4, bucket_size=None)
    of, groups = of_and_groups([*TREE, np.zeros(0, "f4")], None, [whole] * 9)
    assert variance(of, split(of, groups, 9)) <= variance(of, groups)
