"""The exchange benchmark as a command; nothing is timed."""

import pytest

from experiments.common import tables
from tests.lib.programs import ran


def test_the_command_measures_on_devices_and_on_processes(tmp_path):
    folder = tmp_path / "folder"
    printed = ran(
        "-m",
        "experiments.benchmarks.exchange",
        "--workers=2",
        "--collectives=reduce_scatter,hierarchical",
        "--bits=4",
        "--exponents=10",
        "--rounds=2",
        f"--output={folder}",
    )
    assert "hierarchical is left out at the prime K = 2" in printed
    rows = tables.read_csv(folder / "exchange.csv")
    found = [(row["where"], row["collective"], row["sent bytes"]) for row in rows]
    # of K = 2: exact sends a vector, of 1024 * 4 bytes; reduce_scatter twice half a
    # payload, of 512 / 2 + 4 bytes with its norm
    by_case = [("exact", "4096"), ("bf16", "2048"), ("reduce_scatter", "520")]
    assert found == [(w, *case) for w in ("devices", "processes") for case in by_case]
    for row in rows:
        assert float(row["ms"]) >= float(row["ms, best"]) > 0
        bound = 4096 / int(row["sent bytes"])
        assert float(row["volume bound"]) == pytest.approx(bound)
        reached = float(row["speed-up"]) / bound
        assert float(row["efficiency"]) == pytest.approx(reached)
    assert "efficiency" in printed
    assert (folder / "exchange.png").read_bytes().startswith(b"\x89PNG")
