"""The network benchmark's arithmetic, against numbers worked out by hand."""

import math

import pytest

from experiments.benchmarks.network import report
from experiments.benchmarks.network.report import Point


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
