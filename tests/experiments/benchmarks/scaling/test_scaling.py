"""The cost model's fit and projections, on known numbers; nothing is timed."""

import itertools
import math
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy import optimize

import qgenx_jax as qgenx
from experiments.benchmarks.scaling import fit as fitting
from experiments.benchmarks.scaling import projection
from experiments.common import tables

ROOT = pathlib.Path(__file__).parents[4]
TRUE = {
    "latency": 2e-3,
    "link time": 1.25,
    "unlimited bytes": 3e-9,
    "encode": 5e-9,
    "decode": 1e-9,
}
FAST = qgenx.Link(1e-6, 3e11, 0, 0)
NETWORK = projection.Network(1e10, 1e-5, 0.8, 8, FAST)
CODEC = projection.Codec("made up", {8: 2e-11, 4: 1e-11}, {8: 1e-11, 4: 5e-12})


def measured_rows(noise, rates=("unlimited", "1gbit", "100mbit", "10mbit")):
    """Rows as the network benchmark writes, whose seconds are those of TRUE."""
    rng = np.random.default_rng(3)
    bit_rates = {"1gbit": 1e9, "100mbit": 1e8, "10mbit": 1e7}
    cases = [("exact", "exact")] + [
        (way, str(bits)) for bits in (8, 4, 2) for way in projection.FLAT
    ]
    for rate, (way, bits), size in itertools.product(rates, cases, (4096, 2**20)):
        quantizer = None if bits == "exact" else qgenx.uniform(int(bits))
        exchange = qgenx.exchange("data", quantizer, collective=way)
        sent = exchange.traffic(jax.ShapeDtypeStruct((size,), "float32"), 3)
        messages = 4 if len(sent.phases) == 2 or bits == "exact" else 2
        if rate == "unlimited":
            wire = 2e-3 * messages + 3e-9 * sent.sent_bytes
        else:
            wire = 2e-3 * messages + 1.25 * 8 * sent.sent_bytes / bit_rates[rate]
        encode = 5e-9 * sum(phase.encoded for phase in sent.phases)
        decode = 1e-9 * sum(phase.decoded for phase in sent.phases)
        parts = {
            "whole": wire + encode + decode,
            "encode": "",
            "wire": "",
            "decode": "",
        }
        if quantizer is not None:
            # between two phases one pass decodes and encodes
            between = 1e-9 * sum(phase.decoded for phase in sent.phases[:-1])
            codec = {"encode": encode + between, "decode": decode - between}
            parts |= {"wire": wire, **codec}
        row = {"framework": "qgenx_jax", "collective": way, "bits": bits}
        row |= {"coordinates": size, "nodes": 3, "rate": rate}
        row |= {"rate bit/s": bit_rates.get(rate, ""), "sent bytes": sent.sent_bytes}
        for part, seconds in parts.items():
            factor = 1 + noise * rng.standard_normal()
            row[f"seconds {part}"] = seconds * factor if seconds != "" else ""
        yield {name: str(value) for name, value in row.items()}


def test_least_squares_are_those_of_scipy():
    rng = np.random.default_rng(0)
    at_bound = 0
    for _ in range(50):
        matrix = rng.standard_normal((12, 5)) * [1e-9, 1, 1e9, 1, 1]
        goal = rng.standard_normal(12)
        found = fitting.nonnegative_least_squares(matrix, goal)
        expected, _ = optimize.nnls(matrix, goal)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        at_bound += (found == 0).any()
    assert at_bound > 20, "the bound matters"
    twice = np.ones((3, 2))
    assert fitting.nonnegative_least_squares(twice, np.ones(3)).sum() == pytest.approx(
        1
    )
    np.testing.assert_array_equal(
        fitting.nonnegative_least_squares(-twice, np.ones(3)), 0
    )
    with pytest.raises(ValueError, match=r"at most 12 columns, got 13"):
        fitting.nonnegative_least_squares(np.ones((20, 13)), np.ones(20))


def test_known_numbers_are_found_again():
    exact = fitting.fit(fitting.observations(measured_rows(0), "link"))
    assert exact == pytest.approx(TRUE, rel=1e-9)
    noise = 0.01
    seen = fitting.observations(measured_rows(noise), "link")
    found = fitting.fit(seen)
    # covariance of least squares, at the amounts without noise
    clean = fitting.observations(measured_rows(0), "link")
    names = sorted(TRUE)
    matrix = np.array([[o.amounts.get(n, 0) / o.seconds for n in names] for o in clean])
    scale = [TRUE[name] for name in names]
    spread = np.linalg.inv((matrix * scale).T @ (matrix * scale))
    for name, variance in zip(names, np.diag(spread), strict=True):
        error = found[name] / TRUE[name] - 1
        assert abs(error) < 5 * noise * math.sqrt(variance), name


def test_the_model_is_that_of_a_link():
    unknowns = {**TRUE, "latency": 1e-3}
    link = fitting.link_of(unknowns, 125e6)
    assert link == qgenx.Link(1e-3, 1e8, 5e-9, 1e-9)
    vector = jax.ShapeDtypeStruct((100_000,), "float32")
    for way, bits in (("exact", None), ("all_gather", 4), ("reduce_scatter", 2)):
        quantizer = bits and qgenx.uniform(bits)
        sent = qgenx.exchange("data", quantizer, collective=way).traffic(vector, 5)
        seconds = fitting.predict(unknowns, fitting.amounts_of(sent, 125e6, "link"))
        assert seconds == pytest.approx(link.seconds(sent), rel=1e-12), way
    with pytest.raises(ValueError, match="must have limited links"):
        fitting.link_of({"latency": 1.0}, 1.0)


