"""Generated pictures: the same bytes for a seed, and something to learn."""

import numpy as np
import pytest

from experiments.cifar10_gan.data.pictures import draw_pictures, to_bytes, to_signed


def test_same_seed_same_bytes_and_prefixes_agree():
    pictures = draw_pictures(1100, seed=3)
    assert pictures.shape == (1100, 32, 32, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, draw_pictures(1100, seed=3))
    assert np.array_equal(pictures[:7], draw_pictures(7, seed=3)), (
        "a picture must not depend on how many are drawn"
    )
    assert draw_pictures(0, seed=3).shape == (0, 32, 32, 3)


def test_seeds_and_streams_are_distinct():
    sets = [
        draw_pictures(50, seed=seed, stream=stream)
        for seed, stream in [(0, 0), (1, 0), (0, 1)]
    ]
    everything = np.concatenate(sets).reshape(150, -1)
    assert len(np.unique(everything, axis=0)) == 150, "no picture may repeat"


def test_varied():
    pictures = draw_pictures(1024, seed=0).astype(np.float64)
    means = pictures.mean((1, 2))
    # Uniform colours in [0, 255] have mean 127.5; pictures mix a few of them.
    assert np.all(np.abs(means.mean(0) - 127.5) < 6), "no colour is favoured"
    assert np.all(means.std(0) > 30), "colours must vary between pictures"
    assert pictures.min() == 0 or pictures.min() < 5
    assert pictures.max() > 250
    within = pictures.std((1, 2)).mean(1)
    assert np.quantile(within, 0.05) > 5, "few pictures may be nearly constant"
    # Sharp and smooth ones: the largest step between neighbours spreads widely.
    steps = np.abs(np.diff(pictures, axis=2)).max((1, 2, 3))
    assert np.quantile(steps, 0.1) < 60 < 120 < np.quantile(steps, 0.9)


def test_scales():
    levels = np.arange(256, dtype=np.uint8)
    signed = to_signed(levels)
    assert signed.dtype == np.float32
    assert (signed[0], signed[255]) == (-1, 1)
    assert np.allclose(np.diff(signed), 2 / 255, atol=1e-6)
    back = to_bytes(signed).astype(int)
    assert np.all((levels - back >= 0) & (levels - back <= 1)), "truncation loses < 1"
    # -1.5 and 2 are clamped; 127.5 (0.5 + 1) = 191.25 and 127.5 * 1.999 = 254.87.
    got = to_bytes(np.array([-1.5, -1.0, 0.0, 0.5, 0.999, 1.0, 2.0]))
    assert got.tolist() == [0, 0, 127, 191, 254, 255, 255]


def test_errors():
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        draw_pictures(-1, seed=0)
    with pytest.raises(ValueError, match="seed must be at least 0, got -2"):
        draw_pictures(1, seed=-2)
    with pytest.raises(ValueError, match="must be finite, got 2 NaN or infinite"):
        to_bytes(np.array([0.0, np.nan, np.inf]))
