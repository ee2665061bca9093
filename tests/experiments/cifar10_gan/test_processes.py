"""The main job in two real processes: the rows of one process with two devices."""

import subprocess
import sys

import pytest

from experiments.checks.kill_and_resume import rows, save_pictures
from experiments.cifar10_gan import place
from experiments.cifar10_gan.config import Config
from experiments.common.processes import free_port
from tests.lib.helpers import plainly_compiled

TINY = (
    "--workers=2",
    "--iterations=2",
    "--batch_size=2",
    "--width=4",
    "--latent=16",
    "--log_every=1",
    "--score_every=2",
    "--score_samples=8",
    "--notensorboard",
)


def start(workdir, *arguments):
    command = [sys.executable, "-m", "experiments.cifar10_gan", *TINY, *arguments]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        env=plainly_compiled(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_write_the_rows_of_one(tmp_path):
    """Each gathers its own worker's pictures; the first alone writes and scores."""
    source = save_pictures(tmp_path / "pictures.npz")
    several = (source, "--processes=2", f"--coordinator=127.0.0.1:{free_port()}")
    running = [
        start(tmp_path / "two", *several, f"--process={process}")
        for process in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output
    assert "2 cpu devices of 2 processes" in outputs[0]
    assert "sliced Wasserstein" in outputs[0]
    assert "sliced Wasserstein" not in outputs[1], "the second process scores too"
    assert "{" not in outputs[0], "the configuration is in config.json"
    assert "2 workers" not in outputs[1], "the second process tells the facts too"
    alone = start(tmp_path / "one", source)
    output = alone.communicate(timeout=300)[0]
    assert alone.returncode == 0, output
    expected = rows(tmp_path / "one")
    assert [row["iteration"] for row in expected] == ["0", "1", "2"]
    assert rows(tmp_path / "two") == expected


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_join_are_named(tmp_path, process):
    """Process 1 has nobody to ask at the port, process 0 has nobody to answer."""
    where = f"127.0.0.1:{free_port()}"
    given = ("--processes=2", f"--process={process}", f"--coordinator={where}")
    alone = start(tmp_path / "run", *given, "--wait_seconds=2")
    output = alone.communicate(timeout=60)[0]
    assert alone.returncode == 1, output
    who = "all 2 processes to join at" if process == 0 else "process 0 at"
    assert f"process {process} waits for {who} {where}" in output
    assert "for 2 s at most (--wait_seconds)" in output
    assert "TimeoutError: processes must have joined after 2 s" in output
    assert "stack trace" not in output
    assert "Traceback" not in output


THREE = Config(processes=3, process=1, coordinator="127.0.0.1:1")


@pytest.mark.quick
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer"),
            75,
            "",
        ),
        (RuntimeError("NCCL operation ncclAllGather failed"), 75, ""),
        (RuntimeError("UNAVAILABLE: The following tasks are unhealthy"), 75, ""),
        (OSError("No space left on device"), 1, "Traceback"),
        (KeyboardInterrupt(), 130, "Traceback"),
    ],
    ids=str,
)
def test_a_process_that_cannot_go_on_ends_at_once(
    monkeypatch, capsys, error, code, said
):
    """Else it would wait for the others, as JAX does when Python ends."""
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit) as ended, place.leaving_none_behind(THREE):
        raise error
    assert ended.value.code == code
    printed = capsys.readouterr().err
    assert said in printed
    lost = "process 1 of 3 has lost another one"
    assert (lost in printed) == (code == place.LOST)


@pytest.mark.quick
@pytest.mark.parametrize(
    "error",
    [
        ValueError("bits must be 1 to 8"),
        FloatingPointError("not finite at iteration 3"),
        place.AnotherProcessFailed("see its output"),
        SystemExit(3),
    ],
    ids=str,
)
def test_what_all_processes_know_ends_them_as_ever(monkeypatch, error):
    monkeypatch.setattr("os._exit", lambda code: pytest.fail("ended at once"))
    with pytest.raises(type(error)), place.leaving_none_behind(THREE):
        raise error


@pytest.mark.quick
def test_what_fails_within_together_is_no_lost_process(monkeypatch):
    """Such as a logger's server that does not answer."""
    monkeypatch.setattr("os._exit", lambda code: pytest.fail("ended at once"))

    def log():
        raise RuntimeError("Connection refused")

    with (
        pytest.raises(RuntimeError, match="Connection refused"),
        place.leaving_none_behind(THREE),
    ):
        place.together(log)


@pytest.mark.quick
def test_one_process_has_no_other_to_lose(monkeypatch):
    monkeypatch.setattr("os._exit", lambda code: pytest.fail("ended at once"))
    with (
        pytest.raises(RuntimeError, match="Connection reset"),
        place.leaving_none_behind(Config()),
    ):
        raise RuntimeError("Connection reset by peer")