def test_collectives_have_their_own_link_time_by_hand():
    exchange = qgenx.exchange("data", qgenx.uniform(8), collective="reduce_scatter")
    sent = exchange.traffic(jax.ShapeDtypeStruct((4 * 1024,), "float32"), 4)
    assert fitting.amounts_of(sent, 100.0, "collectives") == {
        "latency": 6,
        "encode": 5 * 1024,
        "decode": 8 * 1024,
        "link time of all_to_all": 3 * 1028 / 100,
        "link time of all_gather": 3 * 1028 / 100,
        "between phases": 4 * 1024,
    }
    assert fitting.amounts_of(sent, None, "link")["unlimited bytes"] == 6 * 1028


@pytest.mark.parametrize("hold", list(fitting.HOLD))
def test_what_is_held_out_is_predicted_from_the_rest(hold):
    seen = fitting.observations(measured_rows(0), "link")
    wholes = [o for o in seen if o.part == "whole"]
    rows = fitting.held_out(seen, hold, "link")
    assert len(rows) == len(wholes) == 4 * 7 * 2
    # nothing but unlimited links tells how fast these are
    unknown = {row["rate"] for row in rows if row["error %"] == ""}
    assert unknown == ({"unlimited"} if hold == "rate" else set())
    assert max(abs(row["error %"]) for row in rows if row["error %"] != "") < 1e-6
    assert fitting.summary(rows, 15.0)["above 15 %"] == 0


def test_a_held_out_measurement_does_not_help_to_predict_itself():
    rows = list(measured_rows(0))
    for row in rows:
        if (row["rate"], row["bits"]) == ("1gbit", "exact"):
            row["seconds whole"] = str(2 * float(row["seconds whole"]))
    found = fitting.held_out(
        fitting.observations(rows, "link"), "configuration", "link"
    )
    wrong = [r for r in found if (r["rate"], r["bits"]) == ("1gbit", "exact")]
    # the other size is another configuration, wrong alike, and pulls a little
    assert all(-55 < row["error %"] < -45 for row in wrong), wrong
    assert fitting.summary(found, 15.0)["above 15 %"] >= 2


def test_choices_are_counted():
    rows = list(measured_rows(0))
    assert fitting.choices(rows, TRUE, "link") == (24, 24)
    backwards = {**TRUE, "latency": 0.0, "encode": 0.0, "decode": 0.0}
    right, of = fitting.choices(rows, backwards, "link")
    assert right < of == 24, "bytes alone choose otherwise"


def test_measurements_of_something_else_are_refused():
    rows = list(measured_rows(0))
    with pytest.raises(ValueError, match=r"sent bytes must be \d+, .* got 17; measure"):
        fitting.traffic_of({**rows[0], "sent bytes": "17"})
    with pytest.raises(ValueError, match="framework qgenx_jax, got none"):
        fitting.observations([{**rows[0], "framework": "torch"}], "link")


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


def run(*flags):
    command = [sys.executable, "-m", "experiments.benchmarks.scaling", *flags]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_command_fits_projects_and_writes(tmp_path):
    rows = list(measured_rows(0.01))
    tables.write_csv(rows, tmp_path / "measured.csv")
    short = ["--exponents=16,25", "--bits=4", "--most_workers=64", "--compute=0.01"]
    source = f"--measurements={tmp_path / 'measured.csv'}"
    done = run(source, *short, f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "100mbit at 4 bits, predicted without" in done.stdout
    names = ["fit.csv", "fit.png", "projection.csv", "projection.png"]
    for name in names:
        assert (tmp_path / f"scaling_{name}").stat().st_size > 1000, name
    fit = tables.read_csv(tmp_path / "scaling_fit.csv")
    assert {row["model"] for row in fit} == {"link", "collectives"}
    assert max(abs(float(row["error %"])) for row in fit) < 15
    # 2 codecs, 5 links, 2 sizes; 3 strategies at K = 2, 4, 8 and 5 at 16, 32, 64
    projected = tables.read_csv(tmp_path / "scaling_projection.csv")
    assert len(projected) == 2 * 5 * 2 * (3 * 3 + 3 * 5)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--links=10", "--links must list Gbit/s:seconds, got '10'"),
        ("--table_bits=3", "--table_bits and --table_exponent must be of"),
        ("--held_out=1gbit:7", "--held_out must be a configuration .* '1gbit:7'"),
        ("--measurements=none.csv", "--measurements must be a file, got 'none.csv'"),
    ],
)
def test_flags_that_cannot_be_are_refused(flag, message, monkeypatch, capsys):
    from absl import app, flags

    from experiments.benchmarks.scaling import __main__ as scaling

    values = flags.FLAGS
    if not values.is_parsed():
        values(["scaling"])
    name, _, value = flag.removeprefix("--").partition("=")
    before = values[name].value
    values[name].parse(value)
    try:
        with pytest.raises(app.UsageError, match=message):
            scaling.main([])
    finally:
        values[name].value = before


def test_the_command_runs_on_what_is_committed():
    done = run("--most_workers=16", "--exponents=25", "--bits=4", "--codecs=assumed")
    assert done.returncode == 0, done.stderr
    for text in ("model 'link'", "model 'collectives'", "16  ", "400 Gbit/s"):
        assert text in done.stdout
