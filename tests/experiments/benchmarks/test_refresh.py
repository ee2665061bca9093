"""The benchmark of refreshes runs, and times what it says; no test times it."""

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

import qgenx_jax as qgenx
from experiments.common import tables
from tests.lib.helpers import compiling_plainly
from tests.lib.programs import imported, ran

NAME = "experiments.benchmarks.refresh"


@pytest.fixture
def program():
    with imported(NAME) as module, flagsaver.flagsaver(), compiling_plainly():
        flags.FLAGS.unparse_flags()
        flags.FLAGS([NAME])
        yield module


def test_the_command_prints_and_writes_a_table(tmp_path):
    printed = ran(
        *("-m", NAME, "--bits=2", "--laws=normal", "--size=64"),
        *("--workers=2", "--rounds=1", "--compiles=1", "--iterations=300"),
        *("--seconds=0.5", f"--output={tmp_path}"),
    )
    assert "2 workers by devices, 64 coordinates; 2 refreshes in 300 it" in printed
    (row,) = tables.read_csv(tmp_path / "refresh.csv")
    assert (row["bits"], row["law"]) == ("2", "normal")
    more = float(row["adaptive"]) - float(row["compile s, uniform"])
    assert float(row["more"]) == pytest.approx(more)
    refresh = float(row["refresh ms"]) / 1e3
    percent = float(row["share"].removesuffix("%"))
    assert percent == pytest.approx(100 * 2 * refresh / 150, abs=6e-4)
    percent = float(row["with compile"].removesuffix("%"))
    assert percent == pytest.approx(100 * (2 * refresh + more) / 150, abs=6e-4)
    for column in row:
        assert column in printed


def test_one_program_fits_levels_at_the_first_exchange_and_at_the_second_not(program):
    """Alike where workers are devices and where they are mapped over."""
    vectors = np.random.default_rng(0).standard_t(3, size=(2, 512)).astype("f4")
    levels = {}
    for where in ("devices", "vmap"):
        first = program.exchanged(qgenx.adaptive(3), vectors, where)
        second = first.after_first()
        start = np.asarray(first.state.levels["all"])
        (_, fitted), (_, kept) = first(), second()
        np.testing.assert_array_equal(kept.levels["all"], start)
        assert int(kept.adaptation.count) == 2
        assert fitted.levels["all"][0] < start[0]
        assert first.run._cache_size() == 1, "two programs"
        levels[where] = np.asarray(fitted.levels["all"])
    np.testing.assert_allclose(levels["devices"], levels["vmap"], atol=2 * 2.0**-12)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("exchanges", "refreshes"), [(1, 1), (201, 2), (10_000, 4), (20_001, 6)]
)
def test_refreshes_are_those_of_the_default_schedule(program, exchanges, refreshes):
    of = program.Training(exchanges, 1, 0.5)
    assert of.refreshes() == refreshes
    assert of.share(0.5 * exchanges) == 1


@pytest.mark.quick
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--bits=1", "--bits must list whole numbers from 2 to 8"),
        ("--laws=laplace", "--laws must list some of histogram, normal"),
    ],
)
def test_refuses_what_it_cannot_measure(program, argument, message):
    flags.FLAGS([NAME, argument])
    with pytest.raises(app.UsageError, match=message):
        program.main([NAME])
