"""Pictures to show: frames, circles between latents, neighbours."""

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.cifar10_gan.data.pictures import draw_pictures
from experiments.cifar10_gan.reporting.album import (
    animate,
    draw_neighbours,
    has_frame,
    interpolated,
    nearest,
)


def test_frames_are_eight_in_every_doubling():
    places = [place for place in range(1, 10_001) if has_frame(place)]
    assert places[:15] == list(range(1, 16))
    assert places[15:24] == [16, 18, 20, 22, 24, 26, 28, 30, 32]
    for k in range(4, 13):
        assert sum(2**k <= place < 2 ** (k + 1) for place in places) == 8
    assert has_frame(0)
    assert sum(place <= 120 for place in places) == 39
    assert len(places) == 89


def test_an_animation_has_all_frames_in_order_and_rests_on_the_last(tmp_path):
    frames = []
    for index, grey in enumerate((0, 60, 120)):
        frames.append(tmp_path / f"{index}.png")
        Image.fromarray(np.full((4, 6, 3), grey, np.uint8)).save(frames[-1])
    last = np.zeros((4, 6, 3), np.uint8)
    last[:, :3] = 120
    last[:2, :3] = 60
    animate(frames, last, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.size) == (4, 0, (12, 8))
        seen, durations = [], []
        for index in range(4):
            gif.seek(index)
            durations.append(gif.info["duration"])
            seen.append(np.asarray(gif.convert("RGB"))[::2, ::2])
    assert durations == [120, 120, 120, 1800]
    for picture, grey in zip(seen, (0, 60, 120), strict=False):
        assert (picture == grey).all()
    assert np.array_equal(seen[3], last)


def test_latents_between_two_are_on_a_great_circle():
    latents = jax.random.normal(jax.random.key(0), (20, 5))
    rows = interpolated(latents).reshape(8, 8, 5)
    np.testing.assert_allclose(rows[:, 0], latents[:8], rtol=1e-6)
    np.testing.assert_allclose(rows[:, -1], latents[8:16], rtol=1e-6)
    # a quarter of the unit circle: step j of 7 is at j / 7 of the right angle
    corner = np.zeros((16, 2))
    corner[:8, 0] = corner[8:, 1] = 1
    angle = np.arange(8) * np.pi / 14
    expected = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    np.testing.assert_allclose(interpolated(corner)[:8], expected, atol=1e-6)


def test_latents_on_one_line_have_no_circle():
    latents = np.array([1.0] * 8 + [3.0] * 4 + [-3.0] * 4)[:, None]
    rows = interpolated(latents).reshape(8, 8)
    np.testing.assert_allclose(rows[0], np.linspace(1, 3, 8), rtol=1e-6)
    np.testing.assert_allclose(rows[7], np.linspace(1, -3, 8), atol=1e-6)


def test_nearest_is_that_of_all_distances(monkeypatch):
    monkeypatch.setattr("experiments.cifar10_gan.reporting.album._PART", 7)
    real = draw_pictures(30, seed=0)
    noise = np.random.default_rng(0).integers(0, 60, (5, 32, 32, 3), np.uint8)
    pictures = np.concatenate([real[[29, 3]] // 2 + 40, noise])
    off = pictures[:, None].astype(float) - real[None].astype(float)
    expected = np.argmin(np.square(off).sum((2, 3, 4)), axis=1)
    assert np.array_equal(nearest(pictures, real), expected)
    assert np.array_equal(nearest(real, real), np.arange(30))


@pytest.mark.parametrize("count", [1, 36])
def test_neighbours_are_drawn(tmp_path, count):
    real = draw_pictures(20, seed=0)
    draw_neighbours(draw_pictures(count, seed=1), real, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 2 * image.height
        assert np.asarray(image).std() > 0
