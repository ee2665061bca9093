"""Any picture becomes 32 x 32 x 3 bytes; those that are stay as they are."""

import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.data.fitting import fit_array, fit_image


def noise(*shape, dtype=np.uint8):
    rng = np.random.default_rng(11)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def test_fitting_pictures_are_unchanged():
    picture = noise(32, 32, 3)
    assert fit_array(picture).tobytes() == picture.tobytes()
    assert fit_image(Image.fromarray(picture)).tobytes() == picture.tobytes()


@pytest.mark.parametrize("shape", [(32, 45), (32, 46), (61, 32), (32, 33)])
def test_the_centred_square_is_cut_out(shape):
    height, width = shape
    picture = noise(height, width, 3)
    top, left = (height - 32) // 2, (width - 32) // 2
    expected = picture[top : top + 32, left : left + 32]
    assert np.array_equal(fit_array(picture), expected)


def test_grey_becomes_three_equal_channels():
    grey = noise(32, 32)
    expected = np.stack([grey] * 3, axis=-1)
    assert np.array_equal(fit_array(grey), expected)
    assert np.array_equal(fit_array(grey[..., None]), expected)
    assert np.array_equal(fit_image(Image.fromarray(grey)), expected)


def test_sixteen_bits_keep_the_high_byte():
    deep = noise(32, 32, dtype=np.uint16)
    expected = np.stack([deep // 256] * 3, axis=-1)
    assert np.array_equal(fit_array(deep), expected)
    assert np.array_equal(fit_image(Image.fromarray(deep)), expected)
    colour = noise(32, 32, 3, dtype=np.uint16)
    assert np.array_equal(fit_array(colour), colour // 256)


def test_alpha_is_over_black():
    picture = noise(32, 32, 4)
    colour, alpha = picture[..., :3].astype(float), picture[..., 3:] / 255
    got = fit_array(picture)
    assert np.abs(got - colour * alpha).max() <= 1
    grey = fit_array(picture[..., 2:])  # grey and alpha
    assert np.abs(grey - colour[..., 2:] * alpha).max() <= 1
    hidden = np.full((32, 32, 4), (255, 9, 9, 0), np.uint8)
    assert not fit_array(hidden).any(), "a transparent pixel shows nothing"


def test_palette_and_cmyk():
    index = noise(32, 32) % 3
    colours = np.array([[255, 0, 9], [1, 2, 3], [40, 50, 60]], np.uint8)
    palette = Image.fromarray(index)
    palette.putpalette(colours.ravel().tolist())
    assert np.array_equal(fit_image(palette), colours[index])
    palette.info["transparency"] = 0  # colour 0 is not to be seen
    colours[0] = 0
    assert np.array_equal(fit_image(palette), colours[index])
    ink = noise(32, 32, 4)
    ink[..., 3] = 0  # no black: what cyan, magenta and yellow leave of white
    cmyk = Image.frombytes("CMYK", (32, 32), ink.tobytes())
    assert np.array_equal(fit_image(cmyk), 255 - ink[..., :3])


@pytest.mark.parametrize("side", [64, 250, 1000])
def test_reduction_averages(side):
    """A smooth picture gives its block means; a checkerboard gives grey."""
    at = (np.arange(side) + 0.5) / side
    wave = np.cos(2 * np.pi * (at[:, None] + 2 * at)) * 100 + 128
    smooth = np.round(np.stack([wave, wave.T, 255 - wave], -1)).astype(np.uint8)
    got = fit_array(smooth).astype(float)
    # The mean over a pixel of 1/32: each wave shrinks by sinc(frequency / 32).
    pixel = (np.arange(32) + 0.5) / 32
    wave = np.cos(2 * np.pi * (pixel[:, None] + 2 * pixel)) * 100
    wave = wave * np.sinc(1 / 32) * np.sinc(2 / 32) + 128
    means = np.stack([wave, wave.T, 255 - wave], -1)
    inner = np.s_[3:-3, 3:-3]  # at an edge the kernel is cut off
    assert np.abs(got - means)[inner].max() < 2.5
    checks = (np.indices((side, side)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(fit_array(checks)[inner].astype(float) - 127.5).max() < 4


def test_enlarging_and_odd_sizes():
    for shape in [(1, 1), (8, 8), (28, 28), (5, 300), (33, 1000)]:
        constant = np.full((*shape, 3), (10, 200, 77), np.uint8)
        got = fit_array(constant)
        assert got.shape == (32, 32, 3)
        assert np.array_equal(np.unique(got.reshape(-1, 3), axis=0), [[10, 200, 77]])


def test_errors():
    with pytest.raises(ValueError, match=r"uint8 or uint16 .* got float64 of shape"):
        fit_array(np.zeros((8, 8, 3)))
    for shape in [(8,), (8, 8, 5), (0, 8, 3), (2, 8, 8, 3)]:
        with pytest.raises(ValueError, match=r"picture must be .* scale it to bytes"):
            fit_array(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="8 or 16 bits per channel, got mode 'F'"):
        fit_image(Image.fromarray(np.zeros((8, 8), np.float32)))
