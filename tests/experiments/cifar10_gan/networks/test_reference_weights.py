"""The converter, by a NumPy network that reads the reference's layout itself.

The network below is written in loops over NCHW arrays from the description of the
reference's architecture alone: no layout, and no code, is shared with ours.
"""

import functools
import types

import chex
import jax
import numpy as np
import pytest
from flax import nnx

from experiments.cifar10_gan import losses
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.networks.reference_weights import (
    from_reference,
    to_reference,
)

pytestmark = pytest.mark.plainly

WIDTH, LATENT = 2, 3
SIZES = {"width": WIDTH, "latent": LATENT}


def over_channels(w, x):
    """sum_c w[o, c] x[n, c, p, q]; written as products, NumPy's fastest here."""
    return sum(w[:, c, None, None] * x[:, c, None] for c in range(w.shape[1]))


def conv(x, w, b, *, stride=1, padding):
    """torch.nn.Conv2d; w is OIHW."""
    size = w.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    side = (x.shape[2] - size) // stride + 1
    y = np.zeros((len(x), len(w), side, side)) + b[:, None, None]
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + stride * side, stride)
            columns = slice(j, j + stride * side, stride)
            y += over_channels(w[:, :, i, j], x[:, :, rows, columns])
    return y


def transposed(x, w, b, *, padding, output_padding=0):
    """torch.nn.ConvTranspose2d of stride 2; w is IOHW."""
    n, _, side, _ = x.shape
    size = w.shape[2]
    full = np.zeros((n, w.shape[1], *(2 * (side - 1) + size + output_padding,) * 2))
    for i in range(size):
        for j in range(size):
            spread = over_channels(w[:, :, i, j].T, x)
            full[:, :, i : i + 2 * side : 2, j : j + 2 * side : 2] += spread
    last = full.shape[2] - padding
    return full[:, :, padding:last, padding:last] + b[:, None, None]


def group_norm(x, w, b):
    """torch.nn.GroupNorm with one group."""
    axes = tuple(range(1, x.ndim))
    unit = x - x.mean(axes, keepdims=True)
    unit = unit / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    shape = (-1,) + (1,) * (x.ndim - 2)
    return unit * w.reshape(shape) + b.reshape(shape)


def relu(x):
    return np.maximum(x, 0)


def reader(arrays):
    """layer name -> (weight, bias)."""
    return lambda name: (arrays[f"{name}.weight"], arrays[f"{name}.bias"])


def resnet_generate(arrays, z):
    wb = reader(arrays)
    w, b = wb("dense")
    x = (z @ w.T + b).reshape(len(z), -1, 4, 4)
    for block in ("up1", "up2", "up3"):
        y = relu(group_norm(x, *wb(f"{block}.norm1")))
        y = transposed(y, *wb(f"{block}.conv1"), padding=1)
        y = relu(group_norm(y, *wb(f"{block}.norm2")))
        y = conv(y, *wb(f"{block}.conv2"), padding=1)
        x = y + transposed(x, *wb(f"{block}.shortcut"), padding=0, output_padding=1)
    return np.tanh(conv(relu(group_norm(x, *wb("norm"))), *wb("conv"), padding=1))


def resnet_criticise(arrays, x):
    wb = reader(arrays)
    y = conv(relu(conv(x, *wb("conv1"), padding=1)), *wb("conv2"), stride=2, padding=1)
    x = y + conv(x, *wb("shortcut"), stride=2, padding=0)
    y = relu(conv(relu(x), *wb("down.conv1"), padding=1))
    y = conv(y, *wb("down.conv2"), stride=2, padding=1)
    x = y + conv(x, *wb("down.shortcut"), stride=2, padding=0)
    for block in ("same1", "same2"):
        y = relu(conv(relu(x), *wb(f"{block}.conv1"), padding=1))
        x = x + conv(y, *wb(f"{block}.conv2"), padding=1)
    w, b = wb("dense")
    return (relu(x).mean((2, 3)) @ w.T + b)[:, 0]


def dcgan_generate(arrays, z):
    wb = reader(arrays)
    w, b = wb("dense")
    x = relu(group_norm(z @ w.T + b, *wb("norm1"))).reshape(len(z), -1, 4, 4)
    x = relu(group_norm(transposed(x, *wb("conv1"), padding=1), *wb("norm2")))
    x = relu(group_norm(transposed(x, *wb("conv2"), padding=1), *wb("norm3")))
    return np.tanh(transposed(x, *wb("conv3"), padding=1))


