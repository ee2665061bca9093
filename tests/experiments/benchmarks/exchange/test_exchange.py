"""The exchange benchmark: command, bytes, columns; nothing is timed."""

import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmarks.exchange import calls as exchange_calls
from experiments.benchmarks.exchange import table as exchange_table
from experiments.benchmarks.exchange.calls import BFLOAT16, EXACT, Case
from experiments.common import tables
from tests.helpers import mesh_of, plainly_compiled


def test_the_command_measures_on_devices_and_on_processes(tmp_path):
    folder = tmp_path / "folder"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.benchmarks.exchange",
            "--workers=2",
            "--collectives=reduce_scatter,hierarchical",
            "--bits=4",
            "--exponents=10",
            "--rounds=2",
            f"--output={folder}",
        ],
        env=plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "hierarchical is left out at the prime K = 2" in done.stdout
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
    assert "efficiency" in done.stdout
    assert (folder / "exchange.png").read_bytes().startswith(b"\x89PNG")


def test_cases_and_their_bytes():
    names = exchange_calls.COLLECTIVES
    assert [exchange_calls.grid(k) for k in (2, 3, 4, 6, 9)] == [
        None,
        None,
        (2, 2),
        (3, 2),
        (3, 3),
    ]
    of_three = exchange_calls.create_cases(3, names, [8])
    assert [x.collective for x in of_three] == [
        "exact",
        "bf16",
        "all_gather",
        "reduce_scatter",
    ]
    assert exchange_calls.create_cases(4, names, [8])[-1] == Case("hierarchical", 8)
    # K = 4 and 2^13 coordinates: rings send 2 * 3/4 of a vector; a payload at 8 bits is
    # 2^13 bytes of codes and 8 norms; chips exchange half a vector each way, hosts a
    # payload of the other half
    sent = {
        case.collective: exchange_calls.sent_bytes(case, 2**13, 4)
        for case in exchange_calls.create_cases(4, names, [8])
    }
    assert sent == {
        "exact": 3 * 2**14,
        "bf16": 3 * 2**13,
        "all_gather": 3 * (2**13 + 32),
        "reduce_scatter": 2 * 3 * (2**11 + 8),
        "hierarchical": 2 * 2**14 + 2**12 + 16,
    }


@pytest.mark.usefixtures("compiled_plainly")
def test_what_is_timed_is_the_mean_of_the_workers():
    size, cases = 64, [EXACT, BFLOAT16, Case("hierarchical", 8)]
    calls = exchange_calls.create_calls(cases, size, list(mesh_of(4).devices.flat))
    rows = [np.random.default_rng([0, k]).normal(size=size) for k in range(4)]
    exact, bf16, quantized = (np.asarray(call()) for call in calls.values())
    np.testing.assert_allclose(exact, np.mean(rows, axis=0), atol=1e-6)
    np.testing.assert_allclose(bf16, exact, atol=2**-8 * np.abs(rows).max())
    assert not np.array_equal(bf16, exact)
    np.testing.assert_allclose(quantized, exact, atol=np.abs(rows).max() / 127)
    assert not np.array_equal(quantized, exact)
    assert list(calls) == ["exact, 32 bits", "bf16, 16 bits", "hierarchical, 8 bits"]


def test_columns_by_hand():
    seconds = exchange_table.slowest([[[2.0, 6, 1]], [[4.0, 1, 8]]])
    np.testing.assert_array_equal(seconds, [[4, 6, 8]])
    row = exchange_table.columns(seconds[0], np.array([12.0, 15, 10]), 50, 200)
    assert row == {
        "sent bytes": 50,
        "volume bound": 4,
        "ms": 6000,
        "speed-up": 2,  # medians 12 and 6
        "efficiency": 0.5,
        "ms, best": 4000,
        "speed-up, best": 2.5,  # minima 10 and 4
        "efficiency, best": 0.625,
    }
