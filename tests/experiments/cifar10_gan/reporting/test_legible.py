"""Digits that can be read, and what cannot."""

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import gaussian_filter

from experiments.cifar10_gan.data.digits import load_digits
from experiments.cifar10_gan.data.pictures import draw_pictures, to_bytes
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.reporting.legible import Reader


@pytest.fixture(scope="module")
def reader():
    return Reader(*load_digits("train"))


@pytest.fixture(scope="module")
def held_out():
    return load_digits("test")


def colour(grey):
    """Values in [0, 1], (n, 32, 32), as pictures."""
    pixels = np.clip(255 * np.asarray(grey), 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1)


def untrained():
    modules = models.create_pair("dcgan", width=4, latent=16, rngs=nnx.Rngs(0))
    pair = models.split_pair(*modules)
    latents = jax.random.normal(jax.random.key(0), (100, 16))
    return to_bytes(np.asarray(pair.generate(pair.params["generator"], latents)))


def unreadable(real, labels):
    """Pictures in the style of digits that are none, by name."""
    grey = real[..., 0] / 255
    rng = np.random.default_rng(0)
    others = grey[rng.permutation(len(grey))]
    left, top = grey.copy(), grey.copy()
    left[:, :, 16:], top[:, 16:] = others[:, :, 16:], others[:, 16:]
    noise = rng.standard_normal(grey.shape)
    mean, flat = grey.mean(0), grey.reshape(len(grey), -1)
    centred = (flat - flat.mean(0)) / np.sqrt(len(flat))  # its square: the covariance
    normal = flat.mean(0) + rng.standard_normal((200, len(flat))) @ centred
    return {
        "blurred": colour(gaussian_filter(grey, (0, 2, 2))),
        "noisy": colour(grey + 0.4 * noise),
        "noise": colour(noise),
        "soft blobs": colour(0.5 + 10 * gaussian_filter(noise, (0, 4, 4))),
        "normal with their covariance": colour(normal.reshape(-1, 32, 32)),
        "the mean of all": colour([mean] * 20),
        "means of classes": colour([grey[labels == k].mean(0) for k in range(10)]),
        "means of two": colour((grey + others) / 2),
        "two over each other": colour(np.maximum(grey, others)),
        "left and right of two": colour(left),
        "upper and lower of two": colour(top),
        "upside down": real[:, ::-1],
        "inverted": 255 - real,
        "of the procedure": draw_pictures(100, seed=0),
        "of an untrained generator": untrained(),
    }


def test_held_out_digits_can_be_read(reader, held_out):
    """Nine of ten; by the tests' own quantiles 0.95 * 0.99 at most, less the agreed."""
    reading = reader.read(held_out[0])
    assert reading.is_legible
    assert 0.88 < reading.share < 0.95, reading
    assert reading.present == list(range(10))
    assert np.mean(reading.classes == held_out[1]) > 0.97
    assert reading.distance == pytest.approx(1, abs=0.05)
    # three standard errors of the quantile over 180 pictures
    assert np.mean(reading.near) == pytest.approx(0.95, abs=3 * 0.016)


def test_what_is_no_digit_cannot_be_read(reader, held_out):
    for name, pictures in unreadable(*held_out).items():
        reading = reader.read(pictures)
        assert reading.share < 0.3, f"{name}: {reading}"
        assert not reading.is_legible


def test_one_digit_over_and_over_is_no_set_of_digits(reader, held_out):
    real, labels = held_out
    same = reader.read(np.repeat(real[:1], 50, axis=0))
    assert (same.share, same.present) == (1, [labels[0]])
    assert not same.is_legible
    # seven classes, and an eighth of one picture in a hundred
    few = np.concatenate([real[labels < 7]] * 2)
    reading = reader.read(np.concatenate([few, real[labels == 8][:2]]))
    assert reading.share > 0.8
    assert reading.present == list(range(7))
    assert not reading.is_legible


def test_copies_are_told_by_their_distance(reader):
    reading = reader.read(load_digits("train", size=100)[0])
    assert reading.is_legible
    assert reading.distance == 0
