"""Projections of the cost model, against numbers worked out by hand."""

import itertools
import math

import pytest

import qgenx_jax as qgenx
from experiments.benchmarks.scaling import projection

FAST = qgenx.Link(1e-6, 3e11, 0, 0)
NETWORK = projection.Network(1e10, 1e-5, 0.8, 8, FAST)
CODEC = projection.Codec("made up", {8: 2e-11, 4: 1e-11}, {8: 1e-11, 4: 5e-12})


def rows_by_strategy(size, bits, workers, compute=0.0, network=NETWORK):
    rows = projection.rows_of(CODEC, network, size, bits, workers, compute)
    return {row["strategy"]: row for row in rows}


def test_projections_by_hand():
    size, k, per_host, record = 2**20, 16, 8, 1028
    rows = rows_by_strategy(size, 8, k)
    rate, buckets = 1e9, size // 1024  # 0.8 of 10 Gbit/s in bytes
    inside = 2 * (7 * 1e-6 + 7 * (size // per_host) * 4 / 3e11)
    piece = size // per_host  # two hosts: one phase of one message
    expected = {
        "exact": 30e-5 + 2 * 15 / 16 * 4 * size / rate,
        "exact, hosts": inside + 2e-5 + 4 * piece / rate,
        "all_gather": 15e-5
        + 15 * buckets * record / rate
        + size * 2e-11
        + k * size * 1e-11,
        "reduce_scatter": 30e-5
        + 30 * buckets // k * record / rate
        + (size + size // k) * 2e-11
        + 2 * size * 1e-11,
        "hierarchical": inside
        + 1e-5
        + buckets // per_host * record / rate
        + piece * 2e-11
        + 2 * piece * 1e-11,
    }
    assert rows.keys() == expected.keys()
    for name, seconds in expected.items():
        row = rows[name]
        assert row["seconds"] == pytest.approx(seconds, rel=1e-9), name
        ratio = expected["exact, hosts"] / seconds
        assert row["speed-up"] == pytest.approx(ratio, rel=1e-9), name
        assert row["fastest"] == (seconds == min(expected.values())), name
    assert rows_by_strategy(size, 8, 8).keys() == {"exact", *projection.FLAT}


def test_iterations_have_one_exchange_or_two():
    row = rows_by_strategy(2**20, 4, 4, compute=0.01)["reduce_scatter"]
    exact = row["seconds"] * row["speed-up"]
    for calls, name in enumerate((projection.ONE, projection.TWO), 1):
        whole = 0.01 + calls * row["seconds"]
        assert row[f"iteration, {name}"] == pytest.approx(whole)
        expected = (0.01 + calls * exact) / whole
        assert row[f"speed-up, {name}"] == pytest.approx(expected)


@pytest.mark.parametrize(("size", "workers"), [(2**12, 64), (2**20, 4), (2**22, 32)])
def test_compression_pays_between_the_rates_said(size, workers):
    rows = rows_by_strategy(size, 8, workers)
    for name in ("all_gather", "reduce_scatter", "hierarchical"):
        if name not in rows:
            continue
        other = "exact, hosts" if name == "hierarchical" else "exact"
        low, high = (rows[name][f"pays {x} Gbit/s"] for x in ("above", "below"))
        for end, factor, pays in (
            (low, 1.01, True),
            (low, 0.99, False),
            (high, 0.99, True),
            (high, 1.01, False),
        ):
            if end == "" or not 0 < end < math.inf:
                continue
            network = NETWORK._replace(rate=1e9 * end * factor)
            there = rows_by_strategy(size, 8, workers, network=network)
            is_faster = there[name]["seconds"] < there[other]["seconds"]
            assert is_faster == pays, (name, end, factor)


def test_all_four_cases_of_where_compression_pays():
    pays = projection.pays_between
    assert pays((3.0, 1.0), (1.0, 7.0)) == (0.0, 3.0)
    assert pays((1.0, 1.0), (1.0, 7.0)) == (0.0, math.inf)
    assert pays((1.0, 1.0), (2.0, 1.0)) == (0.0, math.inf)
    assert pays((1.0, 7.0), (3.0, 1.0)) == (3.0, math.inf)
    assert pays((1.0, 7.0), (1.0, 7.0)) is None


def test_break_even_rates_are_shown():
    rows = list(rows_by_strategy(2**20, 8, 4).values())
    best = min(rows[1:], key=lambda row: row["seconds"])
    text = f"{best['strategy']} < {best['pays below Gbit/s']:.3g}"
    assert projection.break_even(rows) == [{"K": 4, "10 Gbit/s": text}]
    for low, high, shown in ((2.5, math.inf, "> 2.5"), ("", "", "never")):
        ends = {"pays above Gbit/s": low, "pays below Gbit/s": high}
        table = projection.break_even([{**best, **ends}])
        assert table[0]["10 Gbit/s"] == f"{best['strategy']} {shown}"


def test_a_link_chooses_the_faster_of_the_table_and_hosts_save():
    rows, networks = [], []
    for rate, latency in ((1e9, 3e-5), (4e11, 3e-6)):
        networks.append(NETWORK._replace(rate=rate, latency=latency))
        for size, bits, workers in itertools.product(
            (2**16, 2**25), (8, 4), (2, 4, 64, 4096)
        ):
            rows += projection.rows_of(CODEC, networks[-1], size, bits, workers, 0.0)
    found = projection.chosen(rows, networks, CODEC)
    assert found["cases"] == found["link right"] == 2 * 2 * 2 * 4
    assert found["link slower at most"] == 1
    assert found["auto right"] < found["cases"], "10 Gbit/s is not all links"
    ways = {row["strategy"] for row in rows if row["speed-up"] >= 1}
    assert ways >= {"all_gather", "reduce_scatter", "hierarchical"}
    table = projection.when([row for row in rows if row["coordinates"] == 2**25])
    assert [row["K"] for row in table] == [2, 4, 64, 4096]
    assert all(list(row) == ["K", "1 Gbit/s", "400 Gbit/s"] for row in table)
    fastest = {
        (row["workers"], f"{row['Gbit/s']:g} Gbit/s"): row["strategy"]
        for row in rows
        if row["fastest"] and (row["coordinates"], row["bits"]) == (2**25, 4)
    }
    rows = [r for r in rows if (r["coordinates"], r["bits"]) == (2**25, 4)]
    for row in projection.when(rows):
        for link in ("1 Gbit/s", "400 Gbit/s"):
            assert row[link].startswith(fastest[row["K"], link] + " ")
    flat = projection.when(rows, "speed-up over exact", ["exact"])
    assert all(row["1 Gbit/s"] == "exact 1" for row in flat)


def test_the_assumed_codec_moves_bytes_only():
    codec = projection.bandwidth_bound([8, 2], 1e12)
    assert codec.name.startswith("assumed")
    assert codec.encode == {8: 9e-12, 2: 8.25e-12}
    assert codec.decode == {8: 9e-12, 2: 8.25e-12}
