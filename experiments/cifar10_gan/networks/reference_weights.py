"""Weights in the layout of PyTorch modules, to our parameters and back.

A checkpoint of the reference, or of any PyTorch program of the same architecture, holds
arrays by name, one mapping per player: ``module.state_dict()``. Pictures there are
(n, c, h, w), so kernels, and all that flattens a picture, are laid out otherwise. After
conversion outputs, losses, penalty and gradients can be compared; a gradient converts
as its parameter does.

Width F, latent size L. Every layer is two arrays, ``<layer>.weight`` of the shape given
and ``<layer>.bias`` with one number per output. Convolutions of size 3 and 4 have
padding 1; a transposed convolution of size 1 has output padding 1. "/ 2" is stride 2.

| player   | layers                     | modules                  | weight           |
|----------|----------------------------|--------------------------|------------------|
| resnet G | dense                      | Linear, out (c, h, w)    | (16 F, L)        |
|          | up1.norm1, up1.norm2       | GroupNorm(1, F)          | (F,)             |
|          | up1.conv1                  | ConvTranspose2d / 2      | (F, F, 4, 4)     |
|          | up1.conv2                  | Conv2d                   | (F, F, 3, 3)     |
|          | up1.shortcut               | ConvTranspose2d / 2      | (F, F, 1, 1)     |
|          | up2.*, up3.*               | as up1.*                 |                  |
|          | norm                       | GroupNorm(1, F)          | (F,)             |
|          | conv                       | Conv2d                   | (3, F, 3, 3)     |
| resnet D | conv1                      | Conv2d                   | (F, 3, 3, 3)     |
|          | conv2, down.conv2          | Conv2d / 2               | (F, F, 3, 3)     |
|          | shortcut                   | Conv2d / 2               | (F, 3, 1, 1)     |
|          | down.shortcut              | Conv2d / 2               | (F, F, 1, 1)     |
|          | down.conv1, same1.*, same2.| Conv2d                   | (F, F, 3, 3)     |
|          | dense                      | Linear                   | (1, F)           |
| dcgan G  | dense                      | Linear, out (c, h, w)    | (64 F, L)        |
|          | norm1                      | GroupNorm(1, 64 F), flat | (64 F,)          |
|          | conv1                      | ConvTranspose2d / 2      | (4 F, 2 F, 4, 4) |
|          | norm2                      | GroupNorm(1, 2 F)        | (2 F,)           |
|          | conv2                      | ConvTranspose2d / 2      | (2 F, F, 4, 4)   |
|          | norm3                      | GroupNorm(1, F)          | (F,)             |
|          | conv3                      | ConvTranspose2d / 2      | (F, 3, 4, 4)     |
| dcgan D  | conv1                      | Conv2d / 2               | (F, 3, 4, 4)     |
|          | conv2                      | Conv2d / 2               | (2 F, F, 4, 4)   |
|          | conv3                      | Conv2d / 2               | (4 F, 2 F, 4, 4) |
|          | dense                      | Linear, in (c, h, w)     | (1, 64 F)        |

The names are ours. A checkpoint with other names is read through ``names``, which
renames single arrays, layers or groups of layers, the longest beginning wins; those of
the reference are `reference_names.REFERENCE_NAMES`, and what is idle there is left out.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from experiments.cifar10_gan.networks.models import NAMES
from experiments.cifar10_gan.networks.reference_names import without_idle

Params = dict[str, Any]
Names = Mapping[str, Mapping[str, str]]


class _Array(NamedTuple):
    """How one array goes from PyTorch's layout to ours: split, permute, merge.

    Attributes:
        shape: in PyTorch.
        axes: of `split`, in our order.
        split: `shape` with a flattened picture as (c, 4, 4); empty if none is.
        merged: our shape; empty if the permuted one.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    split: tuple[int, ...] = ()
    merged: tuple[int, ...] = ()

    @property
    def permuted(self) -> tuple[int, ...]:
        return tuple((self.split or self.shape)[axis] for axis in self.axes)

    @property
    def ours(self) -> tuple[int, ...]:
        return self.merged or self.permuted

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        split = array.reshape(self.split or self.shape)
        return split.transpose(self.axes).reshape(self.ours)

    def to_reference(self, array: np.ndarray) -> np.ndarray:
        back = np.argsort(self.axes)
        return array.reshape(self.permuted).transpose(back).reshape(self.shape)


