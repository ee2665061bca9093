"""What a run prints; and its first score, which can be stopped."""

import dataclasses
import os
import re
import signal

import pytest

from experiments.cifar10_gan import train
from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.reporting import observer, screens
from experiments.faults.runs import rows
from tests.lib.tiny_runs import TINY, preparing_once


@pytest.fixture(autouse=True)
def _compiled_plainly(tmp_path):
    with preparing_once(tmp_path / "cache"):
        yield


def stopped_at_its_start(settings, monkeypatch):
    """The workdir, and how many samples were drawn; SIGTERM comes with the first."""
    create, drawn = observer.create_scorer, []

    def interrupted(*arguments):
        scorer = create(*arguments)

        def generate(params, latents):
            drawn.append(len(latents))
            os.kill(os.getpid(), signal.SIGTERM)
            return scorer.generate(params, latents)

        return scorer._replace(generate=generate)

    with monkeypatch.context() as patch:
        patch.setattr(observer, "create_scorer", interrupted)
        return train.train(settings), drawn


def test_a_run_from_its_first_score_to_its_closing_screen(
    tmp_path, monkeypatch, capsys
):
    workdir = tmp_path / "run"
    settings = dataclasses.replace(
        TINY, source="digits", workdir=str(workdir), iterations=2, score_samples=120
    )
    _, drawn = stopped_at_its_start(settings, monkeypatch)
    assert drawn == [100], "the other 20 were not waited for"
    out, err = capsys.readouterr()
    assert "stopped after iteration 0 and saved it" in out
    assert err == "", "nothing was compiled"
    assert rows(workdir) == []

    train.train(settings, resume=True)
    first, last = rows(workdir)
    assert (first["iteration"], last["iteration"]) == ("0", "2")
    assert first["score"] == first["score_average"] == first["score_ema"] != ""
    assert last["score"] != last["score_average"]

    out, err = capsys.readouterr()
    facts, *closing = out.splitlines()
    size, times = re.fullmatch(
        r"digits: 3 workers on 3 cpu devices, ([\d,]+) parameters, 4 bits, "
        r"([\d.]+)x fewer bytes",
        facts,
    ).groups()
    # two exchanges of all workers' vectors, each by a ring
    exact = 2 * (2 * 2 / 3 * 4 * int(size.replace(",", "")))
    assert float(times) == round(exact / int(last["bytes_per_iteration"]), 1)
    assert closing[0].startswith("2 iterations in ")
    named = [line.split()[0] for line in closing if line.startswith("  ")]
    assert len(named) == 6
    assert all((workdir / name).exists() for name in named)
    assert closing[-1].startswith(f"go on by --resume --workdir={workdir} --iterat")
    lines = err.splitlines()
    assert re.fullmatch(r"sliced Wasserstein distance at 0: 0\.\d+", lines[0])
    assert lines[1] == "compiling the training step ..."
    assert re.fullmatch(r"compiled, and iteration 1 done: \d+ s", lines[2])
    assert re.match(r"sliced Wasserstein distance at 2: 0\.\d+, of averages", lines[3])
    assert lines[4].startswith("2/2 (100.0 %)")
    assert len(lines) == 5
    assert max(map(len, [facts, *lines])) < 80


def test_titles_are_in_words():
    quick, exact = Config(source="digits", bits=4), Config(source="cifar10", bits=32)
    assert screens.title(quick) == (
        "digits: 3 workers, extra adam, an exchange in 4 bits"
    )
    assert screens.title(exact) == "cifar10: 3 workers, extra adam, an exact exchange"
    assert screens.precision(Config(bits=1)) == "1 bit"
