"""The cost model by hand, and the choice made by it."""

import itertools

import jax
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, vectors

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
