"""A plan as an object: labels, an exchange, a table, and text."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.plainly]
TREE = {
    "conv": {"kernel": jnp.ones((30, 40)), "bias": jnp.ones(40)},
    "out": jnp.ones(9),
}
PLAN = qgenx.Plan(
    quantizers={
        "fine": qgenx.user_levels([0.1, 0.3, 1.0], bucket_size=256),
        "exact": None,
        "coarse": qgenx.uniform(2, norm=2, bucket_size=None),
    },
    leaves={
        "['conv']['bias']": "fine",
        "['conv']['kernel']": "coarse",
        "['out']": "exact",
    },
    sizes={"['conv']['bias']": 40, "['conv']['kernel']": 1200, "['out']": 9},
    bytes_of={"fine": 19, "exact": 36, "coarse": 304},
    variances={"fine": 0.1, "exact": 0.0, "coarse": 0.3},
    energy=1.6,
    lower_bound=0.35,
)


def test_its_numbers():
    assert (PLAN.coordinates, PLAN.payload_bytes) == (1249, 359)
    assert PLAN.bits_per_coordinate == 8 * 359 / 1249
    assert PLAN.predicted == pytest.approx(0.4)
    assert PLAN.relative == pytest.approx(0.25)


def test_labels_are_a_tree_like_the_vectors():
    expected = {"conv": {"kernel": "coarse", "bias": "fine"}, "out": "exact"}
    assert PLAN.labels(TREE) == expected
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), TREE)
    assert PLAN.labels(shapes) == expected


def test_it_goes_through_every_door():
    exchange = PLAN.exchange("data", key=3)
    assert exchange.traffic(TREE, workers=4).payload_bytes == 359
    by_hand = qgenx.exchange("data", PLAN.quantizers, labels=PLAN.labels, key=3)
    mean = qgenx.quantized_mean(exchange)

    def run(tree):
        updates, _ = mean.update(tree, mean.init(tree))
        other, _ = by_hand.mean(tree, by_hand.init())
        return updates, other

    trees = jax.tree.map(lambda x: jnp.stack([x, 3 * x]), TREE)
    found, other = jax.vmap(run, axis_name="data")(trees)
    np.testing.assert_array_equal(found["out"], 2 * np.ones((2, 9)))
    jax.tree.map(np.testing.assert_array_equal, found, other)
    two_phases = PLAN.exchange("data", collective="reduce_scatter")
    assert two_phases.traffic(TREE, workers=4).collective == "reduce_scatter"


@pytest.mark.parametrize(
    "tree",
    [TREE["conv"], {**TREE, "out": jnp.ones(10)}, {**TREE, "more": jnp.ones(2)}],
    ids=["fewer", "larger", "more"],
)
def test_another_tree_is_refused(tree):
    with pytest.raises(ValueError, match=r"must have the 3 leaves of the plan.*at \["):
        PLAN.exchange("data").traffic(tree, workers=2)


def test_a_row_for_each_group():
    head, *rows, totals, end = str(PLAN).splitlines()
    assert head.split() == [
        "group",
        "leaves",
        "coordinates",
        "norm",
        "bucket",
        "bits",
        "error",
    ]
    assert [row.split() for row in rows] == [
        ["coarse", "1", "1,200", "2", "None", "2.03", "75.0%"],
        ["fine", "1", "40", "inf", "256", "3.80", "25.0%"],
        ["exact", "1", "9", "32.00", "0.0%"],
    ]
    assert totals.split() == ["all", "3", "1,249", "2.30", "100.0%"]
    assert end == (
        "359 bytes, variance 0.4, 0.25 of the energy; at least 0.35 by any plan"
    )
    assert len({len(row) for row in [head, *rows, totals]}) == 1


@pytest.mark.parametrize(
    "quantizer",
    [
        qgenx.uniform(4, norm=2),
        qgenx.min_max(3),
        qgenx.user_levels([0.3, 1.0], norm="range"),
        qgenx.adaptive(4, norm="range"),
        qgenx.rotated(qgenx.best(2)),
    ],
    ids=lambda quantizer: quantizer.family,
)
def test_every_kind_of_quantizer_goes_through_text(quantizer):
    x = np.random.default_rng(0).standard_normal(600).astype(np.float32)
    plan = qgenx.plan_bits({"a": x}, bits_per_coordinate=9, candidates=[quantizer])
    assert qgenx.Plan.from_json(plan.to_json()) == plan
    wrong = plan.to_json().replace('"norm": ', '"norm": "none", "was": ')
    with pytest.raises(ValueError, match=r"text must be what Plan.to_json wrote"):
        qgenx.Plan.from_json(wrong)


def test_text_and_back():
    text = PLAN.to_json()
    assert qgenx.Plan.from_json(text) == PLAN
    assert "Infinity" not in text
    json.loads(text)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"quantizers": 3}', "null"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"text must be what Plan.to_json wrote"):
        qgenx.Plan.from_json(text)
