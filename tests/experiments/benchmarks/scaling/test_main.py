"""The scaling benchmark as a command, on made-up and on committed measurements."""

import subprocess
import sys

import pytest

from experiments.common import tables
from experiments.common.processes import ROOT
from tests.lib.measured_exchanges import measured_rows
from tests.lib.programs import imported


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

    with imported("experiments.benchmarks.scaling.__main__") as scaling:
        values = flags.FLAGS
        if not values.is_parsed():
            values(["scaling"])
        name, _, value = flag.removeprefix("--").partition("=")
        values[name].parse(value)
        with pytest.raises(app.UsageError, match=message):
            scaling.main([])


def test_the_command_runs_on_what_is_committed():
    done = run("--most_workers=16", "--exponents=25", "--bits=4", "--codecs=assumed")
    assert done.returncode == 0, done.stderr
    for text in ("model 'link'", "model 'collectives'", "16  ", "400 Gbit/s"):
        assert text in done.stdout
