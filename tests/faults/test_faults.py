"""One fault in one of three processes: all end in time, saying why.

T is --timeout, 10 s here. Limits are of this machine's other work as well.
"""

import signal
import time

import pytest

from experiments.faults.runs import last_row, rows, save_pictures
from tests.faults.ranks import running

T = 10
BUSY = 10
"""Seconds that a machine with other work may add to those promised."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, and what a start compiles, for the next ones."""
    where = tmp_path_factory.mktemp("faults")
    save_pictures(where / "pictures.npz")
    return where


def checkpoints(workdir):
    found = (workdir / "checkpoints").glob("*")
    return sorted(int(path.name) for path in found if path.name.isdigit())


@pytest.mark.parametrize(
    ("rank", "fault", "said"),
    [
        (1, "raise@7", "RuntimeError: injected: uncaught on this rank"),
        (0, "save@5", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_one_that_fails_ends_all_at_once(folder, tmp_path, rank, fault, said):
    with running(folder, tmp_path / "run", faults={rank: fault}) as ranks:
        ranks.wait()
    assert ranks.codes == [1, 1, 1], ranks.report()
    assert ranks.seconds() < 2 + BUSY
    assert ranks[rank].last == said, "its traceback is the last"
    assert "Traceback" in ranks[rank].text
    for number in {0, 1, 2} - {rank}:
        ends = (
            f"process {number} of 3 ends: process {rank} failed: {said} (exit code 1)"
        )
        assert ranks[number].last == ends
        assert "Traceback" not in ranks[number].text


def test_the_first_process_is_killed_and_the_run_goes_on_to_the_same_bits(
    folder, tmp_path
):
    """What came after the last checkpoint comes again; then SIGTERM does, twice."""
    workdir = tmp_path / "run"
    with running(folder, workdir, faults={0: "kill@9"}) as ranks:
        ranks.wait()
    assert ranks.codes == [-9, 75, 75], ranks.report()
    assert ranks.seconds() < 2 + BUSY
    for rank in ranks[1:]:
        assert "process 0 is gone without a word" in rank.text
        assert "start all processes again with --resume (exit code 75)" in rank.text
    assert checkpoints(workdir) == [5]
    before = rows(workdir)
    assert last_row(workdir) > 5

    with running(folder, workdir, faults={1: "term@12:2"}, resume=True) as ranks:
        ranks.wait()
    assert ranks.codes == [0, 0, 0], ranks.report()
    (*_, stopped) = checkpoints(workdir)
    assert f"stopped after iteration {stopped} and saved it" in ranks[0].text
    assert stopped == last_row(workdir)
    assert 12 <= stopped < 60
    assert rows(workdir)[: len(before)] == before


def test_one_that_is_stuck_ends_all_in_time(folder, tmp_path):
    with running(folder, tmp_path / "run", faults={1: "sleep@8:3600"}) as ranks:
        ranks.wait()
    assert ranks.codes == [75, 75, 75], ranks.report()
    assert T - 1 < ranks.seconds() < T + 2 + BUSY
    for rank in ranks:
        assert "iteration 8 is not done (--timeout=10)" in rank.last
        assert "not arrived: process 1, iteration 8, data for 10 s" in rank.last
        assert "0, 2 wait in the exchange" in rank.last
    assert checkpoints(tmp_path / "run") == [5]


@pytest.mark.parametrize("frozen", [0])  # others: test_crew
def test_one_that_is_frozen_ends_the_others_in_time(folder, tmp_path, frozen):
    with running(folder, tmp_path / "run", faults={frozen: "stop@8"}) as ranks:
        ranks.wait(but=(frozen,))
        others = [rank for number, rank in enumerate(ranks) if number != frozen]
        assert T - 1 < ranks.seconds(but=(frozen,)) < T + 2 + BUSY
        for rank in others:
            assert rank.code == 75, ranks.report()
            assert f"process {frozen}" in rank.last
            assert "silent for" in rank.last
        ranks[frozen].send(signal.SIGCONT)
        ranks.wait(30)
    assert ranks[frozen].code in (75, -6), ranks.report()


@pytest.mark.parametrize(
    ("fault", "flags", "said"),
    [
        ("nan@6", (), "not finite at iteration 6"),
        ("flip@6", ("--check_replicas_every=3",), "the odd one is process 1"),
    ],
)
def test_what_one_finds_ends_all(folder, tmp_path, fault, flags, said):
    with running(folder, tmp_path / "run", *flags, faults={1: fault}) as ranks:
        ranks.wait()
    assert ranks.codes == [1, 1, 1], ranks.report()
    for rank in ranks:
        assert said in rank.text
    assert checkpoints(tmp_path / "run") == [5]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--batch_size=4", "batch_size must be the same in all processes, got 4 in"),
        ("--process=2", "process must be another number in each process, got 2"),
        ("--workdir={}", "workdir must be one folder that all processes share, got"),
    ],
)
def test_processes_that_do_not_agree_end_before_anything_else(
    folder, tmp_path, flag, said
):
    each = {1: [flag.format(tmp_path / "elsewhere")]}
    began = time.time()
    with running(folder, tmp_path / "run", each=each) as ranks:
        ranks.wait()
    assert ranks.codes == [1, 1, 1], ranks.report()
    ended = [rank.ended for rank in ranks]
    assert max(ended) - min(ended) < 5
    assert max(ended) - began < 60 + BUSY
    for rank in ranks:
        assert said in rank.text, ranks.report()
    assert not (tmp_path / "run" / "config.json").exists()