def dcgan_criticise(arrays, x):
    wb = reader(arrays)
    for layer in ("conv1", "conv2", "conv3"):
        x = conv(x, *wb(layer), stride=2, padding=1)
        x = np.where(x > 0, x, 0.2 * x)
    w, b = wb("dense")
    return (x.reshape(len(x), -1) @ w.T + b)[:, 0]


NETWORKS = {
    "resnet": (resnet_generate, resnet_criticise),
    "dcgan": (dcgan_generate, dcgan_criticise),
}


@functools.cache
def pair(name):
    made = models.create_pair(name, rngs=nnx.Rngs(0), **SIZES)
    return models.split_pair(*made)


@functools.cache
def shapes(name):
    """The reference's, by our own conversion; the network above would notice."""
    return {
        player: types.MappingProxyType({k: v.shape for k, v in arrays.items()})
        for player, arrays in to_reference(name, pair(name).params, **SIZES).items()
    }


def draw(name, dtype=np.float64):
    """Weights of order 1 everywhere, biases and norms included, in their layout."""
    rng = np.random.default_rng(0)
    return {
        player: {
            path: (rng.standard_normal(shape) / 2 + ("norm" in path)).astype(dtype)
            for path, shape in arrays.items()
        }
        for player, arrays in shapes(name).items()
    }


@pytest.mark.parametrize("name", models.NAMES)
def test_outputs_losses_and_penalty_are_those_of_the_network(name):
    weights = draw(name)
    generate, criticise = NETWORKS[name]
    rng = np.random.default_rng(1)
    z, real = rng.standard_normal((2, LATENT)), rng.uniform(-1, 1, (2, 3, 32, 32))
    mixing = rng.uniform(0, 1, 2)

    fakes = generate(weights["generator"], z)
    fake_scores = criticise(weights["discriminator"], fakes)
    real_scores = criticise(weights["discriminator"], real)
    mixed = mixing[:, None, None, None] * real
    mixed += (1 - mixing[:, None, None, None]) * fakes
    norms = [slope_norm(criticise, weights["discriminator"], m) for m in mixed]
    penalty = np.mean(np.square(np.array(norms) - 1))
    wasserstein = real_scores.mean() - fake_scores.mean()
    expected = {
        "loss_generator": -fake_scores.mean(),
        "loss_discriminator": 10 * penalty - wasserstein,
        "wasserstein": wasserstein,
        "penalty": penalty,
        "slope": np.mean(norms),
    }

    with jax.enable_x64():
        params = from_reference(name, weights, **SIZES)
        ours = pair(name)
        operator = losses.wgan_gp_operator(ours.generate, ours.criticise)
        batch = losses.Batch(real.transpose(0, 2, 3, 1), z, mixing)
        batch = jax.tree.map(jax.numpy.asarray, batch)

        @jax.jit
        def run(params, batch):
            made = ours.generate(params["generator"], batch.latents)
            scores = ours.criticise(params["discriminator"], batch.pictures)
            return made, scores, operator(params, batch)[1]

        made, scores, metrics = run(params, batch)
        assert made.dtype == scores.dtype == np.float64
        chex.assert_trees_all_close(made, fakes.transpose(0, 2, 3, 1), rtol=1e-10)
        chex.assert_trees_all_close(scores, real_scores, rtol=1e-10)
        # Differences of step 1e-6: rounding of 1e-15 / 1e-6 in each coordinate, and
        # some rectifiers that switch within a step.
        chex.assert_trees_all_close(metrics, expected, rtol=1e-6)


def slope_norm(criticise, arrays, picture, step=1e-6):
    """|grad D(picture)|_2 by differences, 256 coordinates at a time.

    D is linear between the points where a rectifier switches: one side is enough.
    """
    start, squares = criticise(arrays, picture[None]), 0.0
    for first in range(0, picture.size, 256):
        ways = np.zeros((256, picture.size))
        ways[np.arange(256), first + np.arange(256)] = step
        rise = criticise(arrays, picture + ways.reshape(256, *picture.shape)) - start
        squares += np.sum(np.square(rise / step))
    return np.sqrt(squares)


