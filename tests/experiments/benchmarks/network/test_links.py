"""Rates, buckets and headers of the links, against numbers worked out by hand."""

import math

import pytest

from experiments.benchmarks.network import links
from experiments.benchmarks.network.links import Counters


def test_headers_are_those_of_counted_packets():
    # 100,000 bytes of payload in 69 full frames of 1448 and one of 88, each with 14 of
    # Ethernet, 20 of IP, 20 of TCP and 12 of timestamps; 35 acknowledgements come back
    before = Counters(1_000, 10, 2_000, 20)
    after = Counters(1_000 + 100_000 + 70 * 66, 80, 2_000 + 35 * 66, 55)
    difference = after.since(before)
    assert difference == (104_620, 70, 2_310, 35)
    assert difference.sent_payload() == 100_000
    assert difference.received_payload() == 0
    # the same, handed over as two packets by segmentation offload
    assert Counters(100_132, 2, 0, 0).sent_payload() == 100_000


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10mbit", 1e7), ("2.5gbit", 2.5e9), ("500kbit", 5e5), ("unlimited", math.inf)],
)
def test_rates_are_read(text, rate):
    assert links.bits_per_second(text) == rate


@pytest.mark.parametrize(
    "text", ["10", "fast", "1kbit", "nanmbit", "infgbit", "-1mbit"]
)
def test_rates_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=rf"rates must be .* got '{text}'; pass"):
        links.bits_per_second(text)


def test_buckets_hold_little():
    # 0.6 ms of 1 Gbit/s are 75,000 bytes, more than a packet of 65,536 and its header;
    # of 10 Mbit/s they would be 750, less than a frame
    assert links.burst_bytes("1gbit") == 75_000
    assert links.burst_bytes("10mbit") == 3_200
