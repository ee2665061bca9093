"""The codec benchmark as a command; nothing is timed."""

import pytest

from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.codec import table as codec_table
from experiments.common import tables
from tests.lib.programs import ran


def test_the_command_prints_and_writes_a_table_and_a_figure(tmp_path):
    folder = tmp_path / "folder"
    printed = ran(
        "-m",
        "experiments.benchmarks.codec",
        "--exponents=10",
        "--bits=4",
        "--families=uniform,levels,best",
        "--payloads=2",
        "--rounds=2",
        "--threads=1",
        f"--output={folder}",
    )
    rows = tables.read_csv(folder / "codec.csv")
    found = [(row["family"], row["bits"], row["size"]) for row in rows]
    assert found == [
        ("uniform", "4", "1024"),
        ("levels", "4", "1024"),
        ("best", "4", "1024"),
    ]
    assert "1 threads; jax" in printed
    assert "2 of 3: levels, 4 bits, 2^10: encode / x+1 is" in printed
    overhead = [float(row["bits per coordinate"]) - 4 for row in rows]
    assert overhead == [32 / 1024, 32 / 1024, 16 / 256]
    errors = [float(row["error"]) for row in rows]
    assert errors[2] < errors[0] / 3
    # one rounding of 1024 coordinates
    beside = [row["QSGD error / error"] for row in rows]
    assert 0.8 < float(beside[0]) < 1.25
    assert beside[1] == ""
    assert float(beside[2]) == pytest.approx(
        float(beside[0]) * errors[0] / errors[2], rel=1e-6
    )
    for name in codec_table.CALLS:
        is_peer = "QSGD" in name
        for row in rows:
            is_there = not is_peer or row["family"] != "levels"
            if name.startswith("uniform"):  # what others are put over
                is_there = row["family"] != "uniform"
            if "PyTorch" in name:
                is_there &= codec_calls.HAS_TORCH
            assert bool(row[f"{name} ms"]) == is_there, f"{name} of {row}"
        assert name in printed
    assert all(float(row["average / floor, best"]) > 0 for row in rows)
    assert (folder / "codec.png").read_bytes().startswith(b"\x89PNG")
