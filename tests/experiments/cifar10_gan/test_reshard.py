"""A run of four workers goes on with two."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.cifar10_gan import run, train
from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.data import batches
from experiments.cifar10_gan.data.pictures import draw_pictures, to_signed
from experiments.faults.runs import rows
from tests.lib.tiny_runs import TINY

pytestmark = pytest.mark.usefixtures("compiled_plainly")

FOUR = dataclasses.replace(
    TINY,
    workers=4,
    optimizer="optimistic",
    iterations=3,
    log_every=1,
    score_every=10,
    checkpoint_every=10,
)


@pytest.mark.parametrize("devices", ["vmap", "simulated"])
def test_a_run_goes_on_with_fewer_workers(tmp_path, devices, monkeypatch, capsys):
    pictures = draw_pictures(20, seed=0)
    source = str(tmp_path / "pictures.npz")
    np.savez(source, train=pictures, test=pictures)
    four = dataclasses.replace(
        FOUR, devices=devices, source=source, workdir=str(tmp_path / "run")
    )
    workdir = train.train(four)
    two = dataclasses.replace(four, workers=2, iterations=4)
    with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
        before, after = run.Run(four), run.Run(two)
        for each in (before, after):
            each.restore(checkpoints, 3)
    own = before.training.state.inner.per_worker
    assert all(leaf.shape[0] == 4 for leaf in jax.tree.leaves(own))
    taken_over = after.training.state.inner.per_worker
    for old, new in zip(*map(jax.tree.leaves, (own, taken_over)), strict=True):
        np.testing.assert_array_equal(new, np.zeros((2, *old.shape[1:])))
    for old, new in zip(
        jax.tree.leaves((before.training.params, before.training.averages)),
        jax.tree.leaves((after.training.params, after.training.averages)),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)
    # 20 pictures are two steps of 4 x 2 and a remainder of 4, so iteration 3 took the
    # first 8 of epoch 1; the two go on with the next 4
    order = np.random.default_rng([0, 1]).permutation(20)
    expected = to_signed(pictures[order[8:12].reshape(2, 1, 2)])
    np.testing.assert_array_equal(next(after.batches), expected)
    capsys.readouterr()
    train.train(two, resume=True)
    assert "going on from iteration 3 of 4 workers" in capsys.readouterr().out
    assert json.loads((workdir / "config.json").read_text())["workers"] == 2
    table = rows(workdir)
    each = [int(row["bytes_per_iteration"]) for row in table[1:]]
    assert each[0] == each[2] == 3 * each[3], "(K - 1) payloads each"
    assert [int(row["bytes"]) for row in table[1:]] == np.cumsum(each).tolist()


def test_batches_of_another_number_of_workers_repeat_no_picture():
    """Step t of K workers is step ceil(t K / K') of K', and at most the epoch's end."""
    pictures = np.zeros((26, 32, 32, 3), np.uint8)
    for before, step, after, expected in [
        (4, 3, 2, 6),
        (2, 3, 4, 2),
        (3, 4, 2, 6),
        (2, 6, 5, 2),
        (1, 13, 4, 3),
    ]:
        old = batches.Batches(pictures, batch_size=2, workers=before)
        position: batches.Position = {**old.state(), "step": step}
        new = batches.Batches(pictures, batch_size=2, workers=after)
        new.restore(position)
        assert (new.state()["epoch"], new.state()["step"]) == (0, expected)
