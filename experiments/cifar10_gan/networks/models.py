"""The generator and discriminator pairs for 32 x 32 pictures, in Flax NNX.

Two pairs of width F: ``resnet``, residual blocks of F filters, and ``dcgan``, a stack
of 4 x 4 stride-2 convolutions of F, 2 F and 4 F filters. Every weight starts normal
with deviation 0.02, every bias zero. Generators normalise each example over space and
channels and end in a tanh; discriminators do not normalise, since the gradient penalty
of WGAN-GP is a condition on each example alone. Nothing is stateful, so a pair is two
pure functions of a pytree of parameters: `split_pair`. Parameters are float32; layers
compute in a `dtype`, but for the discriminators' last one, whose sums the losses take
differences of.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.cifar10_gan.networks.layers import (
    DEVIATION,
    Convolution,
    DownBlock,
    Dtype,
    Formulation,
    LayerNorm,
    SameBlock,
    TransposedConvolution,
    UpBlock,
    normal,
)

Params = Any
"""A pytree of arrays."""

NAMES = ("dcgan", "resnet")

LEAK = 0.2


class ResNetGenerator(nnx.Module):
    """Latents (n, latent) to pictures (n, 32, 32, 3) in [-1, 1] by three `UpBlock`s.

    1,548,547 parameters at width 128 and latent 128.
    """

    def __init__(
        self,
        width: int,
        latent: int,
        *,
        formulation: Formulation,
        dtype: Dtype,
        rngs: nnx.Rngs,
    ) -> None:
        common: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        given = {"formulation": formulation, **common}
        self.width = width
        self.dense = nnx.Linear(latent, 16 * width, kernel_init=normal, **common)
        self.up1 = UpBlock(width, **given)
        self.up2 = UpBlock(width, **given)
        self.up3 = UpBlock(width, **given)
        self.norm = LayerNorm(width, dtype=dtype)
        self.conv = Convolution(width, 3, 3, **given)

    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps z (n, latent) to (n, 32, 32, 3)."""
        x = self.dense(z).reshape(-1, 4, 4, self.width)
        x = self.up3(self.up2(self.up1(x)))
        return jnp.tanh(self.conv(nnx.relu(self.norm(x))))


class ResNetDiscriminator(nnx.Module):
    """Pictures (n, 32, 32, 3) to scores (n,): 32 to 16 to 8 pixels, then two blocks.

    1,053,825 parameters at width 128.
    """

    def __init__(
        self, width: int, *, formulation: Formulation, dtype: Dtype, rngs: nnx.Rngs
    ) -> None:
        given: dict[str, Any] = {"formulation": formulation, "dtype": dtype}
        given["rngs"] = rngs
        self.conv1 = Convolution(3, width, 3, **given)
        self.conv2 = Convolution(width, width, 3, stride=2, **given)
        self.shortcut = Convolution(3, width, 1, stride=2, **given)
        self.down = DownBlock(width, **given)
        self.same1 = SameBlock(width, **given)
        self.same2 = SameBlock(width, **given)
        self.dense = nnx.Linear(width, 1, kernel_init=normal, rngs=rngs)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Maps (n, 32, 32, 3) to (n,)."""
        x = self.shortcut(pictures) + self.conv2(nnx.relu(self.conv1(pictures)))
        x = nnx.relu(self.same2(self.same1(self.down(x))))
        return self.dense(jnp.mean(x, (1, 2)))[:, 0]


class DCGANGenerator(nnx.Module):
    """Latents (n, latent) to pictures (n, 32, 32, 3) in [-1, 1]: 4 F to 3 filters.

    The first norm acts on the dense layer's features, so its scale and offset are per
    position and channel, (4, 4, 4 F). 3,701,891 parameters at width 128, latent 128.
    """

    def __init__(
        self,
        width: int,
        latent: int,
        *,
        formulation: Formulation,
        dtype: Dtype,
        rngs: nnx.Rngs,
    ) -> None:
        common: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        given = {"formulation": formulation, **common}
        self.width = width
        self.dense = nnx.Linear(latent, 64 * width, kernel_init=normal, **common)
        self.norm1 = LayerNorm(4, 4, 4 * width, dtype=dtype)
        self.conv1 = TransposedConvolution(4 * width, 2 * width, 4, **given)
        self.norm2 = LayerNorm(2 * width, dtype=dtype)
        self.conv2 = TransposedConvolution(2 * width, width, 4, **given)
        self.norm3 = LayerNorm(width, dtype=dtype)
        self.conv3 = TransposedConvolution(width, 3, 4, **given)

    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps z (n, latent) to (n, 32, 32, 3)."""
        x = self.dense(z).reshape(-1, 4, 4, 4 * self.width)
        x = self.conv1(nnx.relu(self.norm1(x)))
        x = self.conv2(nnx.relu(self.norm2(x)))
        return jnp.tanh(self.conv3(nnx.relu(self.norm3(x))))


