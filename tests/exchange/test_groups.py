"""A quantizer for each group of leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

TREE = {
    "conv": {"kernel": jnp.arange(1.0, 41.0).reshape(5, 8), "bias": jnp.full(8, 0.3)},
    "dense": {"kernel": jnp.linspace(-1, 1, 30).reshape(6, 5), "bias": jnp.ones(5)},
}
LABELS = {"conv": "coarse", "dense": {"kernel": "fine", "bias": "exact"}}
QUANTIZERS = {
    "coarse": qgenx.uniform(2, bucket_size=16),
    "fine": qgenx.user_levels([0.2, 0.5, 1.0], bucket_size=None),
    "exact": None,
}


def send(exchange, tree=TREE):
    def run(_):
        (mean, own, _), state = exchange.send(tree, exchange.init())
        return mean, own, state

    mean, own, state = jax.jit(jax.vmap(run, axis_name=AXIS))(jnp.arange(3))
    first = jax.tree.map(lambda x: x[0], mean)
    return first, own, state


def test_each_group_has_its_own_levels_and_bytes():
    exchange = qgenx.exchange(AXIS, QUANTIZERS, labels=LABELS)
    _, own, _ = send(exchange)
    np.testing.assert_array_equal(own["dense"]["bias"], np.ones((3, 5)))
    fine = np.unique(np.abs(own["dense"]["kernel"]))
    np.testing.assert_allclose(fine, [0, 0.2, 0.5, 1.0], rtol=2.0**-10)
    # 2 bits: zero or the bucket's norm; buckets of 16 run over bias and kernel
    for worker in range(3):
        conv = own["conv"]
        coarse = [conv["bias"][worker].ravel(), conv["kernel"][worker].ravel()]
        flat = np.concatenate(coarse)
        for start in range(0, 48, 16):
            values = np.unique(np.abs(flat[start : start + 16]))
            assert len(set(values) - {0.0}) <= 1, values
    traffic = exchange.traffic(TREE, workers=3)
    coarse, fine, exact = 48 * 2 // 8 + 3 * 4, 12 + 4, 5 * 4
    assert traffic.payload_bytes == coarse + fine + exact
    assert QUANTIZERS["fine"].n_bytes(30) == fine


def test_labels_may_be_a_function_and_go_through_every_door():
    def labels(tree):
        return jax.tree.map(lambda x: "large" if x.ndim > 1 else "small", tree)

    quantizers = {"large": qgenx.uniform(8), "small": None}
    mean, _, _ = send(qgenx.exchange(AXIS, quantizers, labels=labels))
    np.testing.assert_array_equal(mean["conv"]["bias"], TREE["conv"]["bias"])
    transformation = qgenx.quantized_mean(AXIS, quantizers, labels=labels, exact=None)
    pair = qgenx.q_genx(AXIS, quantizers, labels=labels, variant="optimistic")
    optimizer = qgenx.alternating(pair)

    def run(_):
        updates, _ = transformation.update(TREE, transformation.init(TREE))
        delta, _ = optimizer.update(TREE, optimizer.init(TREE), TREE)
        return updates, optax.apply_updates(TREE, delta)

    updates, moved = jax.jit(jax.vmap(run, axis_name=AXIS))(jnp.arange(2))
    np.testing.assert_array_equal(updates["dense"]["bias"][0], TREE["dense"]["bias"])
    assert not np.array_equal(moved["conv"]["kernel"][0], TREE["conv"]["kernel"])


def test_groups_round_independently():
    tree = {"a": jnp.full(500, 0.5).at[0].set(1), "b": jnp.full(500, 0.5).at[0].set(1)}
    quantizers = {"a": qgenx.uniform(2), "b": qgenx.uniform(2)}
    exchange = qgenx.exchange(AXIS, quantizers, labels={"a": "a", "b": "b"})
    _, own, _ = send(exchange, tree)
    assert (own["a"] != own["b"]).mean() > 0.3, "two groups share one stream"


def test_levels_of_a_group_live_in_the_state():
    exchange = qgenx.exchange(AXIS, QUANTIZERS, labels=LABELS)
    state = exchange.init()
    assert set(state.levels) == {"fine"}
    assert state.levels["fine"].shape == (3,)


def test_wrong_groups_say_what_to_do():
    with pytest.raises(ValueError, match=r"quantizer must be a mapping from labels"):
        qgenx.exchange(AXIS, QUANTIZERS)
    with pytest.raises(ValueError, match=r"quantizer must be a mapping from labels"):
        qgenx.exchange(AXIS, qgenx.uniform(8), labels=LABELS)
    with pytest.raises(ValueError, match=r"quantizer must be a quantizer, or None"):
        qgenx.exchange(AXIS, {"a": 8}, labels="a")
    with pytest.raises(ValueError, match=r"labels must be one of .*got 'other'"):
        send(qgenx.exchange(AXIS, QUANTIZERS, labels="other"))
    unused = {**QUANTIZERS, "unused": qgenx.uniform(8)}
    with pytest.raises(ValueError, match=r"labels must give 'unused', .*least one"):
        send(qgenx.exchange(AXIS, unused, labels=LABELS))


def test_labels_by_size():
    labels = qgenx.by_size(8, large="big")
    assert labels(TREE) == {
        "conv": {"kernel": "big", "bias": "small"},
        "dense": {"kernel": "big", "bias": "small"},
    }
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), TREE)
    assert labels(shapes) == labels(TREE)
    assert labels == qgenx.by_size(8, large="big")
    quantizers = {"small": qgenx.uniform(8), "large": qgenx.uniform(2)}
    exchange = qgenx.exchange(AXIS, quantizers, labels=qgenx.by_size(9))
    sent = exchange.traffic(TREE, workers=2).phases[0].sent_by_group
    assert sent == {"small": 13 + 4, "large": 18 + 4}


def test_sizes_that_are_all_alike_say_limit_and_sizes():
    quantizers = {"small": qgenx.uniform(8), "large": qgenx.uniform(2)}
    exchange = qgenx.exchange(AXIS, quantizers, labels=qgenx.by_size(100))
    message = (
        r"labels must give 'large', .*got \['small'\] by by_size\(100\) of leaves of 5 "
        r"to 40 coordinates: label a leaf so, or leave that quantizer out"
    )
    with pytest.raises(ValueError, match=message):
        exchange.traffic(TREE, workers=2)
    only = qgenx.exchange(AXIS, {"small": quantizers["small"]}, labels=exchange.labels)
    assert only.traffic(TREE, workers=2).payload_bytes == 83 + 4


def test_wrong_sizes_and_names_are_refused():
    with pytest.raises(ValueError, match=r"limit must be a whole number of at least 1"):
        qgenx.by_size(0)
    with pytest.raises(ValueError, match=r"small must be of type str"):
        qgenx.by_size(9, None)
    with pytest.raises(ValueError, match=r"large must be another label than small's"):
        qgenx.by_size(9, "a", "a")
