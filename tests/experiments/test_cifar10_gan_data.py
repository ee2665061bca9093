"""Sources of pictures, and batches that cover an epoch once and resume exactly."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.cifar10_gan.data import Batches, load_pictures
from experiments.cifar10_gan.pictures import to_signed


def numbered(n):
    """Pictures that tell their index: all pixels of picture i hold i."""
    return np.broadcast_to(
        np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 32, 32, 3)
    ).copy()


def indices(batch):
    return np.rint((batch[..., 0, 0, 0] + 1) * 127.5).astype(int)


def test_embedded():
    train = load_pictures("embedded", "train", seed=5, size=20)
    assert train.shape == (20, 32, 32, 3)
    assert np.array_equal(train[:4], load_pictures("embedded", "train", seed=5, size=4))
    test = load_pictures("embedded", "test", seed=5, size=20)
    assert not any((train == picture).all((1, 2, 3)).any() for picture in test)


def test_array_files(tmp_path):
    pictures = numbered(6)
    np.save(tmp_path / "a.npy", pictures)
    np.savez(tmp_path / "one.npz", pictures=pictures)
    np.savez(tmp_path / "two.npz", train=pictures, test=pictures[::-1])
    for name in ("a.npy", "one.npz", "two.npz"):
        got = load_pictures(str(tmp_path / name), "train")
        assert np.array_equal(got, pictures), name
        assert len(load_pictures(str(tmp_path / name), "train", size=2)) == 2
    got = load_pictures(str(tmp_path / "two.npz"), "test")
    assert np.array_equal(got, pictures[::-1])


def test_array_file_errors(tmp_path):
    np.savez(tmp_path / "two.npz", train=numbered(3), test=numbered(3))
    np.save(tmp_path / "float.npy", numbered(3) / 2)
    np.save(tmp_path / "gray.npy", numbered(3)[..., :1])
    np.save(tmp_path / "fine.npy", numbered(3))

    def refused(name, text, split="train", **given):
        with pytest.raises(ValueError, match=text):
            load_pictures(str(tmp_path / name), split, **given)

    refused("two.npz", r"named 'val', got \['train', 'test'\]", split="val")
    refused("float.npy", "uint8 of shape .* got float64")
    refused("gray.npy", r"got uint8 of shape \(3, 32, 32, 1\)")
    refused("none.npy", "must name an existing file, got .*none.npy")
    refused("fine.npy", "at most the 3 pictures .* got 4", size=4)
    refused("fine.npy", "size must be at least 1, got 0", size=0)
    with pytest.raises(ValueError, match=r"split of embedded .* got 'val'"):
        load_pictures("embedded", "val")


def test_tfds_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"install qgenx_jax\[experiments\]"):
        load_pictures("cifar10", "train")


# TensorFlow's own modules warn while they are imported.
@pytest.mark.filterwarnings("ignore")
def test_real_cifar10():
    default = Path("~/tensorflow_datasets/cifar10").expanduser()
    if importlib.util.find_spec("tensorflow_datasets") is None or not default.is_dir():
        pytest.skip("tensorflow-datasets or its prepared cifar10 is not here")
    pictures = load_pictures("cifar10", "test", size=100)
    assert pictures.shape == (100, 32, 32, 3)
    assert 80 < pictures.mean() < 160, "natural pictures are neither black nor white"
    with pytest.raises(ValueError, match=r"one of .*'train', 'test'.* got 'val'"):
        load_pictures("cifar10", "val")
    with pytest.raises(ValueError, match="must be prepared, got no data in"):
        load_pictures("cifar10", "train", data_dir=default / "nothing")
    with pytest.raises(ValueError, match=r"source must be .* got 'no_such_set'"):
        load_pictures("no_such_set", "train")


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
    pictures = load_pictures("embedded", size=12)
    batch = next(Batches(pictures, batch_size=6, workers=2, seed=0))
    assert batch.dtype == np.float32
    assert batch.shape == (2, 6, 32, 32, 3)
    rows = {picture.tobytes() for picture in batch.reshape(12, 32, 32, 3)}
    assert rows == {picture.tobytes() for picture in to_signed(pictures)}
    other = next(Batches(pictures, batch_size=6, workers=2, seed=1))
    assert not np.array_equal(batch, other)


def test_resumes_exactly_at_every_point():
    def make():
        return Batches(numbered(20), batch_size=3, workers=2, seed=7)

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
        ({"batch_size": 1, "seed": -1}, "seed must be at least 0, got -1"),
        ({"batch_size": 1, "local_workers": [1]}, r"lie in \[0, 1\), got \[1\]"),
    ],
)
def test_batches_errors(given, text):
    with pytest.raises(ValueError, match=text):
        Batches(numbered(10), **given)


def test_restore_errors():
    batches = Batches(numbered(10), batch_size=2, seed=4)
    state = batches.state()
    for name in ("seed", "batch_size", "workers", "pictures"):
        with pytest.raises(ValueError, match=f"state must have {name}"):
            batches.restore({**state, name: 99})
    with pytest.raises(ValueError, match=r"step in \[0, 5\], got 0 and 6"):
        batches.restore({**state, "step": 6})
