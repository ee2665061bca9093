"""Each figure in its short form shows what it claims; the report holds all of it."""

import re

import jax
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments.common import figures
from experiments.common.tables import read_csv
from experiments.vi import report
from experiments.vi.figures import (
    bits,
    constrained,
    paths,
    rates,
    robustness,
    steps,
    workers,
)
from experiments.vi.lab import Lab
from tests.lib.helpers import compiling_plainly
from tests.lib.programs import imported

MODULES = {
    "rates": rates,
    "workers": workers,
    "bits": bits,
    "steps": steps,
    "robustness": robustness,
    "paths": paths,
    "constrained": constrained,
}


@pytest.fixture(scope="module")
def results():
    """All figures as --quick makes them."""
    with jax.enable_x64(True), compiling_plainly():
        return {
            name: module.make(Lab(6, True, None)) for name, module in MODULES.items()
        }


def of(results, name, word=""):
    """The measured means of a figure's claims that have a word in them."""
    found = {c.says: c.found.mean for c in results[name].claims if word in c.says}
    assert found
    return np.array(list(found.values()))


def test_slopes_are_those_of_the_theory(results):
    assert all(claim.holds for claim in results["rates"].claims)
    assert abs(of(results, "rates", "no noise") + 1).max() < 0.1
    assert abs(of(results, "rates", "absolute") + 0.5).max() < 0.1
    assert abs(of(results, "rates", "relative") + 1).max() < 0.1


def test_workers_average_noise_out(results):
    assert abs(of(results, "workers") + 0.5).max() < 0.1
    none = {
        row["workers"]: row["gap"]
        for row in results["workers"].rows
        if (row["noise"], row["seed"]) == ("none", 0)
    }
    assert none[64] > none[1], "nothing to average, and longer first steps"


def test_four_bits_send_less_to_the_same_gap(results):
    assert of(results, "bits").min() > 3
    assert of(results, "bits").max() < 3.67  # what it would be at equal iterations


def test_steps_settle_or_fall_as_the_noise_is(results):
    assert abs(of(results, "steps", "no noise")).max() < 0.01
    assert abs(of(results, "steps", "relative")).max() < 0.01
    assert abs(of(results, "steps", "absolute") + 0.5).max() < 0.05


def test_gamma0_is_forgiving_under_noise(results):
    assert of(results, "robustness", "absolute, Opt exact: decades").min() > 0
    assert of(results, "robustness", "absolute, Opt exact: gap").max() < 3
    assert of(results, "robustness", "from 1 to 100").max() < 1.5


def test_steps_are_chosen_on_other_seeds_and_one_of_each(results):
    rows = results["robustness"].rows
    chosen = {(r["noise"], r["method"], r["step"]) for r in rows if r["chosen"]}
    assert len(chosen) == len({each[:2] for each in chosen})
    assert {row["seed"] for row in rows} == set(range(6))


def test_descent_turns_outwards_and_extrapolation_inwards(results):
    (sgda,) = (c.found.mean for c in results["paths"].claims if c.says[0] == "S")
    assert sgda == pytest.approx(1.01**75, rel=1e-4)
    assert of(results, "paths", "QSGDA").min() > 2
    assert of(results, "paths", "Opt").max() < 1e-2


def test_sets_keep_the_rates(results):
    assert of(results, "constrained", "none").max() < -0.9
    assert of(results, "constrained", "absolute").max() < -0.4
    assert of(results, "constrained", "multiplicative").max() < -0.4


def test_runs_are_counted_beforehand():
    class Counted(Lab):
        def curves(self, *_, **__):
            raise AssertionError("nothing is run")

    for name, module in MODULES.items():
        for quick in (True, False):
            if not (name == "bits" and not quick):  # whose plans are computed
                assert module.runs(Counted(2, quick, None)) > 0


def test_the_report_is_one_file(results, tmp_path):
    pictures = {}
    for name, result in results.items():
        pictures[name] = tmp_path / f"{name}.png"
        figure = figures.new_figure(*result.size)
        result.draw(figure)
        figures.save_figure(figure, pictures[name])
    report.write(tmp_path / "report.html", results, pictures, "of <this> run")
    text = (tmp_path / "report.html").read_text()
    assert "http" not in text
    assert not re.search(r"<(script|link|iframe)|@import|url\(", text)
    sources = re.findall(r"src='([^']{30})", text)
    assert len(sources) == len(MODULES)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "of &lt;this&gt; run" in text
    assert text.count("class='holds'") == sum(
        claim.holds for result in results.values() for claim in result.claims
    )


@pytest.fixture
def run():
    """The program with these arguments, whose flags it leaves to no other one."""

    def run(*arguments):
        with (
            imported("experiments.vi.__main__") as program,
            flagsaver.flagsaver(),
            compiling_plainly(),
        ):
            flags.FLAGS.unparse_flags()
            program.main(flags.FLAGS(["vi", *arguments]))

    return run


def test_the_same_seeds_give_the_same_tables(run, tmp_path, capsys):
    for name in ("first", "second"):
        run("paths", "--quick", "--seeds=2", f"--workdir={tmp_path / name}")
    for name in ("paths.csv", "claims.csv"):
        first, second = (tmp_path / x / name for x in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    table = read_csv(tmp_path / "first" / "paths.csv")
    assert len(table) == 3 * 2 * (paths.ITERATIONS + 1)
    assert {row["seed"] for row in table} == {"0", "1"}
    assert (tmp_path / "first" / "paths.png").stat().st_size > 10_000
    assert "3 of 3 claims hold" in capsys.readouterr().out


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rate",), r"^the figure must be one of rates, .*, or all, got rate; write"),
        ((), r"the figure must be one of .* got none"),
        (("rates", "bits"), r"got rates bits"),
        (("rates", "--seeds=0"), r"^--seeds must be from 1 to 1000, got 0; leave"),
        (("rates", "--seeds=-3"), r"got -3"),
        (("rates", "--seeds=1001"), r"got 1001"),
        (
            ("rates", "--workdir=/dev/null/x"),
            r"^--workdir must be a folder, .*another$",
        ),
    ],
)
def test_what_cannot_be(run, arguments, message):
    with pytest.raises(app.UsageError, match=message) as refused:
        run(*arguments)
    assert "\n" not in str(refused.value)
