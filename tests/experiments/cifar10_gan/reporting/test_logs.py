"""Metrics in CSV, TensorBoard and Weights & Biases."""

import json
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.reporting.logs import open_log
from experiments.common.tables import read_csv

COLUMNS = ["iteration", "loss", "bytes", "note"]
GRID = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


class FakeWandb(types.ModuleType):
    """Records calls as the client of Weights & Biases takes them."""

    def __init__(self, fail=""):
        super().__init__("wandb")
        self.calls = []
        self.fail = fail

    def Image(self, pixels):
        return ("image", pixels.shape)

    def init(self, **settings):
        self.calls.append(("init", settings))
        if self.fail == "init":
            raise RuntimeError("no network")
        self.id = settings["id"] or "abc"
        return self

    def log(self, values, step):
        json.dumps(values)
        self.calls.append(("log", step, values))

    def finish(self, exit_code):
        self.calls.append(("finish", exit_code))
        if self.fail == "finish":
            raise RuntimeError("no network")


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def events(folder):
    """(step, value) of each tag of all event files, pictures as (step, h, w)."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found = {}
    for path in sorted(folder.rglob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                content = make_ndarray(value.tensor)
                if content.dtype == object and content.ndim == 1 and len(content) == 3:
                    content = (int(content[1]), int(content[0]))
                elif content.ndim == 0:
                    content = content.item()
                found.setdefault(value.tag, []).append((event.step, content))
    return found


def test_the_csv_is_always_written(tmp_path, capsys):
    with open_log(tmp_path / "new", COLUMNS) as log:
        log.write(0, {"loss": 0.5, "note": "start"})
        log.write(1, {"loss": None, "bytes": 7})
        log.images(1, {"samples": GRID})
        log.flush()
    assert read_csv(tmp_path / "new" / "metrics.csv") == [
        {"iteration": "0", "loss": "0.5", "bytes": "", "note": "start"},
        {"iteration": "1", "loss": "", "bytes": "7", "note": ""},
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["metrics.csv"]
    assert capsys.readouterr().out == "", "nobody asked for more"
    log.close()


def test_tensorboard_gets_numbers_and_pictures(tmp_path):
    Image.fromarray(GRID).save(tmp_path / "grid.png")
    with open_log(tmp_path, COLUMNS, tensorboard=True, config={"bits": 4}) as log:
        # More bytes than an int32 holds, and no cell that is no number.
        log.write(1, {"loss": jnp.float32(0.5), "bytes": 2**40, "note": "start"})
        log.write(2, {"loss": np.float64(0.25), "bytes": None})
        log.images(2, {"samples": GRID, "samples_ema": tmp_path / "grid.png"})
    found = events(tmp_path / "tensorboard")
    assert found["loss"] == [(1, 0.5), (2, 0.25)]
    assert found["bytes"] == [(1, 2.0**40)]
    assert found["samples"] == [(2, (5, 4))]
    assert found["samples_ema"] == [(2, (5, 4))]
    assert "note" not in found

    def diverge():
        with open_log(tmp_path, COLUMNS, tensorboard=True, resume_at=1) as log:
            log.write(2, {"loss": 0.25})
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        diverge()
    found = events(tmp_path / "tensorboard")
    assert found["loss"] == [(1, 0.5), (2, 0.25)], "each step once"
    assert found["bytes"] == [(1, 2.0**40)]
    assert "samples" not in found, "that step came after the checkpoint"
    assert len(found["_hparams_/session_start_info"]) == 1
    rows = read_csv(tmp_path / "metrics.csv")
    assert [(row["iteration"], row["loss"]) for row in rows] == [
        ("1", "0.5"),
        ("2", "0.25"),
    ]


def test_tensorboard_goes_on_after_a_torn_event(tmp_path):
    """Of a run that was killed; what is whole stays, up to the checkpoint."""
    with open_log(tmp_path, COLUMNS, tensorboard=True) as log:
        for iteration in range(4):
            log.write(iteration, {"loss": float(iteration)})
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    for resume_at, first in ((1, 2), (-1, 0)):
        with open_log(tmp_path, COLUMNS, tensorboard=True, resume_at=resume_at) as log:
            for iteration in range(first, 5):
                log.write(iteration, {"loss": float(iteration)})
        found = events(tmp_path / "tensorboard")
        assert found["loss"] == [(step, float(step)) for step in range(5)]


@pytest.mark.parametrize("missing", ["tensorflow", "clu.metric_writers"])
def test_without_tensorflow_or_clu_one_line_says_so(
    tmp_path, monkeypatch, capsys, missing
):
    monkeypatch.setitem(sys.modules, missing, None)
    with open_log(tmp_path, COLUMNS, tensorboard=True) as log:
        log.write(1, {"loss": 0.5})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no TensorBoard events, since a package is missing (")
    assert missing in line
    assert "install qgenx_jax[experiments]" in line
    assert len(read_csv(tmp_path / "metrics.csv")) == 1


def test_weights_and_biases_get_a_run_that_resumes(tmp_path, wandb):
    config = {"bits": 4}
    with open_log(tmp_path, COLUMNS, wandb_project="gan", config=config) as log:
        log.write(0, {"loss": np.float32(0.5), "note": "start"})
        log.images(0, {"samples": GRID})
        log.flush()
    (_, settings), *calls = wandb.calls
    assert settings == {
        "project": "gan",
        "dir": str(tmp_path),
        "config": config,
        "id": None,
        "resume": None,
    }
    assert calls == [
        ("log", 0, {"loss": 0.5}),
        ("log", 0, {"samples": ("image", (5, 4, 3))}),
        ("finish", 0),
    ]
    wandb.calls.clear()
    with (
        pytest.raises(KeyboardInterrupt),
        open_log(tmp_path, COLUMNS, wandb_project="gan", resume_at=0),
    ):
        raise KeyboardInterrupt
    assert (wandb.calls[0][1]["id"], wandb.calls[0][1]["resume"]) == ("abc", "allow")
    assert wandb.calls[-1] == ("finish", 1), "a run that failed says so"
    wandb.calls.clear()
    with open_log(tmp_path, COLUMNS, wandb_project="gan", resume_at=-1) as log:
        log.images(0, {"samples": GRID})
        log.write(0, {"loss": 0.5})
        log.write(1, {"loss": 0.25})
    logged = [call for call in wandb.calls if call[0] == "log"]
    assert logged == [("log", 1, {"loss": 0.25})], "it has iteration 0 already"
    wandb.calls.clear()
    (tmp_path / "wandb_id").write_text("abc\n")  # as older runs have it
    with open_log(tmp_path, COLUMNS, wandb_project="gan", resume_at=0) as log:
        log.write(1, {"loss": 0.25})
    assert wandb.calls[0][1]["id"] == "abc"
    assert ("log", 1, {"loss": 0.25}) in wandb.calls


def test_who_is_not_logged_in_is_told_what_to_do(tmp_path, wandb):
    wandb.fail, wandb.Error = "init", RuntimeError  # as wandb names its errors
    with pytest.raises(ValueError, match=r"'gan' \(no network\); set WANDB_MODE=offl"):
        open_log(tmp_path, COLUMNS, wandb_project="gan")


@pytest.mark.parametrize("moment", ["init", "finish"])
def test_a_mirror_that_fails_leaves_no_file_open(tmp_path, wandb, moment):
    wandb.fail = moment

    def run():
        with open_log(tmp_path, COLUMNS, wandb_project="gan") as log:
            log.write(0, {"loss": 1.0})

    with pytest.raises(RuntimeError, match="no network"):
        run()
    # An open file would warn when it is collected, and warnings are errors here.
    rows = read_csv(tmp_path / "metrics.csv")
    assert len(rows) == (moment == "finish")


def test_logs_refuse_what_they_cannot_write(tmp_path, monkeypatch, wandb):
    with pytest.raises(ValueError, match=r"must include 'iteration', got \['loss'\]"):
        open_log(tmp_path, ["loss"])
    with open_log(tmp_path, COLUMNS, wandb_project="gan") as log:
        with pytest.raises(ValueError, match=r"got also \['slope'\]"):
            log.write(1, {"slope": 1.0})
        with pytest.raises(ValueError, match=r"'samples' with float64 \(5, 4, 3\)"):
            log.images(1, {"samples": GRID / 255})
    assert [call[0] for call in wandb.calls] == ["init", "finish"]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"'gan' needs .*pip install wandb, or leave"):
        open_log(tmp_path / "new", COLUMNS, wandb_project="gan")
    assert not (tmp_path / "new").exists(), "refused before anything is written"
