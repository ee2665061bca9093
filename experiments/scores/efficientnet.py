"""EfficientNet-Lite0 in Flax NNX, up to its features: what pictures are compared by.

The network of Tan and Le (2019) without squeeze-and-excitation and with ReLU6, trained
on ImageNet. Only inference: the batch norms are folded into the kernels before them.

    (n, s, s, 3) -> stem 3 x 3 / 2 -> 16 blocks -> 1 x 1 -> mean over pixels
    -> (n, 1280)

A block widens by 1 x 1, convolves each channel alone, narrows by 1 x 1, and adds its
input where the shapes agree.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

FEATURES = 1280
_EPSILON = 1e-3  # of the batch norms


class Stage(NamedTuple):
    """Blocks in a row: the first has the stride, and changes the channels."""

    repeats: int
    size: int
    stride: int
    widening: int
    channels: int


STEM = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Pointwise(nnx.Module):
    """A convolution of size 1: a product over channels, (..., c) to (..., f)."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        self.kernel = nnx.Param(jnp.asarray(kernel))  # (c, f)
        self.bias = nnx.Param(_over_pixels(bias))

    def __call__(self, x: jax.Array) -> jax.Array:
        """The product, without an activation."""
        return x @ self.kernel[...] + self.bias[...]


class Depthwise(nnx.Module):
    """A convolution of each channel alone, as a sum of shifted pictures.

    XLA's grouped convolutions on CPUs are loops; a sum of k^2 products is fused.
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, stride: int) -> None:
        self.kernel = nnx.Param(_over_pixels(kernel))  # (k, k, 1, 1, 1, c)
        self.bias = nnx.Param(_over_pixels(bias))
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, h, w, c) to (n, h / stride, w / stride, c), padded as "same"."""
        kernel, stride = self.kernel[...], self.stride
        size = kernel.shape[0]
        rows, columns = (-(-n // stride) for n in x.shape[1:3])
        pads = [_same(n, size, stride) for n in x.shape[1:3]]
        x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
        terms = [
            kernel[i, j]
            * x[:, i : i + rows * stride : stride, j : j + columns * stride : stride]
            for i in range(size)
            for j in range(size)
        ]
        return sum(terms[1:], terms[0]) + self.bias[...]


class Stem(nnx.Module):
    """The first convolution: 3 x 3 with stride 2, over colours."""

    def __init__(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        self.kernel = nnx.Param(jnp.asarray(kernel))  # (3, 3, 3, f)
        self.bias = nnx.Param(_over_pixels(bias))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, h, w, 3) to (n, h / 2, w / 2, f)."""
        kernel = self.kernel[...]
        pads = [_same(n, 3, 2) for n in x.shape[1:3]]
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), pads, dimension_numbers=layout
        )
        return y + self.bias[...]


class Block(nnx.Module):
    """Widen, convolve each channel, narrow, and add the input where it fits."""

    def __init__(
        self, widen: Pointwise | None, filter_: Depthwise, narrow: Pointwise, adds: bool
    ) -> None:
        self.widen = widen
        self.filter = filter_
        self.narrow = narrow
        self.adds = adds

    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, h, w, c) to (n, h / stride, w / stride, f)."""
        y = x if self.widen is None else jax.nn.relu6(self.widen(x))
        y = self.narrow(jax.nn.relu6(self.filter(y)))
        return x + y if self.adds else y


class EfficientNet(nnx.Module):
    """EfficientNet-Lite0 from its arrays.

    Args:
        arrays: by the names of the PyTorch file: ``_conv_stem.weight``,
            ``_blocks.0._depthwise_conv.weight``, ``_bn1.running_mean``, and so on;
            kernels are (f, c, k, k).

    Raises:
        ValueError: for an array that is missing or of another shape.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        def read(
            name: str, norm: str, shape: tuple[int, ...]
        ) -> tuple[np.ndarray, np.ndarray]:
            kernel = _array(arrays, f"{name}.weight", shape)
            return _folded(kernel, arrays, norm)

        def pointwise(name: str, norm: str, c: int, f: int) -> Pointwise:
            kernel, bias = read(name, norm, (f, c, 1, 1))
            return Pointwise(kernel[:, :, 0, 0].T, bias)

        kernel, bias = read("_conv_stem", "_bn0", (STEM, 3, 3, 3))
        self.stem = Stem(kernel.transpose(2, 3, 1, 0), bias)
        blocks = []
        for index, (before, after, stage, stride) in enumerate(_blocks()):
            start, wide = f"_blocks.{index}.", before * stage.widening
            widen = None
            if stage.widening > 1:
                widen = pointwise(f"{start}_expand_conv", f"{start}_bn0", before, wide)
            shape = (wide, 1, stage.size, stage.size)
            kernel, bias = read(f"{start}_depthwise_conv", f"{start}_bn1", shape)
            depthwise = Depthwise(kernel[:, 0].transpose(1, 2, 0), bias, stride)
            narrow = pointwise(f"{start}_project_conv", f"{start}_bn2", wide, after)
            adds = stride == 1 and before == after
            blocks.append(Block(widen, depthwise, narrow, adds))
        self.blocks = nnx.List(blocks)
        self.head = pointwise("_conv_head", "_bn1", STAGES[-1].channels, FEATURES)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Features of pictures.

        Args:
            pictures: (n, s, s, 3) in 0 to 255, uint8 or floating.

        Returns:
            (n, 1280) float32, the mean over pixels of what ImageNet's classes are read
            from.
        """
        # as EfficientNet-Lite is trained: by 127 and 128, not ImageNet's deviations
        x = jax.nn.relu6(self.stem((pictures.astype(jnp.float32) - 127) / 128))
        for block in self.blocks:
            x = block(x)
        return jnp.mean(jax.nn.relu6(self.head(x)), axis=(1, 2))


def _blocks() -> Iterator[tuple[int, int, Stage, int]]:
    """Channels before and after, stage and stride of each block."""
    before = STEM
    for stage in STAGES:
        for repeat in range(stage.repeats):
            yield before, stage.channels, stage, stage.stride if repeat == 0 else 1
            before = stage.channels


def _array(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> np.ndarray:
    found = arrays[name].shape if name in arrays else "no such array"
    if found != shape:
        raise ValueError(
            f"arrays must hold {name!r} of shape {shape}, got {found}; read the file "
            "of EfficientNet-Lite0"
        )
    return arrays[name]


def _folded(
    kernel: np.ndarray, arrays: Mapping[str, np.ndarray], norm: str
) -> tuple[np.ndarray, np.ndarray]:
    """A kernel (f, ...) and a bias (f,) that do what kernel and batch norm did."""
    size = (len(kernel),)
    weight, bias, mean, variance = (
        _array(arrays, f"{norm}.{name}", size).astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = weight / np.sqrt(variance + _EPSILON)
    scaled = kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
    return scaled.astype(np.float32), (bias - mean * factor).astype(np.float32)


def _over_pixels(values: np.ndarray) -> jax.Array:
    """(..., c) to (..., 1, 1, 1, c), to be beside (n, h, w, c)."""
    return jnp.asarray(np.expand_dims(values, (-4, -3, -2)))


def _same(length: int, size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same" padding: as much as it takes, the odd one behind."""
    padding = max((-(-length // stride) - 1) * stride + size - length, 0)
    return padding // 2, padding - padding // 2
