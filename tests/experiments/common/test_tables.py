"""CSV files, written at once or row by row."""

import csv
import os

import pytest

from experiments.common.tables import (
    CsvWriter,
    markdown,
    print_table,
    read_csv,
    write_csv,
)


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
    assert read_csv(path) == [
        {"iteration": "1", "loss": "0.5", "note": 'a, "b"'},
        {"iteration": "2", "loss": "", "note": ""},
    ]


def test_csv_errors(tmp_path):
    path = tmp_path / "log.csv"
    writer = CsvWriter(path, ["a", "b"])
    with pytest.raises(ValueError, match=r"columns \['a', 'b'\], got also \['c'\]"):
        writer.write({"a": 1, "c": 2})
    writer.close()
    assert read_csv(path) == [], "a refused row must leave nothing behind"
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
    assert [row["loss"] for row in read_csv(path)] == ["3"], (
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


def test_tables_are_written_at_once_and_read(tmp_path):
    rows = [{"size": 16, "seconds": 0.25, "peer": None}, {"size": 64, "seconds": 1.0}]
    path = tmp_path / "folder" / "table.csv"
    for _ in range(2):  # over one that is there, too
        write_csv(rows, path)
        assert path.read_text() == "size,seconds,peer\n16,0.25,\n64,1.0,\n"
    assert read_csv(path)[1] == {"size": "64", "seconds": "1.0", "peer": ""}
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]
    with pytest.raises(ValueError, match=r"columns of the first, \['size'\], got also"):
        write_csv([{"size": 16}, {"size": 64, "rate": 1}], path)


def test_tables_are_aligned_on_the_screen_and_in_markdown(capsys):
    print_table([{"bits": 8, "ms": 0.12345}, {"bits": 16, "ms": ""}])
    assert capsys.readouterr().out == "bits     ms\n   8  0.123\n  16       \n"
    table = "| bits | ms |\n| --- | --- |\n| 8 | 0.1 |"
    assert markdown([["bits", "ms"], ["8", "0.1"]]) == table
