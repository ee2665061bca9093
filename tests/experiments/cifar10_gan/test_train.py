"""The main job end to end on tiny pictures: what it writes, repeats and refuses."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan import place, run, step, train
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.reporting import observer
from experiments.cifar10_gan.resuming import recorded
from experiments.faults.kills import kills
from experiments.faults.runs import rows
from tests.lib.helpers import assert_trees_identical
from tests.lib.tiny_runs import TINY, last_checkpoint, preparing_once


def config(tmp_path, **changes):
    return dataclasses.replace(TINY, workdir=str(tmp_path / "run"), **changes)


@pytest.fixture(scope="module", autouse=True)
def _prepare_once(tmp_path_factory):
    with preparing_once(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run with the defaults of the quick start, made tiny."""
    return train.train(config(tmp_path_factory.mktemp("first")))


def test_a_run_leaves_metrics_samples_curves_and_its_configuration(finished):
    names = {str(p.relative_to(finished)) for p in finished.rglob("*.png")}
    assert {name for name in names if name.startswith("samples/")} == {
        "samples/000000.png",  # its averages are of the same weights
        *(f"samples/00000{n}{s}.png" for n in (2, 4) for s in ("", "_average", "_ema")),
    }
    assert {name for name in names if name.startswith("frames/")} == {
        f"frames/00000{n}.png" for n in (0, 2, 4)
    }
    shown = {"curves.png", "interpolations.png", "neighbours.png", "samples_real.png"}
    assert shown <= names
    with Image.open(finished / "training.gif") as gif:
        assert gif.n_frames == 3, "the last one is also that of the end"
    saved = json.loads((finished / "config.json").read_text())
    assert saved == recorded(dataclasses.replace(TINY, workdir=str(finished)))
    table = rows(finished)
    assert list(table[0]) == list(observer.COLUMNS)
    assert [int(row["iteration"]) for row in table] == [0, 2, 4]
    assert all(float(row[n]) > 0 for row in table for n in ("score", "score_average"))
    for row in table[1:]:
        empty = [name for name, cell in row.items() if not cell]
        judged = [n for n in table[0] if n.startswith(("frechet", "kid"))]
        apart = ["seconds", "seconds_in_all", "gamma", "predicted_error", *judged]
        assert empty == apart, "nothing adapts, no network judges"
        assert int(row["bytes"]) == int(row["iteration"]) * int(
            row["bytes_per_iteration"]
        )
        assert 0.01 < float(row["quantization_error"]) < 0.5, "of 4 bits"


def test_errors_of_a_worker_and_of_the_mean_of_three(finished):
    for row in rows(finished)[1:]:
        own, mean = float(row["quantization_error"]), float(row["mean_error"])
        assert 0.2 * own < mean < 2 * own


def test_a_stopped_and_resumed_run_is_the_undisturbed_one(
    finished, tmp_path, monkeypatch, capsys
):
    """SIGTERM during iteration 3, between checkpoints; all bits and all rows equal."""
    settings = config(tmp_path)
    advance = run.Run.__init__

    def interrupted(self, config):
        advance(self, config)
        inner = self.step

        def stepping(training, pictures, iteration, measured):
            if int(np.asarray(iteration)[0]) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return inner(training, pictures, iteration, measured)

        self.step = stepping

    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "__init__", interrupted)
        workdir = train.train(settings)
    assert "stopped after iteration 3 and saved it" in capsys.readouterr().out
    assert not (workdir / "curves.png").exists()
    assert not (workdir / "training.gif").exists()
    assert last_checkpoint(workdir)[0] == 3
    # a run that was killed later than its last checkpoint leaves later rows
    with (workdir / "metrics.csv").open("a") as file:
        file.write("4,1.0,0.5\n5,1.")
    train.train(settings, resume=True)
    assert "going on from iteration 3" in capsys.readouterr().out
    (last, actual), (_, expected) = map(last_checkpoint, (workdir, finished))
    assert last == 4
    assert_trees_identical(actual, expected, "resumed against undisturbed")
    assert rows(workdir) == rows(finished)
    for name in ("training.gif", "interpolations.png", "frames/000002.png"):
        assert (workdir / name).read_bytes() == (finished / name).read_bytes()