class DCGANDiscriminator(nnx.Module):
    """Pictures (n, 32, 32, 3) to scores (n,): F, 2 F, 4 F filters, leaky ReLUs.

    2,636,673 parameters at width 128.
    """

    def __init__(
        self,
        width: int,
        *,
        leak: float,
        formulation: Formulation,
        dtype: Dtype,
        rngs: nnx.Rngs,
    ) -> None:
        given: dict[str, Any] = {"formulation": formulation, "dtype": dtype}
        given |= {"stride": 2, "rngs": rngs}
        self.leak = leak
        self.conv1 = Convolution(3, width, 4, **given)
        self.conv2 = Convolution(width, 2 * width, 4, **given)
        self.conv3 = Convolution(2 * width, 4 * width, 4, **given)
        self.dense = nnx.Linear(64 * width, 1, kernel_init=normal, rngs=rngs)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Maps (n, 32, 32, 3) to (n,)."""
        x = pictures
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nnx.leaky_relu(conv(x), self.leak)
        return self.dense(x.reshape(len(x), -1))[:, 0]


class Pair(NamedTuple):
    """A pair as pure functions.

    Attributes:
        params: ``{"generator": ..., "discriminator": ...}``, nested dicts of arrays.
        generate: (params["generator"], z (n, latent)) to pictures (n, 32, 32, 3).
        criticise: (params["discriminator"], pictures (n, 32, 32, 3)) to scores (n,).
    """

    params: dict[str, Params]
    generate: Callable[[Params, jax.Array], jax.Array]
    criticise: Callable[[Params, jax.Array], jax.Array]


def create_pair(
    name: str,
    *,
    width: int,
    latent: int,
    rngs: nnx.Rngs,
    formulation: Formulation | None = None,
    dtype: Dtype = None,
    leak: float = LEAK,
) -> tuple[nnx.Module, nnx.Module]:
    """Creates the generator and the discriminator called `name`.

    Args:
        name: one of `NAMES`.
        width: filters F of the narrowest layers.
        latent: size of a latent vector.
        rngs: the source of the initial weights.
        formulation: of the convolutions, the same function either way; ``"fast"`` is
            for CPUs, ``"plain"`` for accelerators. None chooses by JAX's default
            backend.
        dtype: of the layers' activations and products, such as ``"bfloat16"``; None
            for the promoted one of parameters and inputs.
        leak: slope below zero of the leaky ReLUs, of ``dcgan``'s discriminator alone;
            the reference has 0.01.

    Raises:
        ValueError: for an unknown name or formulation, or a size below 1.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {NAMES}, got {name!r}; pick one of them")
    for argument, value in (("width", width), ("latent", latent)):
        if value < 1:
            raise ValueError(
                f"{argument} must be at least 1, got {value}; the paper's "
                "experiment uses 128"
            )
    if formulation is None:
        formulation = "fast" if jax.default_backend() == "cpu" else "plain"
    if formulation not in ("fast", "plain"):
        raise ValueError(
            f"formulation must be 'fast' or 'plain', got {formulation!r}; leave it out "
            "to have it chosen"
        )
    given: dict[str, Any] = {"formulation": formulation, "dtype": dtype, "rngs": rngs}
    if name == "resnet":
        return (
            ResNetGenerator(width, latent, **given),
            ResNetDiscriminator(width, **given),
        )
    generator = DCGANGenerator(width, latent, **given)  # first: it draws first
    return generator, DCGANDiscriminator(width, leak=leak, **given)


def split_pair(generator: nnx.Module, discriminator: nnx.Module) -> Pair:
    """Splits a pair of modules into its parameters and two pure functions of them.

    What these return has at least the precision of what they are given.
    """
    generator_params, generate = _split(generator)
    discriminator_params, criticise = _split(discriminator)
    params = {"generator": generator_params, "discriminator": discriminator_params}
    return Pair(params, generate, criticise)


def rescale_kernels(params: Params, deviation: float) -> Params:
    """Initial parameters with kernels of another standard deviation than 0.02.

    The reference's 0.02 goes with its width of 128. A signal through a 3 x 3
    convolution of F filters scales as deviation * sqrt(9 F): a narrow pair with 0.02
    starts with a discriminator that is almost constant, and waits for hundreds of
    iterations.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x * (deviation / DEVIATION) if path[-1].key == "kernel" else x,
        params,
    )


def count(params: Params) -> int:
    """The number of parameters: the sum of the leaves' sizes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _split(
    module: nnx.Module,
) -> tuple[Params, Callable[[Params, jax.Array], jax.Array]]:
    graph, state = nnx.split(module, nnx.Param)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        y = nnx.merge(graph, params)(x)
        return y.astype(jnp.promote_types(y.dtype, x.dtype))

    return nnx.to_pure_dict(state), apply
