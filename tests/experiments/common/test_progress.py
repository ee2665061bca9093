"""Progress lines, in a log and on a terminal."""

import io

import pytest

from experiments.common.progress import Loading, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


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


def test_time_left_counts_the_pauses_to_come_and_the_rate_none():
    """Iterations of 1 s, and pauses of 3 s after 4, 8 and the last, 10."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(10, every_seconds=0, pause_every=4, stream=stream, clock=clock)
    for iteration in range(1, 11):
        clock.now += 1
        if iteration in (4, 8, 10):
            with progress.pause():
                clock.now += 3
        progress.update(iteration)
    lines = stream.getvalue().splitlines()
    assert all(" 1.00 it/s" in line for line in lines)
    left = [int(line.split(", ")[1].split(":")[-1].split()[0]) for line in lines]
    # a pause is expected to take as long as the last one, and none was before the 4th
    assert left == [9, 8, 7, 6 + 2 * 3, 11, 10, 9, 2 + 3, 4, 0]


def test_a_line_fits_80_columns_and_leaves_out_what_does_not():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(500_000, every_seconds=0, stream=stream, clock=clock)
    clock.now = 2e5
    progress.update(123_456, loss_of_one=-12.345, loss_of_another=-12.345, b=1.0)
    (line,) = stream.getvalue().splitlines()
    assert line == (
        "123456/500000 (24.7 %) 0.62 it/s, 169:26:45 left, loss_of_one -12.35, b 1"
    )
    assert len(line) < 80


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
    with pytest.raises(ValueError, match="pause_every must be at least 1, got 0"):
        Progress(1, pause_every=0)


def test_progress_is_silent_on_short_loads():
    clock, stream = Clock(), io.StringIO()
    loading = Loading("set", 3, stream=stream, clock=clock)
    for done in (1, 2, 3):
        clock.now += 0.5
        loading.update(done)
    assert stream.getvalue() == ""


def test_progress_of_long_loads():
    clock, stream = Clock(), io.StringIO()
    loading = Loading("set", 4000, stream=stream, clock=clock)
    for done in (1000, 2000, 3000, 4000):
        clock.now += 1.5
        loading.update(done)
    assert stream.getvalue().splitlines() == [
        "loading set: 2,000 of 4,000 pictures, 3 s",
        "loading set: 4,000 of 4,000 pictures, 6 s",
    ]