def test_a_finished_run_can_be_made_longer(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    longer = dataclasses.replace(TINY, workdir=str(workdir), iterations=6)
    train.train(longer, resume=True)
    assert [int(row["iteration"]) for row in rows(workdir)] == [0, 2, 4, 6]
    assert rows(workdir)[:3] == rows(finished)
    assert json.loads((workdir / "config.json").read_text())["iterations"] == 6


def test_updates_ahead_decay_and_bfloat16_resume_to_the_bit(tmp_path):
    """Two iterations of four, then the others, in which the rate has begun to fall."""
    settings = config(
        tmp_path,
        dtype="bfloat16",
        optimizer="adam",
        n_critic=2,
        decay="linear",
        decay_iterations=3,
    )
    whole = train.train(
        dataclasses.replace(settings, workdir=str(tmp_path / "whole"), score_every=4)
    )
    part = dataclasses.replace(settings, score_every=4)
    train.train(dataclasses.replace(part, iterations=2))
    train.train(part, resume=True)
    ends = [last_checkpoint(path) for path in (whole, tmp_path / "run")]
    assert [iteration for iteration, _ in ends] == [4, 4]
    assert_trees_identical(ends[1][1], ends[0][1], "resumed against undisturbed")
    table = rows(whole)
    assert np.isfinite([float(row["loss_discriminator"]) for row in table[1:]]).all()
    for row in table[1:]:
        assert int(row["bytes"]) == int(row["iteration"]) * int(
            row["bytes_per_iteration"]
        )


def test_killed_at_a_random_moment(tmp_path):
    """Once here; `python -m experiments.faults kills` does it as often as asked."""
    (kill,) = kills(tmp_path, times=1, iterations=40, processes=1, seed=5)
    assert not kill.problem


def test_another_seed_is_another_run():
    """Other weights, other batches, other keys."""
    mine, theirs = (run.Run(dataclasses.replace(TINY, seed=seed)) for seed in (0, 1))
    for a, b in zip(
        *map(jax.tree.leaves, (mine.pair.params, theirs.pair.params)), strict=True
    ):
        assert (a != b).any() or (a == a.ravel()[0]).all(), "kernels are equal"
    assert (next(mine.batches) != next(theirs.batches)).any()


def test_workers_have_their_own_pictures_and_latents():
    """Metrics differ between workers and calls, though the pictures are the same."""
    ready = run.Run(TINY)
    inputs = (
        np.zeros((3, 2, 2, 32, 32, 3), np.float32),
        np.full(3, 1),
        np.full(3, True),
    )
    _, metrics = ready.step(ready.training, *map(ready.place.place_batch, inputs))
    assert metrics["wasserstein"].shape == (3, 2)
    assert len(set(np.ravel(metrics["wasserstein"]).tolist())) == 6


def test_a_loss_that_is_not_finite_stops_the_run_and_names_it(
    finished, tmp_path, monkeypatch
):
    workdir = shutil.copytree(finished, tmp_path / "run")
    settings = dataclasses.replace(
        TINY, workdir=str(workdir), iterations=8, log_every=8, checkpoint_every=2
    )

    def diverge(metrics, training):
        return {"loss_generator": np.nan, "penalty": np.float32(1)}

    monkeypatch.setattr(step, "summarize", diverge)
    with pytest.raises(
        FloatingPointError, match=r"not finite at iteration 6: {'loss_generator': nan}"
    ):
        train.train(settings, resume=True)
    last, _ = last_checkpoint(workdir)
    assert last == 4, "a run that had diverged was kept"


def test_weights_and_biases_have_to_be_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"wandb_project 'project' needs"):
        train.train(config(tmp_path, wandb="project"))
    assert not (tmp_path / "run" / "config.json").exists(), "nothing has started"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2**32}, r"seed must be below 2\^32"),
        ({"bits": 0}, r"bits must be 1 to 8, or 32 for an exact exchange, got 0"),
        ({"workers": 0}, r"workers must be at least 1, got 0"),
        ({"model": "vit"}, r"model must be one of .*got 'vit'"),
        ({"optimizer": "lion"}, r"optimizer must be one of .*got 'lion'"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"leak": -0.1}, r"leak must be at least 0, got -0.1"),
        ({"weight_decay": -0.1}, r"weight_decay must be at least 0, got -0.1"),
        ({"weight_decay": float("inf")}, r"weight_decay must be finite, got inf"),
        ({"b1": 1.0}, r"b1 must be in \[0, 1\), got 1.0"),
        ({"n_critic": 0}, r"n_critic must be at least 1, got 0"),
        ({"optimizer": "optimistic", "n_critic": 5}, r"n_critic must be 1 for optimis"),
        ({"decay": "step"}, r"decay must be one of .*got 'step'"),
        ({"decay_iterations": 0}, r"decay_iterations must be at least 1, got 0"),
        ({"decay_to": 1.5}, r"decay_to must be in \[0, 1\], got 1.5"),
        ({"dtype": "float16"}, r"dtype must be one of .*got 'float16'"),
        ({"gamma0_generator": 0.0}, r"gamma0_generator must be positive and fi"),
        ({"family": "min_max", "norm": "2"}, r"norm must be left at inf"),
        ({"family": "exponential", "bits": 1}, r"must be at least 2, got 1"),
        ({"collective": "exact"}, r"collective must be one of .*got 'exact'"),
        (
            {"collective": "auto", "bits": 32},
            r"collective must be left out for an exact",
        ),
        ({"processes": 3}, r"coordinator must be given for 3 processes"),
        ({"process": 1}, r"process must be in \[0, 1\), got 1"),
        (
            {"processes": 2, "coordinator": "localhost:1"},
            r"workers must be a multiple of the 2 processes, got 3",
        ),
        ({"batch_size": 5000}, r"batch_size \* workers must be at most"),
        ({"source": "nothing.npz"}, r"nothing\.npz"),
    ],
)
def test_configurations_that_cannot_run_are_refused(tmp_path, changes, message):
    with pytest.raises((ValueError, ImportError), match=message):
        train.train(config(tmp_path, **changes))
    assert not (tmp_path / "run" / "config.json").exists(), "it would block the next"


