"""The network benchmark says what it cannot do, before it makes anything."""

import subprocess
import sys

import pytest

from experiments.benchmarks.network import namespaces


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--rates=fast", "rates must be"),
        ("--bits=9", "--bits must list whole numbers from 1 to 8"),
        ("--sizes=many", "many"),
        ("--nodes=1", "nodes"),
        ("--nodes=1000", "nodes"),
    ],
)
def test_flags_are_checked_before_anything_is_made(flag, message):
    done = run_benchmark(flag)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    with pytest.raises(namespaces.NotPossible, match="need root"):
        namespaces.check_possible()
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(namespaces.NotPossible, match="ip and tc of iproute2"):
        namespaces.check_possible()


def run_benchmark(*flags):
    command = [sys.executable, "-m", "experiments.benchmarks.network", *flags]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False
    )
