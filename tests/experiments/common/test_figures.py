"""Long series, units of axes, and a figure of a table."""

import numpy as np
import pytest

from experiments.common import figures


@pytest.mark.parametrize("length", [1, 249, 250, 251, 499, 500, 501, 777])
def test_thinned_series_keep_their_mean_and_their_order(length):
    series = np.arange(length) ** 2.0
    x, y = figures.thinned(np.arange(length), series)
    assert len(x) == len(y) <= 250
    assert np.all(np.diff(x) > 0)
    group = -(-length // 250)
    expected = [series[i : i + group].mean() for i in range(0, length, group)]
    np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_units():
    assert figures.with_unit("time", "seconds", 599) == (1, "time (seconds)")
    assert figures.with_unit("time", "seconds", 600) == (60, "time (minutes)")
    assert figures.with_unit("time", "seconds", 36e4) == (3600, "time (hours)")
    assert figures.with_unit("sent", "bytes", 0) == (1, "sent (bytes)")
    assert figures.with_unit("sent", "bytes", 3e11) == (1e9, "sent (GB)")
    assert figures.with_unit("iteration", "iteration", 9999) == (1, "iteration")
    assert figures.with_unit("loss", "loss_generator", 9e9) == (1, "loss")


def test_a_table_is_drawn(tmp_path):
    rows = [
        {"bits": bits, "size": size, "seconds": size * bits / 7, "peer": peer}
        for bits in (8, 4)
        for size, peer in ((16, ""), (64, 0.5))
    ]
    figure = tmp_path / "folder" / "figure.png"
    figures.write_figure(rows, figure, x="size", y=["seconds", "peer"], by=["bits"])
    assert figure.read_bytes().startswith(b"\x89PNG")
