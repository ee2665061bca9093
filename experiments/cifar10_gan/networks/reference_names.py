"""What the reference's own checkpoints call their arrays, and which of them are idle.

`REFERENCE_NAMES[pair]` is the `names` of `reference_weights` with which the state dicts
of the reference's classes load as they are, where it was trained with LayerNorm in
place of batch normalization (`--layernorm`). Its DCGAN discriminator makes two norms
that it never calls: `conv2_bn` and `conv3_bn`, four arrays that had no gradient and are
what they were made as, ones and zeros. Its leaky ReLUs have PyTorch's slope of 0.01:
`models.create_pair(..., leak=0.01)`.
"""

from collections.abc import Mapping

import numpy as np


def _block(name: str, at: str, **modules: int) -> dict[str, str]:
    """A residual block's layers to their places in its sequence, and its shortcut."""
    layers = {f"{name}.{layer}": f"{at}.block.{i}" for layer, i in modules.items()}
    return {**layers, f"{name}.shortcut": f"{at}.conv_shortcut"}


_UP = {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}

REFERENCE_NAMES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "dcgan": {
        "generator": {
            "dense": "deconv1",
            "norm1": "deconv1_bn.1",
            "conv1": "deconv2",
            "norm2": "deconv2_bn",
            "conv2": "deconv3",
            "norm3": "deconv3_bn",
            "conv3": "deconv5",
        },
        "discriminator": {"dense": "conv5"},
    },
    "resnet": {
        "generator": {
            "dense": "input",
            **_block("up1", "network.0", **_UP),
            **_block("up2", "network.1", **_UP),
            **_block("up3", "network.2", **_UP),
            "norm": "network.3",
            "conv": "network.5",
        },
        "discriminator": {
            "conv1": "block1.0",
            "conv2": "block1.2",
            "shortcut": "shortcut1",
            **_block("down", "network.0", conv1=1, conv2=3),
            "same1.conv1": "network.1.block.1",
            "same1.conv2": "network.1.block.3",
            "same2.conv1": "network.2.block.1",
            "same2.conv2": "network.2.block.3",
            "dense": "output",
        },
    },
}
"""For each pair and player, a beginning of our table's names to the reference's."""

_IDLE = {("dcgan", "discriminator"): {"conv2_bn": 2, "conv3_bn": 4}}
"""Norms that are made and not called: channels as multiples of the width."""


def without_idle(
    pair: str, player: str, arrays: Mapping[str, np.ndarray], width: int
) -> dict[str, np.ndarray]:
    """The arrays of a player without those that the reference makes and does not use.

    Raises:
        ValueError: if such an array is not what it was made as. Then the discriminator
            normalises, and is not this one.
    """
    kept = dict(arrays)
    for norm, channels in _IDLE.get((pair, player), {}).items():
        for name, made in ((f"{norm}.weight", 1), (f"{norm}.bias", 0)):
            array = kept.pop(name, None)
            if array is None:
                continue
            shape = (channels * width,)
            if array.shape != shape or not np.all(array == made):
                raise ValueError(
                    f"{name!r} of the {player} must be {shape} times {made}, as it was "
                    f"made and stays without a gradient, got shape {array.shape} from "
                    f"{array.min()} to {array.max()}; a discriminator that normalises "
                    "(--batchnorm-dis) is another network"
                )
    return kept
