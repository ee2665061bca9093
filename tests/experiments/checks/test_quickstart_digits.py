"""The check of the quick start: whose samples it reads, and what it refuses."""

import dataclasses
import json
import sys

import pytest

from experiments.checks import quickstart_digits
from experiments.cifar10_gan import train
from tests.lib.tiny_runs import TINY, preparing_once

DIGITS = dataclasses.replace(TINY, source="digits", iterations=2)


def test_samples_of_a_run_are_read_beside_real_ones(tmp_path, monkeypatch, capsys):
    settings = dataclasses.replace(DIGITS, workdir=str(tmp_path / "run"))
    with preparing_once(tmp_path / "cache"):
        train.train(settings)
        found = quickstart_digits.digits_run(tmp_path / "run")
        assert found == settings
        monkeypatch.setattr(quickstart_digits, "start_processes", lambda config: None)
        monkeypatch.setattr(sys, "argv", ["quickstart_digits", settings.workdir])
        capsys.readouterr()
        with pytest.raises(SystemExit, match="cannot be read as digits: at least 80%"):
            quickstart_digits.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "held-out real ones",
        "iteration 0",
        "iteration 2",
    ]
    shares = [int(line.partition(": ")[2].partition("%")[0]) for line in lines]
    assert shares[0] > 85
    assert shares[1:] == [0, 0], "two iterations teach nobody to write"


def test_what_it_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"must be given the workdir of a run, got"):
        quickstart_digits.digits_run(tmp_path)
    other = dataclasses.asdict(dataclasses.replace(TINY, source="cifar10"))
    (tmp_path / "config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="must have the source 'digits', got 'cifar"):
        quickstart_digits.digits_run(tmp_path)
    bare = dataclasses.replace(DIGITS, workdir=str(tmp_path))
    with pytest.raises(ValueError, match="must have a checkpoint, got none in"):
        quickstart_digits.read_run(bare)