_Arrays = dict[str, tuple[str, _Array]]
"""Name in the table to (name in our flattened tree, array)."""


def from_reference(
    name: str,
    weights: Mapping[str, Mapping[str, Any]],
    *,
    width: int,
    latent: int,
    names: Names | None = None,
) -> Params:
    """Our parameters from arrays in the reference's layout.

    Args:
        name: of the pair, one of `models.NAMES`.
        weights: ``{"generator": arrays, "discriminator": arrays}``, arrays by name as
            in the table above, as ``state_dict()`` gives them; anything ``np.asarray``
            takes.
        width: F.
        latent: L.
        names: for each player, a beginning of a name in the table to what stands in
            `weights` instead; None if nothing is called otherwise.

    Returns:
        The ``params`` of `models.split_pair`, in the arrays' dtypes.

    Raises:
        ValueError: for an unknown pair, or an array that is missing, surplus, of
            another shape than in the table, or idle and changed.
    """
    result: Params = {}
    for player, arrays in _pair(name, width, latent).items():
        rename = _renaming(player, arrays, names)
        renamed = {rename(path): entry for path, entry in arrays.items()}
        given = {path: np.asarray(x) for path, x in weights.get(player, {}).items()}
        given = without_idle(name, player, given, width)
        shapes = {path: array.shape for path, (_, array) in renamed.items()}
        _check(player, shapes, given, width, latent)
        leaves = {
            ours: jnp.asarray(array.to_ours(given[path]))
            for path, (ours, array) in renamed.items()
        }
        result[player] = traverse_util.unflatten_dict(leaves, sep=".")
    return result


