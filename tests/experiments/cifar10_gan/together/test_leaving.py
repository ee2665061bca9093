"""How a process ends by an error of its own, or of another one."""

import os
import signal
import subprocess
import sys

import pytest

from experiments.cifar10_gan.together import leaving, votes
from experiments.cifar10_gan.together.crew import LOST, Crew, Reason

pytestmark = pytest.mark.quick


@pytest.fixture
def ended(monkeypatch):
    """By which code a process ends whose `as_one` block raises, one of three."""
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr(leaving, "_current", None)
    monkeypatch.setattr(leaving._Leaving, "instead_of_aborting", lambda _: None)
    monkeypatch.setattr(leaving._Leaving, "follow", lambda _: None)
    monkeypatch.setattr(leaving, "_KNOWN", 0.1)
    monkeypatch.setattr(leaving, "_ITS_OWN_WORDS", 0)
    monkeypatch.setattr(leaving, "_TOLD", 0.01)

    def end(error, reason=None):
        members = Crew(1, 3, 30.0, {})
        if reason is not None:
            members.fail(*reason[1:], reason[0])
        with pytest.raises(SystemExit) as found, leaving.as_one(members):
            raise error
        return found.value.code, members.reason(0)

    return end


CONNECTION = ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer")


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        (OSError("No space left on device"), 1, "OSError: No space left on device"),
        (ValueError("bits must be 1"), 1, "ValueError: bits must be 1"),
        (FloatingPointError("not finite"), 1, "FloatingPointError: not finite"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt"),
    ],
    ids=str,
)
def test_an_error_of_its_own_is_told_last_and_to_the_others(
    capsys, ended, error, code, last
):
    found, reason = ended(error)
    assert found == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == last
    assert len(lines) == 1 or lines[0].startswith("Traceback")
    assert reason == (1, f"failed: {leaving.described(error)}", code)


@pytest.mark.parametrize(
    "error",
    [
        CONNECTION,
        RuntimeError("NCCL operation ncclAllGather failed"),
        RuntimeError("UNAVAILABLE: The following tasks are unhealthy"),
    ],
    ids=str,
)
def test_a_broken_collective_is_a_lost_process(capsys, ended, error):
    code, reason = ended(error)
    assert code == reason.code == LOST
    told = capsys.readouterr().err
    assert told.startswith("process 1 of 3 has lost another process (")
    assert "Traceback" not in told


@pytest.mark.parametrize("error", [CONNECTION, None], ids=["collective", "vote"])
def test_what_another_one_failed_by_is_told_instead(capsys, ended, error):
    reason = Reason(2, "failed: OSError: the disk", 1)
    error = error or leaving.AnotherProcessFailed(reason)
    assert ended(error, reason) == (1, reason)
    told = capsys.readouterr().err
    assert told == (
        "process 1 of 3 ends: process 2 failed: OSError: the disk (exit code 1)\n"
    )


def test_one_process_has_no_others():
    with pytest.raises(OSError, match="the disk"), leaving.as_one(None):
        raise OSError("the disk")
    assert leaving.crew() is None
    assert votes.together(lambda: 3, "x") == 3
    assert votes.alike("x", [1]) == [1]
    assert votes.of_first(None, "x") is None
    assert not votes.anywhere(False)


STUBBORN = """
import signal, sys, time
from experiments.cifar10_gan.together.signals import stop_on_signals
with stop_on_signals() as received:
    print("ready", flush=True)
    while len(received) < int(sys.argv[1]):
        time.sleep(0.01)
    print("stopped by", sorted(set(received)), flush=True)
    time.sleep(float(sys.argv[2]))
signal.raise_signal(signal.SIGTERM)
"""


def stubborn(stops_at, seconds):
    """A program that stops at so many signals, and takes its time."""
    command = [sys.executable, "-c", STUBBORN, str(stops_at), str(seconds)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_sigterms_stop_and_change_nothing():
    """Handlers are then what they were before: one more is the end."""
    process = stubborn(2, 0.5)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        assert process.poll() is None
        signal.sigtimedwait([], 0.3)
    assert process.communicate(timeout=60)[0] == "stopped by [15]\n"
    assert process.returncode == -15


def test_the_third_sigterm_ends_at_once():
    process = stubborn(99, 99)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        signal.sigtimedwait([], 0.3)
    process.communicate(timeout=60)
    assert process.returncode == 128 + 15


def test_a_second_interrupt_ends_once_the_first_was_seen():
    """Two within 5 s are one; the one after that ends."""
    process = stubborn(99, 99)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        signal.sigtimedwait([], 0.2)
    assert process.poll() is None
    signal.sigtimedwait([], 5.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
