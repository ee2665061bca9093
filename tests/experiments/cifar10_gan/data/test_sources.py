"""What a source's name means: embedded, an array file, a folder, a data set."""

import sys

import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.data.sources import load_pictures
from tests.lib.numbered_pictures import numbered


def test_embedded():
    train = load_pictures("embedded", "train", seed=5, size=20)
    assert train.shape == (20, 32, 32, 3)
    assert np.array_equal(train[:4], load_pictures("embedded", "train", seed=5, size=4))
    test = load_pictures("embedded", "test", seed=5, size=20)
    assert not any((train == picture).all((1, 2, 3)).any() for picture in test)


def test_array_files_with_splits(tmp_path):
    pictures = numbered(6)
    path = str(tmp_path / "two.npz")
    np.savez(path, train=pictures, test=pictures[::-1])
    assert np.array_equal(load_pictures(path, "train"), pictures)
    assert np.array_equal(load_pictures(path, "test"), pictures[::-1])
    assert np.array_equal(load_pictures(path, "train", size=2), pictures[:2])
    np.savez(path, train=pictures, validation=pictures[:3], labels=np.arange(6))
    assert np.array_equal(load_pictures(path, "test"), pictures[:3])
    assert np.array_equal(load_pictures(path, "train"), pictures)


def test_one_array_holds_every_tenth_out(tmp_path):
    pictures = numbered(12)
    np.save(tmp_path / "a.npy", pictures)
    np.savez(tmp_path / "nameless.npz", pictures)
    np.savez(tmp_path / "named.npz", images=pictures)
    np.savez(tmp_path / "train.npz", train=pictures)
    for name in ("a.npy", "nameless.npz", "named.npz", "train.npz"):
        train = load_pictures(str(tmp_path / name), "train")
        test = load_pictures(str(tmp_path / name), "test")
        assert np.array_equal(test, pictures[[0, 10]]), name
        assert np.array_equal(train, pictures[[*range(1, 10), 11]]), name


def test_array_file_errors(tmp_path):
    np.savez(tmp_path / "two.npz", train=numbered(3), test=numbered(3))
    np.savez(tmp_path / "other.npz", x_train=numbered(3), y_train=np.arange(3))
    np.save(tmp_path / "float.npy", numbered(3) / 2)
    np.save(tmp_path / "gray.npy", numbered(3)[..., :1])
    np.save(tmp_path / "fine.npy", numbered(3))
    np.save(tmp_path / "objects.npy", np.array([None, "x"]), allow_pickle=True)
    whole = (tmp_path / "two.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "fine.npy").read_bytes()[:5000])
    (tmp_path / "empty.npz").write_bytes(b"")
    at = whole.index(b"train.npy") + 500  # in the pixels
    (tmp_path / "bits.npz").write_bytes(whole[:at] + b"oops" + whole[at + 4 :])

    def refused(name, text, split="train", **given):
        with pytest.raises(ValueError, match=text):
            load_pictures(str(tmp_path / name), split, **given)

    refused("two.npz", r"one of \['train', 'test'\], got 'val'", split="val")
    refused("other.npz", r"arrays named as splits, got \['x_train', 'y_train'\]; save")
    refused("float.npy", "uint8 of shape .* got float64")
    refused("gray.npy", r"got uint8 of shape \(3, 32, 32, 1\); .*fit_array")
    refused("none.npy", "must name an existing file, got .*none.npy")
    refused("fine.npy", "at most the 2 pictures .* got 4", size=4)
    refused("fine.npy", "size must be at least 1, got 0", size=0)
    for name in ("objects.npy", "cut.npz", "cut.npy", "empty.npz", "bits.npz"):
        refused(name, f"source .*{name}' must be a whole array file, got ")
    with pytest.raises(ValueError, match=r"split of embedded .* got 'val'"):
        load_pictures("embedded", "val")


def test_folders(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / "mine").mkdir(exist_ok=True)
        Image.new("L", (40, 50), number).save(tmp_path / "mine" / f"{number}.png")
    expected = numbered(3)
    train = load_pictures(str(tmp_path / "mine"), "train")
    assert np.array_equal(train, expected[1:])
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(load_pictures("mine", "test"), expected[:1])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert np.array_equal(load_pictures("~/mine", "train", size=1), expected[1:2])


def test_paths_that_are_no_folder(tmp_path):
    with pytest.raises(ValueError, match="source must be a folder that exists, got"):
        load_pictures(str(tmp_path / "nowhere"))
    (tmp_path / "a.png").write_text("")
    with pytest.raises(ValueError, match=r"got the file '.*a.png'; name the folder"):
        load_pictures(str(tmp_path / "a.png"))


def test_tfds_missing_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "tensorflow_datasets", raising=False)
    with pytest.raises(ImportError, match=r"install qgenx_jax\[experiments\], or use"):
        load_pictures("cifar10", "train")
    assert "loading cifar10: importing TensorFlow" in capsys.readouterr().err