def to_reference(
    name: str,
    params: Mapping[str, Any],
    *,
    width: int,
    latent: int,
    names: Names | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of `from_reference`, of `params` or of a dual vector; NumPy copies.

    Raises:
        ValueError: for an unknown pair, or a leaf that is missing, surplus or of
            another shape than `models.create_pair` makes.
    """
    result: dict[str, dict[str, np.ndarray]] = {}
    for player, arrays in _pair(name, width, latent).items():
        rename = _renaming(player, arrays, names)
        flat = traverse_util.flatten_dict(params.get(player, {}), sep=".")
        given = {path: np.asarray(leaf) for path, leaf in flat.items()}
        shapes = {ours: array.ours for ours, array in arrays.values()}
        _check(player, shapes, given, width, latent)
        result[player] = {
            rename(path): array.to_reference(given[ours]).copy()
            for path, (ours, array) in arrays.items()
        }
    return result


def _check(
    player: str,
    shapes: dict[str, tuple],
    given: dict[str, np.ndarray],
    width: int,
    latent: int,
) -> None:
    for path, shape in shapes.items():
        if path not in given:
            raise ValueError(
                f"the {player} must have an array {path!r} of shape {shape}, got "
                f"{sorted(given)}; give all arrays, and map other names by names="
            )
        if given[path].shape != shape:
            raise ValueError(
                f"{path!r} of the {player} must have shape {shape} at width "
                f"{width} and latent {latent}, got {given[path].shape}; check both"
            )
    surplus = sorted(set(given) - set(shapes))
    if surplus:
        raise ValueError(
            f"the {player} must have no arrays but those of the table, got {surplus} "
            "besides; drop them, or map them by names="
        )


def _renaming(
    player: str, arrays: _Arrays, names: Names | None
) -> Callable[[str], str]:
    """Name in the table to name in the checkpoint."""
    unknown = sorted(set(names or {}) - {"generator", "discriminator"})
    if unknown:
        raise ValueError(
            f"names must have the entries generator and discriminator, got {unknown}; "
            "put the names of a player's arrays under the player"
        )
    mapping = (names or {}).get(player, {})
    for beginning in mapping:
        if not any(f"{path}.".startswith(f"{beginning}.") for path in arrays):
            raise ValueError(
                f"names of the {player} must map beginnings of its names, got "
                f"{beginning!r}; its arrays are {list(arrays)}"
            )

    def rename(path: str) -> str:
        fitting = [key for key in mapping if f"{path}.".startswith(f"{key}.")]
        if not fitting:
            return path
        longest = max(fitting, key=len)
        return mapping[longest] + path[len(longest) :]

    return rename


# The table, as data.


def _pair(name: str, f: int, latent: int) -> dict[str, _Arrays]:
    if name not in NAMES:
        raise ValueError(f"name must be one of {NAMES}, got {name!r}; pick one of them")
    if name == "resnet":
        return {"generator": _generator(f, latent), "discriminator": _discriminator(f)}
    of_picture = _Array((1, 64 * f), (2, 3, 1, 0), (1, 4 * f, 4, 4), (64 * f, 1))
    return {
        "generator": {
            **_dense_to_picture("dense", latent, 4 * f),
            **_norm("norm1", 4 * f, picture=True),
            **_transposed("conv1", 4 * f, 2 * f, 4),
            **_norm("norm2", 2 * f),
            **_transposed("conv2", 2 * f, f, 4),
            **_norm("norm3", f),
            **_transposed("conv3", f, 3, 4),
        },
        "discriminator": {
            **_conv("conv1", 3, f, 4),
            **_conv("conv2", f, 2 * f, 4),
            **_conv("conv3", 2 * f, 4 * f, 4),
            **_layer("dense", of_picture, _Array((1,), (0,))),
        },
    }


def _generator(f: int, latent: int) -> _Arrays:
    arrays = _dense_to_picture("dense", latent, f)
    for block in ("up1", "up2", "up3"):
        arrays |= _norm(f"{block}.norm1", f)
        arrays |= _transposed(f"{block}.conv1", f, f, 4)
        arrays |= _norm(f"{block}.norm2", f)
        arrays |= _conv(f"{block}.conv2", f, f, 3)
        arrays |= _transposed(f"{block}.shortcut", f, f, 1)
    return arrays | _norm("norm", f) | _conv("conv", f, 3, 3)


def _discriminator(f: int) -> _Arrays:
    arrays = _conv("conv1", 3, f, 3) | _conv("conv2", f, f, 3)
    arrays |= _conv("shortcut", 3, f, 1)
    for block in ("down", "same1", "same2"):
        arrays |= _conv(f"{block}.conv1", f, f, 3) | _conv(f"{block}.conv2", f, f, 3)
    arrays |= _conv("down.shortcut", f, f, 1)
    return arrays | _layer("dense", _Array((1, f), (1, 0)), _Array((1,), (0,)))


def _layer(name: str, kernel: _Array, bias: _Array) -> _Arrays:
    return {
        f"{name}.weight": (f"{name}.kernel", kernel),
        f"{name}.bias": (f"{name}.bias", bias),
    }


def _conv(name: str, c: int, f: int, size: int) -> _Arrays:
    """OIHW to HWIO."""
    return _layer(name, _Array((f, c, size, size), (2, 3, 1, 0)), _Array((f,), (0,)))


def _transposed(name: str, c: int, f: int, size: int) -> _Arrays:
    """IOHW to HWIO, not flipped."""
    return _layer(name, _Array((c, f, size, size), (2, 3, 0, 1)), _Array((f,), (0,)))


def _norm(name: str, channels: int, *, picture: bool = False) -> _Arrays:
    """Per channel, or per position and channel of a picture."""
    array = _Array((channels,), (0,))
    if picture:
        array = _Array((16 * channels,), (1, 2, 0), (channels, 4, 4))
    return {
        f"{name}.weight": (f"{name}.scale", array),
        f"{name}.bias": (f"{name}.offset", array),
    }


def _dense_to_picture(name: str, inputs: int, channels: int) -> _Arrays:
    size, split = 16 * channels, (channels, 4, 4)
    weight = _Array((size, inputs), (3, 1, 2, 0), (*split, inputs), (inputs, size))
    return _layer(name, weight, _Array((size,), (1, 2, 0), split, (size,)))
