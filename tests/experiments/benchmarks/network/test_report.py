"""The network benchmark's arithmetic, against numbers worked out by hand."""

import math
import subprocess
import sys

import pytest

from experiments.benchmarks.network import links, namespaces, report
from experiments.benchmarks.network.links import Counters
from experiments.benchmarks.network.report import Point


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


def test_link_seconds():
    assert report.link_seconds(1_250_000, 1e7) == 1.0
    assert report.link_seconds(1_250_000, math.inf) == 0.0


def test_break_even_by_parts():
    # 5 MB saved in 40 ms of codec: 40 Mbit in 0.04 s
    assert report.break_even_by_parts(5_000_000, 0.04) == pytest.approx(1e9)
    assert report.break_even_by_parts(5_000_000, 0.0) == math.inf


def test_measured_break_even_is_that_of_two_lines_in_seconds_per_bit():
    # exact: 8e6 bits and 10 ms; quantized: 2e6 bits and 40 ms. Equal where
    # 6e6 / rate = 30 ms: at 2e8.
    def at(rate):
        return Point(rate, 0.01 + 8e6 / rate, 0.04 + 2e6 / rate)

    for rates in ([1e7, 1e8, 1e9], [1e9, 1e7], [math.inf, 1e8], [1e8, 1e9, math.inf]):
        found = report.break_even_measured(map(at, rates))
        assert found == pytest.approx(2e8), rates
    assert report.break_even_measured(map(at, [1e9, math.inf])) == 0
    assert report.break_even_measured(map(at, [1e7, 1e8])) is None
    assert report.break_even_measured([]) is None
    always = [Point(math.inf, 2.0, 1.0), Point(1e9, 3.0, 1.0)]
    assert report.break_even_measured(always) == math.inf
    equal = [Point(math.inf, 1.0, 1.0), Point(1e9, 3.0, 2.0)]
    assert report.break_even_measured(equal) == math.inf


def test_break_even_in_words():
    points = [Point(1e7, 1.0, 1.0), Point(1e9, 1.0, 1.0)]
    assert report.rate_text(2e8) == "200 Mbit/s"
    assert report.rate_text(2.345e9) == "2.35 Gbit/s"
    assert report.rate_text(None, points) == "above 1 Gbit/s"
    assert report.rate_text(0, points) == "below 10 Mbit/s"
    assert report.rate_text(math.inf) == "pays without a limit"


def test_break_even_rows_join_exact_and_quantized_rows_of_a_size():
    def row(bits, rate, whole, sent, codec=""):
        return {
            "coordinates": 1000,
            "collective": "all_gather" if codec else "exact",
            "bits": bits,
            "rate": rate,
            "sent bytes": sent,
            "seconds whole": whole,
            "seconds encode": codec,
            "seconds decode": codec,
        }

    rows = [
        row("exact", "1mbit", 8.0, 1_000_000),
        row("8", "1mbit", 2.1, 250_000, 0.02),
        row("exact", "1gbit", 0.008, 1_000_000),
        row("8", "1gbit", 0.102, 250_000, 0.05),
        row("bf16", "1gbit", 0.1, 500_000) | {"collective": "bf16"},
        row("exact", "1gbit", 9.0, 1_000_000) | {"collective": "DDP, no hook"},
    ]
    (found,) = report.break_even_rows(rows)
    # 750,000 bytes saved for the faster 0.02 + 0.02 s; measured: gains are -0.094 s at
    # 1e-9 s/bit and 5.9 s at 1e-6 s/bit, so zero at 1e-9 + 999e-9 * 0.094 / 5.994
    assert found == {
        "coordinates": 1000,
        "collective": "all_gather",
        "bits": "8",
        "bytes saved": 750_000,
        "codec ms": pytest.approx(40),
        "by parts": "150 Mbit/s",
        "measured": "60 Mbit/s",
    }


def test_sizes_are_quartered_until_they_fit():
    # exact, K = 3: 16/3 bytes a coordinate; 3 million are 1.28 s at 100 Mbit/s
    size = report.fitting_size
    assert size(3_000_000, 3, 1e8, 1.3) == 3_000_000
    assert size(3_000_000, 3, 1e8, 1.2) == 750_000
    assert size(3_000_000, 3, math.inf, 1.0) == 3_000_000
    assert size(100, 2, 1e5, 1e-9) == 100


def test_what_compute_and_link_allow():
    # 100 ms of compute; 300 ms of link for exact, 50 for quantized: 400 over 150
    exact = {"seconds whole": 0.5, "seconds allowed": 0.4}
    row = {"seconds whole": 0.2, "seconds allowed": 0.15}
    found = report.with_speed_ups(row, exact)
    assert found["speed-up"] == pytest.approx(2.5)
    assert found["speed-up allowed"] == pytest.approx(8 / 3)
    assert found["reached / allowed"] == pytest.approx(0.9375)
    assert found["allowed / whole"] == pytest.approx(0.75)


def test_the_screen_shows_milliseconds():
    row = {"bits": "8", "seconds whole": 0.5, "seconds wire": "", "rounds": 3}
    shown = report.milliseconds(row, ["bits", "seconds whole", "seconds wire"])
    assert shown == {"bits": "8", "whole ms": 500.0, "wire ms": ""}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--rates=fast", "rates must be"),
        ("--bits=9", "bits must be in [1, 8]"),
        ("--sizes=many", "many"),
        ("--nodes=1", "nodes"),
        ("--nodes=1000", "nodes"),
    ],
)
def test_flags_are_checked_before_anything_is_made(flag, message):
    done = run_benchmark(flag)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    with pytest.raises(namespaces.NotPossible, match="need root"):
        namespaces.check_possible()
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(namespaces.NotPossible, match="ip and tc of iproute2"):
        namespaces.check_possible()


def run_benchmark(*flags):
    command = [sys.executable, "-m", "experiments.benchmarks.network", *flags]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False
    )
