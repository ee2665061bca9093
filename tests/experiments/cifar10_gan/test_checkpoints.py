"""Checkpoints that are damaged, edited, or not the same everywhere."""

import dataclasses
import errno
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.cifar10_gan import digests, run, train
from experiments.cifar10_gan.checkpoints import Checkpoints, Unreadable
from experiments.cifar10_gan.resuming import recorded
from experiments.faults.runs import rows
from tests.lib.helpers import plainly_compiled
from tests.lib.tiny_runs import TINY, preparing_once


@pytest.fixture(scope="module", autouse=True)
def _prepare_once(tmp_path_factory):
    with preparing_once(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run, whose checkpoints are copied and damaged."""
    workdir = str(tmp_path_factory.mktemp("first") / "run")
    return train.train(dataclasses.replace(TINY, workdir=workdir))


def damage(checkpoint):
    """Cuts off the files with its arrays."""
    for path in checkpoint.rglob("*"):
        if path.is_file() and "arrays" in str(path) and path.stat().st_size > 200:
            path.write_bytes(path.read_bytes()[:50])


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    finished, tmp_path, capsys
):
    """It is set aside; where none is good all stay, and the run does not start anew."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    damage(workdir / "checkpoints" / "4")
    settings = dataclasses.replace(TINY, workdir=str(workdir))
    train.train(settings, resume=True)
    told = capsys.readouterr()
    assert "checkpoint 4 must be complete and of this configuration" in told.err
    assert "going back to checkpoint 2" in told.err
    assert "going on from iteration 2" in told.out
    assert rows(workdir) == rows(finished)
    assert (workdir / "damaged" / "4").is_dir()
    for iteration in (2, 4):
        damage(workdir / "checkpoints" / str(iteration))
    with pytest.raises(ValueError, match=r"checkpoint 4 must be complete .* from 2"):
        train.train(settings, resume=True)
    assert (workdir / "checkpoints" / "4").is_dir()


@pytest.mark.parametrize("where", ["facts", "arrays"])
def test_an_error_of_the_disk_is_no_damage(finished, tmp_path, where, monkeypatch):
    """It ends the run with the file's name, and nothing is moved."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    last = workdir / "checkpoints" / "4"
    if where == "facts":  # a file that the kernel itself answers so for
        (path,) = (last / "facts").glob("metadata")
        path.unlink()
        path.symlink_to("/proc/self/mem")
    else:  # TensorStore reads these, and tells of it in words
        path = last / "arrays" / "d" / "0"
        text = (
            f'UNKNOWN: Error reading local file "{path}": Failed to read: "{path}": '
            "Input/output error [os_error_code='5']"
        )

        def restore(*_, **__):
            raise ValueError("Failed to restore") from ValueError(text)

        monkeypatch.setattr(ocp.CheckpointManager, "restore", restore)
    settings = dataclasses.replace(TINY, workdir=str(workdir))
    match = "checkpoint 4 must be readable, got 'Input/output error' from the disk"
    with pytest.raises(Unreadable, match=match) as error:
        train.train(settings, resume=True)
    assert error.value.errno == errno.EIO
    named = str(error.value.filename)
    assert str(last if where == "facts" else path) in named
    assert not (workdir / "damaged").exists()
    assert last.is_dir()


def test_no_flipped_bit_gives_a_wrong_value(finished):
    """Few here, in a process of their own: what reads damage leaves much behind."""
    command = [sys.executable, "-m", "experiments.faults", "flip_bits", "--flips=30"]
    done = subprocess.run(
        [*command, f"--workdir={finished}"],
        env=plainly_compiled(JAX_PLATFORMS="cpu"),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 flips: no wrong value was loaded" in done.stdout


def test_digits_that_change_in_what_a_checkpoint_says_are_noticed(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    (path,) = (workdir / "checkpoints" / "4" / "facts").glob("metadata")
    text = path.read_text()
    path.write_text(text.replace('"sent_bytes": ', '"sent_bytes": 1', 1))
    assert path.read_text() != text
    ready = run.Run(dataclasses.replace(TINY, workdir=str(workdir)))
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        with pytest.raises(ValueError, match="got facts that are not those saved"):
            ready.restore(checkpoints, 4)
        ready.restore(checkpoints, 2)


def test_an_edited_configuration_is_noticed(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    settings = dataclasses.replace(TINY, workdir=str(workdir), penalty_weight=1.0)
    path = workdir / "config.json"
    path.write_text(json.dumps(recorded(settings)))
    with pytest.raises(
        ValueError, match=r"penalty_weight must be 10.0 as in checkpoint 4, got 1.0"
    ):
        train.train(settings, resume=True)


def test_replicas_are_compared(finished, tmp_path):
    """A copy of one of the devices is another one; without it nothing is wrong."""
    where = {"workdir": str(tmp_path / "run"), "iterations": 2}
    settings = dataclasses.replace(TINY, check_replicas_every=1, **where)
    train.train(settings)
    assert rows(tmp_path / "run")[1] == rows(finished)[1]
    ready = run.Run(settings)
    train.check_replicas(ready)
    leaves, treedef = jax.tree.flatten(ready.training.params)
    copies = [np.array(shard.data) for shard in leaves[0].addressable_shards]
    copies[1].ravel()[0] += 1
    shards = zip(copies, leaves[0].addressable_shards, strict=True)
    leaves[0] = jax.make_array_from_single_device_arrays(
        leaves[0].shape,
        leaves[0].sharding,
        [jax.device_put(copy, shard.device) for copy, shard in shards],
    )
    params = jax.tree.unflatten(treedef, leaves)
    ready.training = ready.training._replace(params=params)
    with pytest.raises(ValueError, match="must be equal wherever there is a copy"):
        train.check_replicas(ready)


@pytest.mark.parametrize("cut", [("data",), ("data", "model"), ()])
def test_a_digest_does_not_hang_on_where_the_rows_are(cut):
    """Of an array that is cut, the sum over shards, each once; of one bit, another."""
    x = np.arange(48, dtype="float32").reshape(8, 6)
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(cut or None))
    whole = digests._of_rows(x, 0, x.shape)
    assert digests._of_shards(jax.device_put(x, where)) == whole
    x[5, 3] = np.nextafter(x[5, 3], np.inf)
    assert digests._of_shards(jax.device_put(x, where)) != whole
