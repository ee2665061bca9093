"""Digits of scikit-learn, enlarged."""

import sys

import numpy as np
import pytest
from sklearn import datasets

from experiments.cifar10_gan.data import digits
from experiments.cifar10_gan.data.digits import load_digits
from experiments.cifar10_gan.data.sources import load_pictures


@pytest.fixture(scope="module")
def known():
    return datasets.load_digits()


def test_every_tenth_is_held_out_and_keeps_its_label(known):
    (train, labels), (test, held) = load_digits("train"), load_digits("test")
    assert (train.shape, test.shape) == ((1617, 32, 32, 3), (180, 32, 32, 3))
    assert train.dtype == test.dtype == np.uint8
    assert np.array_equal(held, known.target[::10])
    assert np.array_equal(labels, np.delete(known.target, np.s_[::10]))
    assert np.array_equal(load_pictures("digits", "test"), test)
    assert np.array_equal(load_pictures("digits", size=7), train[:7])


def test_the_old_pixels_are_the_means_of_the_new_ones(known):
    """Up to what a bicubic smooths; a picture that is turned or shifted is far off."""
    pictures, _ = load_digits("test")
    assert (pictures == pictures[..., :1]).all(), "grey"
    means = pictures[..., 0].reshape(-1, 8, 4, 8, 4).mean((2, 4))
    old = known.images[::10] * (255 / 16)
    deviation = np.sqrt(np.mean((means - old) ** 2))
    assert deviation < 0.2 * old.std()
    assert np.sqrt(np.mean((means[:, ::-1] - old) ** 2)) > 0.5 * old.std()
    assert (pictures.min(), pictures.max()) == (0, 255)
    # bilinear or better: no step of the old pixels' size between neighbours
    steps = np.abs(np.diff(pictures[..., 0].astype(int), axis=2)).max()
    assert steps < 0.6 * np.abs(np.diff(old, axis=2)).max()


def test_what_it_refuses(monkeypatch):
    with pytest.raises(ValueError, match=r"split of 'digits' must be .* got 'val'"):
        load_digits("val")
    with pytest.raises(ValueError, match=r"at most the 180 pictures .* got 181"):
        load_digits("test", size=181)
    digits._all_digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"needs scikit-learn.*experiments\], or use"):
        load_digits()