def test_workdirs_that_cannot_be_used_are_refused(finished, tmp_path):
    theirs = dataclasses.replace(TINY, workdir=str(finished))
    with pytest.raises(ValueError, match=r"go on with it by --resume"):
        train.train(theirs)
    with pytest.raises(ValueError, match=r"width must be 4 as in the run to resume"):
        train.train(dataclasses.replace(theirs, width=8), resume=True)
    less = dataclasses.replace(theirs, iterations=2)
    with pytest.raises(ValueError, match=r"iterations must be at least the 4 that are"):
        train.train(less, resume=True)
    assert json.loads((finished / "config.json").read_text())["iterations"] == 4
    bare = shutil.copytree(finished, tmp_path / "bare")
    (bare / "config.json").unlink()
    with pytest.raises(ValueError, match=r"workdir must not hold a run already"):
        train.train(dataclasses.replace(TINY, workdir=str(bare)))
    with pytest.raises(ValueError, match=r"workdir must hold a run to resume"):
        train.train(config(tmp_path), resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"workdir must be a folder that can be written"
    ):
        train.train(dataclasses.replace(TINY, workdir=str(tmp_path / "file" / "run")))


def test_workers_share_devices_where_they_are_more():
    """16 workers on the 8 simulated devices, two on each."""
    shared = place.create_place(dataclasses.replace(TINY, workers=16))
    assert shared.axis_name == (place.AXIS, place.LANE)
    assert (shared.mesh.size, shared.workers) == (8, 16)
    assert shared.local_workers(16) == list(range(16))
    uneven = place.create_place(dataclasses.replace(TINY, workers=12))
    assert uneven.mesh.size == 4, "the most devices that share 12 workers evenly"
    lanes = place.create_place(dataclasses.replace(TINY, workers=5, devices="vmap"))
    assert (lanes.mesh, lanes.workers) == (None, 5)
    alone = place.create_place(dataclasses.replace(TINY, workers=3))
    assert (alone.mesh.size, alone.workers) == (3, None)


def test_bytes_are_those_of_the_exchanges(finished):
    row = rows(finished)[1]
    modules = models.create_pair("dcgan", width=4, latent=16, rngs=run.nnx.Rngs(0))
    params = models.split_pair(*modules).params
    leaves = jax.tree.leaves(params)
    is_small = [leaf.ndim < 2 or leaf.size < 1024 for leaf in leaves]
    exact = 4 * sum(x.size for x, small in zip(leaves, is_small, strict=True) if small)
    rest = sum(x.size for x, small in zip(leaves, is_small, strict=True) if not small)
    # a record of 1,024 codes of 4 bits and a norm for each bucket, the last one shorter
    full, last = divmod(rest, 1024)
    payload = exact + full * (512 + 4) + (-(-last // 2) + 4 if last else 0)
    assert int(row["bytes_per_iteration"]) == 2 * (TINY.workers - 1) * payload
    total = exact // 4 + rest
    assert float(row["bits_per_coordinate"]) == round(8 * payload / total, 4)


MISTAKES = [
    (["compare"], "compare must be given at least one"),
    (["train"], "arguments must be --field=value, compare RUN"),
    (["--preset=huge"], "preset must be one of ('quickstart', 'cifar10_small'"),
    (["--nothing=1"], "Unknown command line flag 'nothing'"),
    (["--resume", "--preset=paper"], "preset must be left out with resume"),
]
# Imports once what takes seconds, then is the program for each list of arguments in a
# process of its own, and prints how each ended.
PROGRAMS = """
import json, os, runpy, sys
from experiments.cifar10_gan import config
from experiments.cifar10_gan.reporting import compare
for index, arguments in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(f"{sys.argv[2]}/{index}", os.O_CREAT | os.O_WRONLY), 2)
        sys.argv[1:] = arguments
        runpy.run_module("experiments.cifar10_gan", run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def finished_process(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_explained(code, errors, message):
    assert code != 0
    assert message in errors, errors
    assert "Traceback" not in errors


def test_command_line_explains_mistakes(tmp_path):
    lists = json.dumps([arguments for arguments, _ in MISTAKES])
    done = finished_process("-c", PROGRAMS, lists, str(tmp_path))
    assert done.returncode == 0, done.stderr
    codes = [int(line) for line in done.stdout.splitlines()]
    for index, (code, (_, message)) in enumerate(zip(codes, MISTAKES, strict=True)):
        assert_explained(code, (tmp_path / str(index)).read_text(), message)
    refused = finished_process("-m", "experiments.cifar10_gan", "--bits=9")
    assert_explained(refused.returncode, refused.stderr, "bits must be 1 to 8")
