"""The command: its tables, its figure, its gaps, its refusals."""

import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments.common.tables import read_csv
from tests.lib.helpers import compiling_plainly
from tests.lib.programs import imported

SMALL = ["--steps=2", "--workers=2", "--sequences=1", "--length=8", "--layers=1"]


def run(*arguments):
    with (
        imported("experiments.transformer.__main__") as program,
        compiling_plainly(),
        flagsaver.flagsaver(),
    ):
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["transformer", *SMALL, "--width=64", *arguments])
        program.main(["transformer"])


def test_it_compares_with_exact_and_writes_tables_and_a_figure(tmp_path, capsys):
    run("--exchanges=exact,best4", f"--output={tmp_path}", "--record=1")
    rows = read_csv(tmp_path / "summary.csv")
    assert [row["exchange"] for row in rows] == ["exact", "best4"]
    assert rows[0]["gap"] == ""
    losses = [float(row["loss"]) for row in read_csv(tmp_path / "losses.csv")]
    gap = (losses[2] + losses[3] - losses[0] - losses[1]) / 2
    assert float(rows[1]["gap"]) == pytest.approx(gap, abs=1e-6)
    assert rows[1]["+-"] == ""  # of one mean of up to ten
    assert 6 < int(rows[0]["bytes"]) / int(rows[1]["bytes"]) < 8
    assert len(losses) == 4
    assert (tmp_path / "losses.png").stat().st_size > 1000
    assert (tmp_path / "vectors" / "000001.npz").is_file()
    assert "best4" in capsys.readouterr().out


@pytest.mark.quick
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--exchanges=worst4", "exchanges must be exact, or uniform"),
        ("--record=1", "--record needs --output"),
        ("--width=100", "--width must be a multiple of 64, a head each, got 100"),
        ("--exchanges=best4,exact", "--exchanges must begin with exact"),
    ],
)
def test_mistakes_are_explained(flag, message):
    with pytest.raises(app.UsageError, match=message):
        run(flag)