@pytest.mark.parametrize("name", models.NAMES)
def test_there_and_back_is_exact_and_covers_all(name):
    params = pair(name).params
    weights = to_reference(name, params, **SIZES)
    chex.assert_trees_all_equal(from_reference(name, weights, **SIZES), params)
    drawn = draw(name, np.float32)
    back = to_reference(name, from_reference(name, drawn, **SIZES), **SIZES)
    chex.assert_trees_all_equal(back, drawn)
    for player, arrays in weights.items():
        assert sum(x.size for x in arrays.values()) == models.count(params[player])


def test_shapes_and_names_of_the_table():
    weights = shapes("resnet")
    assert weights["generator"]["dense.weight"] == (16 * WIDTH, LATENT)
    assert weights["generator"]["conv.weight"] == (3, WIDTH, 3, 3)
    assert weights["discriminator"]["conv1.weight"] == (WIDTH, 3, 3, 3)
    assert len(weights["generator"]) == 2 * (1 + 3 * 5 + 2)
    weights = shapes("dcgan")
    assert weights["generator"]["conv1.weight"] == (4 * WIDTH, 2 * WIDTH, 4, 4)
    assert weights["generator"]["norm1.bias"] == (64 * WIDTH,)
    assert weights["discriminator"]["dense.weight"] == (1, 64 * WIDTH)


def test_other_names():
    names = {"generator": {"up1": "block.0", "up1.norm1": "bn", "dense.bias": "b"}}
    weights = draw("resnet", np.float32)
    params = from_reference("resnet", weights, **SIZES)
    renamed = to_reference("resnet", params, names=names, **SIZES)
    old, new = weights["generator"], renamed["generator"]
    chex.assert_trees_all_equal(new["block.0.conv1.weight"], old["up1.conv1.weight"])
    chex.assert_trees_all_equal(new["bn.bias"], old["up1.norm1.bias"])
    chex.assert_trees_all_equal(new["b"], old["dense.bias"])
    chex.assert_trees_all_equal(new["dense.weight"], old["dense.weight"])
    chex.assert_trees_all_equal(renamed["discriminator"], weights["discriminator"])
    again = from_reference("resnet", renamed, names=names, **SIZES)
    chex.assert_trees_all_equal(again, params)


def without(weights):
    del weights["discriminator"]["down.conv2.bias"]


def with_more(weights):
    weights["generator"]["up1.norm1.num_batches_tracked"] = np.zeros(())


def with_another_shape(weights):
    weights["generator"]["conv.weight"] = np.zeros((WIDTH, 3, 3, 3))


def without_a_player(weights):
    del weights["discriminator"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            without,
            r"discriminator must have an array 'down.conv2.bias' of shape \(2,\)",
        ),
        (with_more, r"generator must have no arrays .* \['up1.norm1.num_batches_track"),
        (with_another_shape, r"'conv.weight' .* \(3, 2, 3, 3\) .* got \(2, 3, 3, 3\)"),
        (without_a_player, r"discriminator must have an array 'conv1.weight'"),
    ],
)
def test_errors_name_the_array(change, text):
    weights = draw("resnet")
    change(weights)
    with pytest.raises(ValueError, match=text):
        from_reference("resnet", weights, **SIZES)


def test_errors_of_arguments():
    weights = draw("resnet")
    with pytest.raises(ValueError, match=r"name must be one of .* got 'vit'"):
        from_reference("vit", weights, **SIZES)
    with pytest.raises(
        ValueError, match=r"\(48, 3\) at width 3 and latent 3, got \(32"
    ):
        from_reference("resnet", weights, width=3, latent=3)
    with pytest.raises(
        ValueError, match=r"'dense.kernel' of the generator must .*\(9,"
    ):
        to_reference("resnet", pair("resnet").params, width=WIDTH, latent=9)
    with pytest.raises(ValueError, match=r"must map beginnings .* got 'up9'"):
        from_reference(
            "resnet", weights, names={"generator": {"up9": "block"}}, **SIZES
        )
    with pytest.raises(ValueError, match=r"entries generator and .* got \['critic'\]"):
        from_reference("resnet", weights, names={"critic": {}}, **SIZES)
