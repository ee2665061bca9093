"""Weights & Biases itself, offline: what a run leaves for `wandb sync`."""

import json
import struct

import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.reporting.logs import open_log

COLUMNS = ["iteration", "loss", "score"]
GRID = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
BLOCK = 32768
HEADER = 7
"""Bytes at the beginning of the file, and of each piece of a record."""


def records(path):
    """Records of a .wandb file: LevelDB's log of pieces (crc, size, kind, bytes)."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:  # too small for a piece
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEADER])
        whole += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (1, 4):  # all of it, or its last piece
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def told(path):
    """(run, rows by step, whether the system is told) of a file."""
    run, rows, system = None, {}, False
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
        elif kind == "stats":
            system = system or any(item.key == "cpu" for item in record.stats.item)
        elif kind == "history":
            row = {
                ".".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            assert row["_step"] not in rows, "a step comes once"
            rows[row["_step"]] = row
    return run, rows, system


@pytest.fixture
def offline(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.1")
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))


@pytest.mark.filterwarnings("default")
def test_a_resumed_run_is_the_same_one(tmp_path, offline):
    workdir, config = tmp_path / "run", {"bits": 4, "optimizer": "extra_adam"}
    settings = {"wandb_project": "gan", "config": config}
    with open_log(workdir, COLUMNS, **settings) as log:
        log.images(0, {"samples": GRID})
        log.write(0, {"score": 0.5})
        for iteration in (1, 2, 3):  # 3 comes after the checkpoint
            log.write(iteration, {"loss": iteration / 4})
    with open_log(workdir, COLUMNS, **settings, resume_at=2) as log:
        log.write(3, {"loss": 0.75})
        log.images(4, {"samples": GRID})
        log.write(4, {"loss": 1.0, "score": 0.25})
    files = sorted((workdir / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    (first, before, system), (second, after, _) = map(told, files)
    assert first.run_id == second.run_id
    assert first.project == second.project == "gan"
    for run in (first, second):
        found = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert {name: found[name] for name in config} == config
    assert system, "cores, memory and the like"
    assert [before[i]["loss"] for i in (1, 2, 3)] == [0.25, 0.5, 0.75]
    assert before[0]["score"] == 0.5
    assert sorted(after) == [4], "3 is there already"
    assert (after[4]["loss"], after[4]["score"]) == (1.0, 0.25)
    for file, rows, step in zip(files, (before, after), (0, 4), strict=True):
        assert rows[step]["samples._type"] == "image-file"
        picture = file.parent / "files" / rows[step]["samples.path"]
        assert (np.asarray(Image.open(picture).convert("RGB")) == GRID).all()
