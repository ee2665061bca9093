"""CSV files and progress lines."""

import csv
import io
import os

import pytest

from experiments.cifar10_gan.reporting.report import CsvWriter, Progress, read_rows


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


COLUMNS = ["iteration", "seconds", "loss"]


def write_run(path, first, last, *, resume_at=None):
    """As training does: a row for each iteration, and a second one every third."""
    with CsvWriter(path, COLUMNS, resume_at=resume_at) as writer:
        for iteration in range(first, last + 1):
            writer.write({"iteration": iteration, "loss": iteration / 3})
            if iteration % 3 == 0:
                writer.write({"iteration": iteration, "seconds": 1.5})


@pytest.mark.parametrize("torn", ["", "8", "8,", "8,,2.6666", '8,,"'])
def test_a_resumed_csv_is_that_of_an_undisturbed_run(tmp_path, torn):
    write_run(tmp_path / "whole.csv", 0, 10)
    killed = tmp_path / "killed.csv"
    write_run(killed, 0, 7)
    with killed.open("a") as file:
        file.write(torn)
    write_run(killed, 7, 10, resume_at=6)
    assert killed.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.csv", "whole.csv"]


def test_resuming_before_the_first_checkpoint_starts_anew(tmp_path):
    write_run(tmp_path / "whole.csv", 0, 4)
    for start in ("", "iterat", "iteration,seconds,loss\n0,,1\n1,,"):
        path = tmp_path / "killed.csv"
        path.write_text(start)
        write_run(path, 0, 4, resume_at=-1)
        assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes(), start
    write_run(tmp_path / "new.csv", 0, 4, resume_at=-1)
    assert (tmp_path / "new.csv").read_bytes() == path.read_bytes()


def test_a_kill_while_resuming_loses_nothing(tmp_path, monkeypatch):
    """The old file stays until the new one is whole, on the disk."""
    path = tmp_path / "log.csv"
    write_run(path, 0, 7)
    before = path.read_bytes()

    def killed(number):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            CsvWriter(path, COLUMNS, resume_at=3)
    assert path.read_bytes() == before
    write_run(path, 4, 7, resume_at=3)
    assert path.read_bytes() == before


def test_readers_and_appending_mind_a_torn_line(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("iteration,seconds,loss\n1,2,3\n2,4,1")
    assert [row["loss"] for row in read_rows(path)] == ["3"], (
        "1 may be the first digit of 15"
    )
    with pytest.raises(ValueError, match=r"whole lines.* ends in '2,4,1'; pass resume"):
        CsvWriter(path, COLUMNS)
    path.write_text("iteration,seconds,loss\nabc,2,3\n")
    with pytest.raises(
        ValueError, match=r"rows have an iteration.*\['abc', '2', '3'\]"
    ):
        CsvWriter(path, COLUMNS, resume_at=1)
    with pytest.raises(ValueError, match=r"must include 'iteration'.* got \['loss'\]"):
        CsvWriter(tmp_path / "other.csv", ["loss"], resume_at=1)
    assert list(csv.reader(path.read_text().splitlines())) == [
        COLUMNS,
        ["abc", "2", "3"],
    ]


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


def test_the_rate_leaves_out_what_came_before_the_mark():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, every_seconds=5, stream=stream, clock=clock)
    clock.now = 60.0  # compiling
    progress.mark(1)
    clock.now = 70.0
    progress.update(21)
    assert stream.getvalue() == "21/100 (21.0 %) 2.00 it/s, 0:00:40 left\n"


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


def test_progress_of_a_run_that_resumes_counts_only_its_own_iterations():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(400, start=390, every_seconds=0, stream=stream, clock=clock)
    clock.now = 4.0
    progress.update(392)
    clock.now = 5.0
    progress.update(392)
    clock.now = 6.0
    progress.update(401)
    assert stream.getvalue().splitlines() == [
        "392/400 (98.0 %) 0.50 it/s, 0:00:16 left",
        "392/400 (98.0 %) 0.00 it/s, - left",
        "401/400 (100.2 %) 9.00 it/s, 0:00:00 left",
    ]


def test_other_lines_do_not_run_into_the_progress_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    clock, stream = Clock(), Terminal()
    with Progress(10, every_seconds=1, stream=stream, clock=clock) as progress:
        progress.say("start")
        clock.now = 1.0
        progress.update(1, loss=1.0, penalty=2.0)
        progress.say("a score")
        clock.now = 2.0
        progress.update(2)
    written = stream.getvalue()
    line = "1/10 (10.0 %) 1.00 it/s, 0:00"
    assert len(line) == 29, "a line that wraps could not be rewritten"
    assert written.startswith(f"start\n\r{line}\r{'a score':29}\n\r2/10 ")
    assert written.endswith("\n"), "a traceback starts on its own line"
    progress.close()
    assert stream.getvalue() == written, "closing twice is fine"
    log = io.StringIO()
    with Progress(10, stream=log, clock=clock) as progress:
        progress.say("a score")
    assert log.getvalue() == "a score\n"


def test_progress_errors():
    for start in (-1, 6):
        with pytest.raises(ValueError, match=rf"start must be in .*got {start} of 5"):
            Progress(5, start=start)
    with pytest.raises(ValueError, match="total must be at least 1, got 0"):
        Progress(0)
    with pytest.raises(ValueError, match="every_seconds must be at least 0, got -1"):
        Progress(1, every_seconds=-1)
