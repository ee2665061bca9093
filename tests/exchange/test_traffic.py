"""Bytes by hand, seconds by hand, and the choice made by them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.exchanges import tree_of
from tests.lib.helpers import AXIS, vectors

pytestmark = pytest.mark.quick

BITS = qgenx.uniform(8, bucket_size=1024)
LINKS = {
    "Ethernet": qgenx.Link(1e-4, 1.25e8, 1e-9, 5e-10),
    "InfiniBand": qgenx.Link(2e-6, 5e10, 2e-12, 1e-12),
    "no latency": qgenx.Link(0, 1e9, 0, 0),
}


def traffic(size, workers, collective, quantizer=BITS):
    vector = jax.ShapeDtypeStruct((size,), "float32")
    exchange = qgenx.exchange(AXIS, quantizer, collective=collective)
    return exchange.traffic(vector, workers)


def test_seconds_by_hand():
    link = qgenx.Link(latency=1e-3, bytes_per_second=1e6, encode=1e-6, decode=1e-7)
    size, k, record = 8 * 1024, 4, 1028
    whole, chunk = 8 * record, 2 * record
    expected = {
        "all_gather": 3e-3 + 3 * whole / 1e6 + size * 1e-6 + k * size * 1e-7,
        "reduce_scatter": 6e-3
        + 6 * chunk / 1e6
        + (size + size // k) * 1e-6
        + (size + size) * 1e-7,
    }
    for collective, seconds in expected.items():
        found = link.seconds(traffic(size, k, collective))
        assert found == pytest.approx(seconds, rel=1e-12), collective
    exact = link.seconds(traffic(size, k, "exact", None))
    assert exact == pytest.approx(6e-3 + 2 * 3 / 4 * 4 * size / 1e6, rel=1e-12)


def test_seconds_of_hosts_and_what_joins_them():
    slow, fast = LINKS["Ethernet"], LINKS["InfiniBand"]
    exchange = qgenx.exchange(("host", "chip"), BITS, collective="hierarchical")
    found = exchange.traffic(jax.ShapeDtypeStruct((8 * 1024,), "float32"), (2, 4))
    inside = 2 * (3 * 2e-6 + 3 * 2 * 4 * 1024 / 5e10)
    between = 1e-4 + 2 * 1028 / 1.25e8 + 2 * 1024 * 1e-9 + 2 * 2 * 1024 * 5e-10
    seconds = slow.seconds(found, fast=fast)
    assert seconds == pytest.approx(inside + between, rel=1e-12)
    assert slow.seconds(found) > seconds, "all over the slow link"


def test_a_link_and_auto_choose_what_the_model_says_is_faster():
    chosen = set()
    for (name, link), workers, size in itertools.product(
        LINKS.items(), (1, 2, 3, 8, 64, 1024), (0, 1, 1000, 100_000, 10**7)
    ):
        ways = [traffic(size, workers, way) for way in ("all_gather", "reduce_scatter")]
        expected = min(ways, key=link.seconds)
        found = traffic(size, workers, link)
        if workers == 1:  # nothing is sent, and nothing rounded
            assert (found.collective, found.sent_bytes) == ("exact", 0)
        else:
            assert found.collective == expected.collective, (name, workers, size)
            assert workers > 2 or found.collective == "all_gather"
            chosen.add((name, found.collective))
        auto = traffic(size, workers, "auto")
        assert auto == traffic(size, workers, qgenx.Link())
    assert len(chosen) == 2 * len(LINKS), "each link chooses either, somewhere"


def test_without_latency_and_codec_the_fewest_bytes_win():
    for workers, size in itertools.product((3, 5, 8), (10_000, 1_000_000)):
        found = traffic(size, workers, LINKS["no latency"])
        ways = [traffic(size, workers, way) for way in ("all_gather", "reduce_scatter")]
        assert found.sent_bytes == min(way.sent_bytes for way in ways)


def test_an_exchange_goes_by_what_its_link_chooses():
    patient = qgenx.Link(latency=0, bytes_per_second=1, encode=0, decode=0)
    means = {}
    for collective in (patient, "reduce_scatter"):
        exchange = qgenx.exchange(AXIS, BITS, collective=collective)
        run = jax.vmap(
            lambda v, exchange=exchange: exchange.send(v, exchange.init())[0][0],
            axis_name=AXIS,
            out_axes=None,
        )
        means[collective] = np.asarray(jax.jit(run)(vectors(3, 3000)))
    np.testing.assert_array_equal(means[patient], means["reduce_scatter"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency", -1.0),
        ("latency", float("nan")),
        ("bytes_per_second", 0),
        ("bytes_per_second", float("inf")),
        ("encode", "fast"),
        ("decode", None),
    ],
)
def test_numbers_that_are_none_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must be a .*finite number"):
        qgenx.Link(**{field: value})


def test_traffic_counts_codes_norms_exact_leaves_and_the_number():
    tree = jax.eval_shape(tree_of, jnp.zeros(2100))
    quantizer = qgenx.uniform(4, bucket_size=1024)
    exchange = qgenx.exchange(AXIS, quantizer, exact=qgenx.small_leaves)
    traffic = exchange.traffic(tree, workers=3, scalar_bytes=4)
    kernel, norms, exact = 2048 // 2, 2 * 4, 7 * 4 + 20 * 2 + 4
    assert traffic.payload_bytes == kernel + norms + exact + 4
    assert traffic.sent_bytes == traffic.received_bytes == 2 * traffic.payload_bytes
    assert traffic.coordinates == 7 + 20 + 2048 + 1
    plain = qgenx.exchange(AXIS, None).traffic(tree, workers=3)
    assert (plain.collective, plain.payload_bytes) == ("exact", 4 * 2076)
    assert plain.sent_bytes == -(-4 * plain.payload_bytes // 3)


def test_traffic_of_exact_empty_and_wide_trees():
    exact = qgenx.exchange(AXIS, None)
    traffic = exact.traffic(jnp.zeros(10), workers=4, scalar_bytes=4)
    assert traffic.payload_bytes == 40 + 4 * 4
    assert traffic.sent_bytes == 2 * 3 * 56 // 4
    assert traffic.bits_per_coordinate == 8 * 56 / 10
    assert exact.traffic({}, workers=2).bits_per_coordinate == 0
    with pytest.raises(ValueError, match=r"workers must be a whole number of at least"):
        exact.traffic(jnp.zeros(3), workers=0)
    with pytest.raises(ValueError, match=r"scalar_bytes must be a whole number"):
        exact.traffic(jnp.zeros(3), workers=1, scalar_bytes=-1)
    with jax.enable_x64(True):
        wide = jax.ShapeDtypeStruct((10,), "float64")
        sent = qgenx.exchange(AXIS, qgenx.uniform(8)).traffic(wide, workers=1)
    assert (sent.payload_bytes, sent.sent_bytes) == (10 + 8, 0)


def test_numpys_whole_numbers_are_whole_numbers():
    traffic = qgenx.exchange(AXIS, None).traffic(jnp.ones(100), workers=np.uint8(200))
    assert traffic.sent_bytes == 2 * 199 * 400 // 200
    with pytest.raises(ValueError, match=r"workers must be a whole number"):
        qgenx.exchange(AXIS, None).traffic(jnp.ones(3), workers=np.float64(4))


def test_two_phases_send_as_few_bytes_as_a_ring_of_codes():
    """2 (K - 1) / K payloads, to less than a hundredth, for every K."""
    size = 1_000_000
    vector = jax.ShapeDtypeStruct((size,), "float32")
    for workers in (3, 8, 64):
        for bits in (8, 4, 2):
            quantizer = qgenx.uniform(bits)
            exchange = qgenx.exchange(AXIS, quantizer, collective="reduce_scatter")
            sent = exchange.traffic(vector, workers).sent_bytes
            ideal = 2 * (workers - 1) / workers * quantizer.n_bytes(size)
            assert ideal * 0.999 < sent < ideal * 1.009, (workers, bits)
            plain = qgenx.exchange(AXIS, None).traffic(vector, workers).sent_bytes
            assert plain / sent > 0.98 * 4 / (bits / 8 + 4 / 1024)


@pytest.mark.quick
def test_traffic_in_words():
    exchange = qgenx.exchange("data", qgenx.uniform(bits=8, bucket_size=None))
    found = exchange.traffic(jnp.zeros(1000), workers=3)
    # 2 (K - 1) / K of 4,000 bytes, over 2 payloads of 1,004
    assert found.times_fewer == pytest.approx(4 / 3 * 4000 / 2008)
    assert repr(found) == (
        "Traffic('all_gather', 3 workers: each sends 2,008 bytes, 2.7 times fewer than "
        "float32's all-reduce; 8.03 bits per coordinate in the buffers; 1 "
        "collective(s), 1 exchange(s))"
    )
    alone = exchange.traffic(jnp.zeros(1000), workers=1)
    assert alone.times_fewer == float("inf")
