"""Checkpoints of the reference's classes, made here as its code makes them, and read.

`dcgan` and `resnet` list the arrays of the state dicts in the order in which the
classes define them; `criticise_dcgan` is the forward pass of its discriminator.
"""

import chex
import jax
import numpy as np
import pytest
from flax import nnx

from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.networks.reference_names import REFERENCE_NAMES
from experiments.cifar10_gan.networks.reference_weights import (
    from_reference,
    to_reference,
)

pytestmark = pytest.mark.plainly

F, LATENT = 3, 5
SIZES = {"width": F, "latent": LATENT}


def layer(name, *weight, bias):
    return {f"{name}.weight": weight, f"{name}.bias": (bias,)}


def norm(name, channels):
    return layer(name, channels, bias=channels)


def dcgan():
    generator = layer("deconv1", 64 * F, LATENT, bias=64 * F)
    generator |= norm("deconv1_bn.1", 64 * F)
    generator |= layer("deconv2", 4 * F, 2 * F, 4, 4, bias=2 * F)
    generator |= norm("deconv2_bn", 2 * F)
    generator |= layer("deconv3", 2 * F, F, 4, 4, bias=F) | norm("deconv3_bn", F)
    generator |= layer("deconv5", F, 3, 4, 4, bias=3)
    critic = layer("conv1", F, 3, 4, 4, bias=F)
    critic |= layer("conv2", 2 * F, F, 4, 4, bias=2 * F) | norm("conv2_bn", 2 * F)
    critic |= layer("conv3", 4 * F, 2 * F, 4, 4, bias=4 * F) | norm("conv3_bn", 4 * F)
    return {
        "generator": generator,
        "discriminator": critic | layer("conv5", 1, 64 * F, bias=1),
    }


def resnet():
    def conv(name, size=3, inputs=F):
        return layer(name, F, inputs, size, size, bias=F)

    generator = layer("input", 16 * F, LATENT, bias=16 * F)
    for i in range(3):
        at = f"network.{i}"
        generator |= conv(f"{at}.conv_shortcut", 1) | norm(f"{at}.block.0", F)
        generator |= conv(f"{at}.block.2", 4) | norm(f"{at}.block.3", F)
        generator |= conv(f"{at}.block.5")
    generator |= norm("network.3", F) | layer("network.5", 3, F, 3, 3, bias=3)
    critic = conv("block1.0", inputs=3) | conv("block1.2")
    critic |= conv("shortcut1", 1, inputs=3) | conv("network.0.conv_shortcut", 1)
    for i in range(3):
        critic |= conv(f"network.{i}.block.1") | conv(f"network.{i}.block.3")
    return {
        "generator": generator,
        "discriminator": critic | layer("output", 1, F, bias=1),
    }


SHAPES = {"dcgan": dcgan(), "resnet": resnet()}
IDLE = ("conv2_bn.weight", "conv2_bn.bias", "conv3_bn.weight", "conv3_bn.bias")


def written(folder, name):
    """The checkpoint as a file for each player, read again."""
    rng = np.random.default_rng(0)
    read = {}
    for player, shapes in SHAPES[name].items():
        arrays = {k: rng.normal(size=shape, scale=0.3) for k, shape in shapes.items()}
        for idle in set(IDLE) & set(arrays):  # no gradient ever moved them
            arrays[idle] = np.full(shapes[idle], float("weight" in idle))
        path = folder / f"{player}.npz"
        np.savez(path, **arrays)
        with np.load(path) as file:
            read[player] = dict(file)
    return read


def convolved(x, w, b):
    """torch.nn.Conv2d(..., 4, stride=2, padding=1), OIHW."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = (x.shape[2] - 4) // 2 + 1
    y = np.zeros((len(x), len(w), side, side)) + b[:, None, None]
    for i in range(4):
        for j in range(4):
            part = x[:, :, i : i + 2 * side : 2, j : j + 2 * side : 2]
            y += np.einsum("oc,nchw->nohw", w[:, :, i, j], part)
    return y


def criticise_dcgan(arrays, x):
    """With PyTorch's slope, and without the norms, as `batchnorm=False` has it."""
    for name in ("conv1", "conv2", "conv3"):
        x = convolved(x, arrays[f"{name}.weight"], arrays[f"{name}.bias"])
        x = np.where(x > 0, x, 0.01 * x)
    flat = x.reshape(len(x), -1)
    return (flat @ arrays["conv5.weight"].T + arrays["conv5.bias"])[:, 0]


def test_the_dcgan_discriminator_loads_as_it_is(tmp_path):
    """And gives the scores that the reference's forward pass gives."""
    weights = written(tmp_path, "dcgan")
    assert set(IDLE) <= set(weights["discriminator"])
    pictures = np.random.default_rng(1).uniform(-1, 1, size=(3, 3, 32, 32))
    expected = criticise_dcgan(weights["discriminator"], pictures)
    made = models.create_pair("dcgan", rngs=nnx.Rngs(0), leak=0.01, **SIZES)
    with jax.enable_x64(True):
        names = REFERENCE_NAMES["dcgan"]
        params = from_reference("dcgan", weights, names=names, **SIZES)
        criticise = jax.jit(models.split_pair(*made).criticise)
        scores = criticise(
            params["discriminator"], jax.numpy.asarray(pictures.transpose(0, 2, 3, 1))
        )
    np.testing.assert_allclose(scores, expected, rtol=1e-10)


@pytest.mark.parametrize("name", models.NAMES)
def test_all_arrays_of_a_checkpoint_are_read_but_the_idle_ones(tmp_path, name):
    weights = written(tmp_path, name)
    names = REFERENCE_NAMES[name]
    params = from_reference(name, weights, names=names, **SIZES)
    back = to_reference(name, params, names=names, **SIZES)
    for player, arrays in weights.items():
        used = {k: np.float32(x) for k, x in arrays.items() if k not in IDLE}
        chex.assert_trees_all_equal(back[player], used)


@pytest.mark.parametrize("name", ["conv2_bn.weight", "conv3_bn.bias"])
def test_idle_arrays_that_were_trained_are_refused(tmp_path, name):
    """Leaving them out would give other scores, and say nothing."""
    weights = written(tmp_path, "dcgan")
    weights["discriminator"][name] = weights["discriminator"][name] + 0.1
    with pytest.raises(
        ValueError, match=rf"'{name}' of the discriminator must be .* mad"
    ):
        from_reference("dcgan", weights, names=REFERENCE_NAMES["dcgan"], **SIZES)


def test_no_other_array_is_left_out(tmp_path):
    """Neither of another pair, nor of the other player, nor of batch normalization."""
    names = REFERENCE_NAMES["dcgan"]
    weights = written(tmp_path, "dcgan")
    weights["generator"]["conv2_bn.bias"] = np.zeros(2 * F)
    with pytest.raises(ValueError, match=r"generator must have no arrays .*conv2_bn"):
        from_reference("dcgan", weights, names=names, **SIZES)
    weights = written(tmp_path, "dcgan")
    weights["discriminator"]["conv2_bn.running_mean"] = np.zeros(2 * F)
    with pytest.raises(ValueError, match=r"discriminator must have no .*running_mean"):
        from_reference("dcgan", weights, names=names, **SIZES)
