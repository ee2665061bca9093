"""The benchmark commands run and print what they promise; nothing here is timed."""

import csv
import subprocess
import sys

import pytest

from experiments.benchmarks import tables, timing
from tests.helpers import plainly_compiled


def test_codec_prints_and_writes_a_table(tmp_path):
    table = tmp_path / "folder" / "codec.csv"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.benchmarks.codec",
            "--exponents=10,11",
            "--bits=4",
            "--families=uniform,min_max",
            "--repeats=2",
            f"--csv={table}",
        ],
        env=plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["size"], row["family"]) for row in rows] == [
        ("1024", "uniform"),
        ("1024", "min_max"),
        ("2048", "uniform"),
        ("2048", "min_max"),
    ]
    assert float(rows[0]["bits per coordinate"]) == 4 + 32 / 1024
    assert all(float(row["encode / x+1"]) > 0 for row in rows)
    assert "encode / x+1" in done.stdout


def test_functions_are_called_in_turn():
    calls = []
    functions = {name: lambda n=name: calls.append(n) for name in "ab"}
    seconds = timing.seconds_side_by_side(functions, 2)
    assert "".join(calls) == "ab" + "abab"
    assert set(seconds) == {"a", "b"}
    with pytest.raises(ValueError, match=r"repeats must be at least 1, got 0"):
        timing.seconds_side_by_side(functions, 0)


def test_tables_are_written_read_and_drawn(tmp_path):
    rows = [
        {"bits": bits, "size": size, "seconds": size * bits / 7, "peer": peer}
        for bits in (8, 4)
        for size, peer in ((16, ""), (64, 0.5))
    ]
    tables.write_csv(rows, tmp_path / "folder" / "table.csv")
    read = tables.read_csv(tmp_path / "folder" / "table.csv")
    assert read == [{name: str(x) for name, x in row.items()} for row in rows]
    figure = tmp_path / "other" / "figure.png"
    tables.write_figure(rows, figure, x="size", y=["seconds", "peer"], by=["bits"])
    assert figure.read_bytes().startswith(b"\x89PNG")
