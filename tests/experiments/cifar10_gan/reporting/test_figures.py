"""Sample grids and the curves of a run."""

import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.reporting.figures import (
    Panel,
    picture_grid,
    plot_curves,
    read_table,
    sample_grid,
)
from experiments.common import figures
from experiments.common.tables import CsvWriter


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are written, in a list."""
    kept = []
    save = figures.save_figure

    def keep(figure, path):
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures, "save_figure", keep)
    return kept


def test_sample_grid_places_every_picture(tmp_path):
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * 50 + 10
    pictures = np.broadcast_to(pictures, (5, 4, 6, 3))
    path = tmp_path / "deep" / "grid.png"
    returned = sample_grid(pictures, path, columns=3, scale=2)
    grid = np.asarray(Image.open(path))
    assert np.array_equal(grid, returned)
    assert np.array_equal(grid, picture_grid(pictures, columns=3, scale=2))
    assert grid.shape == (2 * (2 * 5 - 1), 2 * (3 * 7 - 1), 3)
    for index in range(5):
        top, left = index // 3 * 10, index % 3 * 14
        cell = grid[top : top + 8, left : left + 12]
        assert np.all(cell == 10 + 50 * index), f"picture {index}"
    assert not grid[8:10].any(), "a black line between rows"
    assert not grid[10:, 28:].any(), "black where pictures are missing"


def test_sample_grid_takes_floats(tmp_path):
    pictures = np.array([-2.0, 0.0, 1.0, 5.0]).reshape(4, 1, 1, 1) * np.ones(
        (1, 2, 2, 3)
    )
    sample_grid(pictures, tmp_path / "grid.png", scale=1)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (5, 5, 3), "four pictures make a square"
    assert [int(grid[i, j, 0]) for i in (0, 3) for j in (0, 3)] == [0, 127, 255, 255]
    with pytest.raises(ValueError, match=r"shape \(n, h, w, 3\) .* got \(2, 2\)"):
        sample_grid(np.zeros((2, 2)), tmp_path / "grid.png")
    with pytest.raises(ValueError, match="must be finite"):
        sample_grid(np.full((1, 2, 2, 3), np.nan), tmp_path / "grid.png")
    with pytest.raises(ValueError, match="got 0 and 2"):
        sample_grid(pictures, tmp_path / "grid.png", columns=0)


def test_curves_share_panels_and_leave_out_what_a_run_lacks(tmp_path, drawn):
    columns = ["iteration", "loss_generator", "penalty", "score", "score_ema", "bytes"]
    with CsvWriter(tmp_path / "a.csv", columns) as writer:
        writer.write({"iteration": 0, "score": 0.4, "score_ema": 0.4})
        for i in (1, 2, 3):
            writer.write({"iteration": i, "loss_generator": -i, "bytes": 2e7 * i})
        writer.write({"iteration": 3, "score": 0.3, "score_ema": "nan"})
    path = tmp_path / "deep" / "curves.png"
    plot_curves(tmp_path / "a.csv", path, title="4 bits")
    axes = drawn[0].axes
    assert [panel.get_ylabel() for panel in axes] == [
        "loss",
        "sliced Wasserstein distance",
        "sent per worker (MB)",
    ]
    assert {panel.get_xlabel() for panel in axes} == {"iteration"}
    raw, ema = axes[1].get_lines()
    assert (list(raw.get_xdata()), list(raw.get_ydata())) == ([0, 3], [0.4, 0.3])
    assert list(ema.get_xdata()) == [0], "a value that is not finite is no point"
    assert ema.get_marker() == "o", "a single point must be seen"
    assert raw.get_color() != ema.get_color()
    legend = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert legend == ["raw", "moving average"]
    assert list(axes[2].get_lines()[0].get_ydata()) == [20, 40, 60]
    assert len(axes[2].get_lines()) == 1
    plot_curves(tmp_path / "a.csv", path, exact_bytes=1e8)
    own, exact = drawn[1].axes[2].get_lines()
    assert list(own.get_ydata()) == [20, 40, 60]
    assert list(exact.get_ydata()) == [100, 200, 300]
    legend = drawn[1].axes[2].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["this run", "an exact run"]
    assert np.asarray(Image.open(path)).std() > 0, "a picture was written"


def test_long_runs_are_averaged_and_zeros_are_kept_off_logarithmic_axes(
    tmp_path, drawn
):
    rows = [{"iteration": i, "a": float(i), "b": i + 1.0} for i in range(30_000)]
    panels = [Panel("a", {"a": ""}, log=True), Panel("b", {"b": ""}, log=True)]
    plot_curves(rows, tmp_path / "a.pdf", panels=panels)
    first, second = drawn[0].axes
    assert (first.get_yscale(), second.get_yscale()) == ("linear", "log")
    assert first.get_xlabel() == "iteration (thousands)"
    (line,) = first.get_lines()
    # 250 means of 120 neighbours: the first is (0 + ... + 119) / 120.
    assert len(line.get_xdata()) == 250
    assert line.get_ydata()[0] == 59.5
    assert line.get_xdata()[-1] == 29.9395


def test_curves_refuse_runs_that_have_none(tmp_path):
    with pytest.raises(ValueError, match=r"must have an iteration, got .*'loss': 1.0"):
        plot_curves([{"loss": 1.0}], tmp_path / "a.png")
    for rows in ([{"iteration": 1, "slope": 1.0}], []):
        with pytest.raises(ValueError, match=r"one of the columns .*'loss_generator'"):
            plot_curves(rows, tmp_path / "a.png")


def test_the_last_row_of_an_iteration_counts():
    rows = [{"iteration": 1, "a": 1}, {"iteration": 1, "a": 2, "b": ""}]
    assert read_table(rows) == {"a": {1: 2.0}}
