"""The figure's command end to end, on runs of a few iterations."""

import subprocess
import sys

from tests.lib.helpers import plainly_compiled

COMMAND = [
    *("-m", "experiments.paper", "figure1", "--methods=exact,uniform4"),
    *("--iterations=2", "--", "--source=embedded", "--width=4", "--batch_size=2"),
    *("--latent=8", "--score_samples=8", "--score_every=1", "--log_every=1"),
    *("--checkpoint_every=1", "--notensorboard"),
]


def ran(folder, *more):
    command = [sys.executable, *COMMAND[:4], f"--folder={folder}", *more, *COMMAND[4:]]
    return subprocess.run(
        command, env=plainly_compiled(), capture_output=True, text=True, check=False
    )


def test_runs_are_done_once_and_drawn(tmp_path):
    done = ran(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "minutes"
    assert (folder / "figure1.png").is_file()
    assert "| exact | 1 | 2 |" in done.stdout
    logs = [(folder / f"{name}_0" / "log.txt").stat() for name in ("exact", "uniform4")]
    again = ran(tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stderr.count("done before") == 2
    assert [
        (folder / f"{name}_0" / "log.txt").stat().st_mtime_ns
        for name in ("exact", "uniform4")
    ] == [log.st_mtime_ns for log in logs]


def test_what_cannot_be(tmp_path):
    done = ran(tmp_path, "--only_draw")
    assert done.returncode == 1
    assert "no run is in" in done.stderr
    done = ran(tmp_path, "--seeds=-1")
    assert done.returncode == 1
    assert "whole numbers" in done.stdout + done.stderr
