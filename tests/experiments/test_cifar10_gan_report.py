"""CSV files, progress lines, grids and figures."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.report import (
    CsvWriter,
    Progress,
    plot_curves,
    read_rows,
    sample_grid,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_csv_appends_flushes_and_writes_its_header_once(tmp_path):
    path = tmp_path / "new" / "log.csv"
    with CsvWriter(path, ["iteration", "loss", "note"]) as writer:
        writer.write({"iteration": 1, "loss": 0.5, "note": 'a, "b"'})
        text = path.read_text()
        assert text == 'iteration,loss,note\n1,0.5,"a, ""b"""\n', (
            "a row must be on disk before the writer is closed"
        )
    with CsvWriter(path, ["iteration", "loss", "note"]) as writer:
        writer.write({"iteration": 2})
    assert read_rows(path) == [
        {"iteration": "1", "loss": "0.5", "note": 'a, "b"'},
        {"iteration": "2", "loss": "", "note": ""},
    ]


def test_csv_errors(tmp_path):
    path = tmp_path / "log.csv"
    writer = CsvWriter(path, ["a", "b"])
    with pytest.raises(ValueError, match=r"columns \['a', 'b'\], got also \['c'\]"):
        writer.write({"a": 1, "c": 2})
    writer.close()
    assert read_rows(path) == [], "a refused row must leave nothing behind"
    with pytest.raises(ValueError, match=r"existing file .*\['a', 'b'\], got \['a'\]"):
        CsvWriter(path, ["a"])
    for columns in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="columns must be distinct"):
            CsvWriter(path, columns)


def test_progress_lines():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(400, start=100, every_seconds=10, stream=stream, clock=clock)
    clock.now = 9.0
    assert not progress.update(110), "nothing before the interval is over"
    clock.now = 20.0
    assert progress.update(150, loss=0.123456, penalty=2)
    # 50 iterations in 20 s; 250 left at 2.5 it/s is 100 s.
    line = "150/400 (37.5 %) 2.50 it/s, 0:01:40 left, loss 0.1235, penalty 2\n"
    assert stream.getvalue() == line
    clock.now = 21.0
    assert progress.update(400), "the last iteration always prints"
    assert stream.getvalue().endswith("400/400 (100.0 %) 250.00 it/s, 0:00:00 left\n")


def test_progress_rewrites_its_line_on_a_terminal():
    clock, stream = Clock(), Terminal()
    progress = Progress(10, every_seconds=1, stream=stream, clock=clock)
    clock.now = 1.0
    progress.update(1, loss=1.2345)
    clock.now = 2.0
    progress.update(2)
    clock.now = 3.0
    progress.update(10)
    lines = stream.getvalue().split("\r")
    assert lines[0] == "", "each line starts at the left edge"
    assert len(lines) == 4
    assert len(lines[2]) == len(lines[1]), "blanks must cover a longer line before"
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue().count("\n") == 1


def test_progress_errors():
    with pytest.raises(ValueError, match="total must be at least 1, got 0"):
        Progress(0)
    with pytest.raises(ValueError, match="every_seconds must be at least 0, got -1"):
        Progress(1, every_seconds=-1)


def test_sample_grid_places_every_picture(tmp_path):
    pictures = np.arange(5, dtype=np.uint8)[:, None, None, None] * 50 + 10
    pictures = np.broadcast_to(pictures, (5, 4, 6, 3))
    path = tmp_path / "deep" / "grid.png"
    sample_grid(pictures, path, columns=3, scale=2)
    grid = np.asarray(Image.open(path))
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


def test_plot_curves_of_files_and_rows(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    with CsvWriter(tmp_path / "a.csv", ["iteration", "penalty", "bytes"]) as writer:
        writer.write({"iteration": 1, "penalty": 3.0, "bytes": 10})
        writer.write({"iteration": 2, "penalty": "", "bytes": 20})
        writer.write({"iteration": 3, "penalty": 1.0, "bytes": 30})
    rows = [{"iteration": i, "penalty": 2.0 * i, "seconds": i} for i in range(30)]
    path = tmp_path / "deep" / "curves.png"
    plot_curves({"8 bits": tmp_path / "a.csv", "exact": rows}, path)
    axes = figures[0].axes
    assert [panel.get_ylabel() for panel in axes] == [
        "gradient penalty",
        "bytes sent per worker",
    ]
    assert all(panel.get_xlabel() == "iteration" for panel in axes)
    first, second = axes[0].get_lines()
    assert (first.get_label(), second.get_label()) == ("8 bits", "exact")
    assert list(first.get_xdata()) == [1, 3], "an empty cell is no point"
    assert list(first.get_ydata()) == [3, 1]
    assert len(second.get_xdata()) == 30
    legend = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert legend == ["8 bits", "exact"]
    assert np.asarray(Image.open(path)).std() > 0, "a picture was written"


def test_plot_curves_errors(tmp_path):
    with pytest.raises(ValueError, match="column 'iteration', got 'run' with"):
        plot_curves({"run": [{"loss": 1.0}]}, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"one of the columns .* got"):
        plot_curves({"run": [{"iteration": 1.0}]}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="one of the columns"):
        plot_curves({}, tmp_path / "a.png")
