"""The cost model's fit finds known numbers again; nothing is timed."""

import math

import jax
import numpy as np
import pytest
from scipy import optimize

import qgenx_jax as qgenx
from experiments.benchmarks.scaling import fit as fitting
from tests.lib.measured_exchanges import TRUE, measured_rows


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
