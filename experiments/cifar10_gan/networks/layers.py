"""The layers of the GAN pairs, in Flax NNX: convolutions, LayerNorm, residual blocks.

Pictures are (n, h, w, c). Kernels start normal with deviation 0.02, biases zero, all
in float32. Layers compute in their `dtype` and have outputs of it; without one it is
the promoted dtype of parameters and pictures. In bfloat16 what is summed over pixels
(norms, and so a bias's gradient) is still float32. Nothing is stateful.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.cifar10_gan.networks import convolutions

Formulation = Literal["fast", "plain"]
"""How convolutions are computed; the same function of the same parameters."""

Dtype = Any
"""What `jnp.dtype` takes; None for that of what is computed with."""

DEVIATION = 0.02
"""Standard deviation of the initial kernels."""

_EPSILON = 1e-5

_BLOCK = 1 << 16


def normal(
    key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: Any
) -> jax.Array:
    """Initializes a kernel: normal draws of mean 0 and deviation 0.02.

    Drawn in blocks of one size, since the CPU takes most of a second to compile random
    draws for each new shape, and a pair has a dozen.
    """
    size = math.prod(shape)
    blocks = [_draw_block(key, index) for index in range(max(-(-size // _BLOCK), 1))]
    draws = blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks)
    return draws[:size].reshape(shape).astype(dtype)


@jax.jit
def _draw_block(key: jax.Array, index: int) -> jax.Array:
    return DEVIATION * jax.random.normal(jax.random.fold_in(key, index), (_BLOCK,))


class Convolution(nnx.Module):
    """``convolutions.convolution`` with a bias; (n, h, w, c) to (n, h / s, w / s, f).

    Size 1 is for stride 2 only. Kernel (size, size, c, f) and bias (f,) are float32.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        formulation: Formulation,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (size, size, channels, filters)
        self.kernel = nnx.Param(normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros((filters,)))
        self.stride = stride
        self.formulation = formulation
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (n, h, w, channels) to (n, h / stride, w / stride, filters)."""
        if self.formulation == "fast":
            convolve = convolutions.convolution
        else:
            convolve = convolutions.plain_convolution
        x, kernel = _cast(x, self.dtype), _cast(self.kernel[...], self.dtype)
        # the sum with a float32 bias is float32, and so is its gradient's over pixels
        y = convolve(x, kernel, stride=self.stride) + _row(self.bias)
        return _cast(y, self.dtype)


class TransposedConvolution(nnx.Module):
    """``convolutions.transposed_convolution`` with a bias; doubles both sides.

    With size 1 the kernel reaches one pixel of four and the bias alone the others.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        *,
        formulation: Formulation,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (size, size, channels, filters)
        self.kernel = nnx.Param(normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros((filters,)))
        self.formulation = formulation
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (n, h, w, channels) to (n, 2 h, 2 w, filters)."""
        if self.formulation == "fast":
            convolve = convolutions.transposed_convolution
        else:
            convolve = convolutions.plain_transposed_convolution
        x, kernel = _cast(x, self.dtype), _cast(self.kernel[...], self.dtype)
        return _cast(convolve(x, kernel) + _row(self.bias), self.dtype)


class LayerNorm(nnx.Module):
    """Group normalisation with one group, over all axes of an example but the first.

        y = (x - mean(x)) / sqrt(var(x) + 1e-5) * scale + offset

    with mean and (biased) variance over (h, w, c). Scale and offset have `shape`, (c,)
    or (h, w, c), start at one and zero, and are the only parameters. All of it is
    computed in float32 at least.
    """

    def __init__(self, *shape: int, dtype: Dtype = None) -> None:
        self.scale = nnx.Param(jnp.ones(shape))
        self.offset = nnx.Param(jnp.zeros(shape))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises each example of x, (n, h, w, c)."""
        axes = tuple(range(1, x.ndim))
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = x - jnp.mean(x, axes, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
        unit = centred * jax.lax.rsqrt(variance + _EPSILON)
        return _cast(unit * _row(self.scale) + _row(self.offset), self.dtype)


class UpBlock(nnx.Module):
    """Norm, ReLU, transposed 4 x 4, norm, ReLU, 3 x 3; a transposed 1 x 1 around it."""

    def __init__(
        self,
        width: int,
        *,
        formulation: Formulation,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ) -> None:
        given: dict[str, Any] = {
            "formulation": formulation,
            "dtype": dtype,
            "rngs": rngs,
        }
        self.norm1 = LayerNorm(width, dtype=dtype)
        self.conv1 = TransposedConvolution(width, width, 4, **given)
        self.norm2 = LayerNorm(width, dtype=dtype)
        self.conv2 = Convolution(width, width, 3, **given)
        self.shortcut = TransposedConvolution(width, width, 1, **given)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (n, h, w, width) to (n, 2 h, 2 w, width)."""
        y = self.conv1(nnx.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(nnx.relu(self.norm2(y)))


class DownBlock(nnx.Module):
    """ReLU, 3 x 3, ReLU, 3 x 3 stride 2; a 1 x 1 stride 2 around it. No norms."""

    def __init__(
        self,
        width: int,
        *,
        formulation: Formulation,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ) -> None:
        given: dict[str, Any] = {
            "formulation": formulation,
            "dtype": dtype,
            "rngs": rngs,
        }
        self.conv1 = Convolution(width, width, 3, **given)
        self.conv2 = Convolution(width, width, 3, stride=2, **given)
        self.shortcut = Convolution(width, width, 1, stride=2, **given)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (n, h, w, width) to (n, h / 2, w / 2, width)."""
        return self.shortcut(x) + self.conv2(nnx.relu(self.conv1(nnx.relu(x))))


class SameBlock(nnx.Module):
    """ReLU, 3 x 3, ReLU, 3 x 3, and x itself around it. No norms."""

    def __init__(
        self,
        width: int,
        *,
        formulation: Formulation,
        dtype: Dtype = None,
        rngs: nnx.Rngs,
    ) -> None:
        given: dict[str, Any] = {
            "formulation": formulation,
            "dtype": dtype,
            "rngs": rngs,
        }
        self.conv1 = Convolution(width, width, 3, **given)
        self.conv2 = Convolution(width, width, 3, **given)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (n, h, w, width) to the same shape."""
        return x + self.conv2(nnx.relu(self.conv1(nnx.relu(x))))


def _cast(x: jax.Array, dtype: Dtype) -> jax.Array:
    return x if dtype is None else x.astype(dtype)


def _row(param: nnx.Param[jax.Array]) -> jax.Array:
    """The parameter with leading axes of size 1 up to rank 4, for broadcasting."""
    value = param[...]
    return value.reshape((1,) * (4 - value.ndim) + value.shape)
