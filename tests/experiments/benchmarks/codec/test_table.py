"""Columns of the codec benchmark, against numbers worked out by hand."""

import numpy as np
import pytest

from experiments.benchmarks.codec import table as codec_table


def test_columns_by_hand():
    seconds = {
        "x+1": np.array([1.0, 2, 9]),
        "copy": np.array([4.0]),
        "encode": np.array([6.0, 3, 8]),
        "NumPy QSGD": np.array([12.0, 24]),
    }
    row = codec_table.columns(seconds, size=10**9)
    assert row["encode ms"] == 6000
    assert row["NumPy QSGD ms"] == 18000
    assert row["encode / x+1"] == 3  # medians 6 and 2
    assert row["encode / x+1, best"] == 3  # minima 3 and 1
    assert row["encode / copy"] == 1.5
    assert row["encode / copy, best"] == 0.75
    assert row["NumPy QSGD / encode"] == 3
    assert row["NumPy QSGD / encode, best"] == 4
    assert row["encode GB/s"] == pytest.approx(4 / 6)
    assert row["encode GB/s, best"] == pytest.approx(4 / 3)
    for name in ("PyTorch QSGD ms", "PyTorch QSGD / encode", "decode / floor, best"):
        assert row[name] == ""
