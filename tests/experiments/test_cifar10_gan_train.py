"""The main job end to end on tiny pictures: what it writes, repeats and refuses."""

import csv
import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.cifar10_gan import train
from experiments.cifar10_gan.config import Config

TINY = Config(
    iterations=4,
    batch_size=2,
    width=4,
    latent=16,
    log_every=2,
    score_every=2,
    score_samples=8,
)


def config(tmp_path, **changes):
    return dataclasses.replace(TINY, workdir=str(tmp_path / "run"), **changes)


def rows(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run with the defaults of the quick start, made tiny."""
    return train.train(config(tmp_path_factory.mktemp("first")))


def test_a_run_leaves_metrics_samples_curves_and_its_configuration(finished):
    names = {str(p.relative_to(finished)) for p in finished.rglob("*.png")}
    for iteration in (0, 2, 4):
        assert f"samples/{iteration:06d}.png" in names
        assert f"samples/{iteration:06d}_ema.png" in names
    assert {"curves.png", "samples_real.png"} <= names
    saved = json.loads((finished / "config.json").read_text())
    assert saved["bits"] == 4
    assert saved["width"] == 4
    table = rows(finished)
    logged = [row for row in table if row["penalty"]]
    assert [int(row["iteration"]) for row in logged] == [2, 4]
    assert [int(row["iteration"]) for row in table if row["score"]] == [0, 2, 4]
    for row in logged:
        assert np.isfinite(float(row["loss_generator"]))
        assert int(row["bytes"]) == int(row["iteration"]) * int(
            row["bytes_per_iteration"]
        )


def test_the_same_seed_repeats_a_run_and_another_does_not(finished, tmp_path):
    def losses(workdir):
        return [row["loss_discriminator"] for row in rows(workdir)]

    again = train.train(config(tmp_path / "again"))
    assert losses(again) == losses(finished)
    other = train.train(config(tmp_path / "other", seed=1))
    assert losses(other) != losses(finished)


def test_bytes_are_those_of_two_exchanges(finished, tmp_path):
    row = next(row for row in rows(finished) if row["bytes_per_iteration"])
    exchange, _ = train.create_optimizer(TINY)
    pair = train.models.split_pair(
        *train.models.create_pair(
            TINY.model, width=4, latent=16, rngs=train.nnx.Rngs(0)
        )
    )
    traffic = exchange.traffic(pair.params, TINY.workers)
    assert int(row["bytes_per_iteration"]) == 2 * traffic.sent_bytes
    exact, _ = train.create_optimizer(dataclasses.replace(TINY, bits=32))
    assert exact.traffic(pair.params, 3).collective == "exact"


def test_workers_have_their_own_pictures_and_latents(tmp_path):
    """Metrics differ between workers and half-steps: only the weights are shared."""
    mesh = train.create_mesh(3)
    modules = train.models.create_pair(
        "dcgan", width=4, latent=16, rngs=train.nnx.Rngs(0)
    )
    pair = train.models.split_pair(*modules)
    _, optimizer = train.create_optimizer(TINY)
    step = train.create_step(TINY, pair, optimizer, mesh)
    state = qgenx.init(optimizer, pair.params, mesh, train.AXIS)
    same = np.zeros((3, 2, 2, 32, 32, 3), np.float32)
    keys = jax.random.split(jax.random.key(0), (3, 2))
    _, _, metrics = step(pair.params, state, same, keys)
    assert metrics["wasserstein"].shape == (3, 2)
    assert len(set(np.ravel(metrics["wasserstein"]).tolist())) == 6


def test_a_loss_that_is_not_finite_stops_the_run_and_names_it(tmp_path):
    with pytest.raises(FloatingPointError, match=r"not finite at iteration 2: .*loss_"):
        train.train(
            config(
                tmp_path,
                learning_rate_generator=1e30,
                learning_rate_discriminator=1e30,
            )
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 1}, r"bits must be 2 to 8, or 32 for an exact exchange, got 1"),
        ({"workers": 0}, r"workers must be at least 1, got 0"),
        ({"workers": 99}, r"workers must be at most the 8 cpu devices, got 99"),
        ({"model": "vit"}, r"model must be one of .*got 'vit'"),
        ({"b1": 1.0}, r"b1 must be in \[0, 1\), got 1.0"),
        (
            {"learning_rate_generator": -1.0},
            r"learning_rate_generator must be positive",
        ),
        ({"batch_size": 5000}, r"batch_size \* workers must be at most"),
        ({"source": "nothing.npz"}, r"source must name an existing file"),
    ],
)
def test_configurations_that_cannot_run_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train.train(config(tmp_path, **changes))


def test_a_workdir_with_a_run_is_not_overwritten(finished, tmp_path):
    with pytest.raises(ValueError, match=r"workdir must not hold a run already"):
        train.train(dataclasses.replace(TINY, workdir=str(finished)))
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"workdir must be a folder that can be written"
    ):
        train.train(dataclasses.replace(TINY, workdir=str(tmp_path / "file" / "run")))


def program(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.cifar10_gan", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_command_line_compares_runs_and_explains_mistakes(finished, tmp_path):
    figure = tmp_path / "figure.png"
    done = program("compare", str(finished), str(finished), f"--output={figure}")
    assert done.returncode == 0, done.stderr
    assert figure.stat().st_size > 1000
    for arguments, message in [
        (["compare"], "compare must be given at least one workdir"),
        (["compare", str(tmp_path)], "which has no metrics.csv"),
        (["train"], "arguments must be --field=value or compare RUN"),
        (["--bits=9"], "bits must be 2 to 8"),
        (["--nothing=1"], "Unknown command line flag 'nothing'"),
    ]:
        refused = program(*arguments)
        assert refused.returncode != 0
        assert message in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr
