"""Batches cover an epoch once, are shared out to workers, and resume exactly."""

import itertools
import json

import numpy as np
import pytest

from experiments.cifar10_gan.data import batches as room
from experiments.cifar10_gan.data.batches import Batches
from experiments.cifar10_gan.data.pictures import draw_pictures, to_signed
from tests.lib.numbered_pictures import indices, numbered


def test_an_epoch_is_a_permutation_shared_out_to_workers():
    batches = Batches(numbered(26), batch_size=4, workers=3, seed=1)
    assert batches.steps_per_epoch == 2
    epochs = []
    for _ in range(3):
        taken = [indices(next(batches)) for _ in range(2)]
        assert all(batch.shape == (3, 4) for batch in taken)
        flat = np.concatenate(taken).ravel()
        assert len(set(flat.tolist())) == 24, "no example twice in an epoch"
        epochs.append(flat)
    assert not np.array_equal(epochs[0], epochs[1]), "each epoch has its own order"
    left_out = [set(range(26)) - set(epoch.tolist()) for epoch in epochs]
    assert len(set.union(*left_out)) > 2, "not always the same examples are left out"


def test_values_and_seeds():
    pictures = draw_pictures(12, seed=0)
    batch = next(Batches(pictures, batch_size=6, workers=2, seed=0))
    assert batch.dtype == np.float32
    assert batch.shape == (2, 6, 32, 32, 3)
    rows = {picture.tobytes() for picture in batch.reshape(12, 32, 32, 3)}
    assert rows == {picture.tobytes() for picture in to_signed(pictures)}
    other = next(Batches(pictures, batch_size=6, workers=2, seed=1))
    assert not np.array_equal(batch, other)


def make(**changes):
    given = {"batch_size": 3, "workers": 2, "seed": 7}
    return Batches(numbered(20), **{**given, **changes})


def test_resumes_exactly_at_every_point():
    whole = make()
    states, batches = [], []
    for _ in range(8):  # two epochs of three batches and a bit
        states.append(json.loads(json.dumps(whole.state())))
        batches.append(next(whole))
    for start, state in enumerate(states):
        resumed = make()
        resumed.restore(state)
        for expected in batches[start:]:
            assert np.array_equal(next(resumed), expected), f"resumed at {start}"


def test_draws_are_the_batches_that_follow_each_other():
    single, double = make(), make(draws=2)
    for iteration in range(5):  # three batches an epoch: some draws cross its end
        expected = np.stack([next(single), next(single)], axis=1)
        got = next(double)
        assert got.shape == (2, 2, 3, 32, 32, 3)
        assert np.array_equal(got, expected), f"iteration {iteration}"
        assert double.state() == single.state(), "an iteration is two batches further"
    # a saved position says nothing of draws: the run may go on with another number
    triple = make(draws=3)
    triple.restore(double.state())
    expected = np.stack(list(itertools.islice(single, 3)), axis=1)
    assert np.array_equal(next(triple), expected)


def test_one_draw_has_its_axis_and_none_has_not():
    assert next(make(draws=1)).shape == (2, 1, 3, 32, 32, 3)
    assert next(make()).shape == (2, 3, 32, 32, 3)


def test_an_interrupted_call_leaves_the_position(monkeypatch):
    batches, expected = make(draws=2), make(draws=2)
    next(batches), next(expected)
    before = batches.state()

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(room, "to_signed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(batches)  # its two draws lie in two epochs
    assert batches.state() == before
    assert np.array_equal(next(batches), next(expected))


def test_local_workers_see_their_share_of_the_same_batches():
    given = {"batch_size": 2, "workers": 4, "seed": 3}
    whole = next(Batches(numbered(20), **given))
    for local in ([0, 1], [3], [2, 0]):
        part = next(Batches(numbered(20), local_workers=local, **given))
        assert np.array_equal(part, whole[local])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"batch_size": 3, "workers": 4}, r"got 3 \* 4 = 12 > 10; lower batch_size"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 1, "workers": 0}, "workers must be at least 1, got 0"),
        ({"batch_size": 1, "draws": 0}, "draws must be at least 1, got 0"),
        ({"batch_size": 1, "seed": -1}, "seed must be at least 0, got -1"),
        ({"batch_size": 1, "local_workers": [1]}, r"lie in \[0, 1\), got \[1\]"),
    ],
)
def test_batches_errors(given, text):
    with pytest.raises(ValueError, match=text):
        Batches(numbered(10), **given)


def test_pictures_are_checked():
    for wrong in (numbered(3)[..., :1], numbered(3) / 2, numbered(3)[:0]):
        with pytest.raises(
            ValueError, match=r"pictures must hold uint8 .* with n >= 1"
        ):
            Batches(wrong, batch_size=1)


def test_restore_errors():
    batches = Batches(numbered(10), batch_size=2, seed=4)
    next(batches)
    state = batches.state()
    for name in ("seed", "batch_size", "pictures"):
        with pytest.raises(ValueError, match=f"state must have {name}"):
            batches.restore({**state, name: 99})
    with pytest.raises(ValueError, match=r"step in \[0, 5\], got 1, 0 and 6"):
        batches.restore({**state, "step": 6})
    with pytest.raises(ValueError, match=r"workers >= 1, .* got 0, 0 and 1"):
        batches.restore({**state, "workers": 0})
    with pytest.raises(ValueError, match=r"must have the entries .*'epoch'.* got \[\]"):
        batches.restore({})
    assert batches.state() == state, "a refused position changes nothing"
