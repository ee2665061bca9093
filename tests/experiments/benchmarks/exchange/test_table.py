"""Columns of the exchange benchmark, against numbers worked out by hand."""

import numpy as np

from experiments.benchmarks.exchange import table as exchange_table


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
