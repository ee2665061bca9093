"""The handwritten digits that scikit-learn carries: pictures that need no download.

1,797 of 8 x 8 pixels and 17 grey levels; here white on black and 32 x 32, by a bicubic
resize, which leaves no steps between the old pixels. Every tenth is held out, as of any
source without test pictures (`splits`).

Reference: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
Learning Repository, 1998, whose test pictures these are.
"""

import functools

import numpy as np
from PIL import Image

from experiments.cifar10_gan.data import splits
from experiments.cifar10_gan.data.pictures import SIDE

DIGITS = "digits"
CLASSES = 10

_BRIGHTEST = 16


def load_digits(
    split: str = splits.TRAIN, *, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The digits of a split, and which they are.

    Args:
        split: "train", 1,617 of them, or "test", the other 180.
        size: takes the first `size`; None takes all.

    Returns:
        uint8 (n, 32, 32, 3) with three equal channels, and integers (n,) from 0 to 9.

    Raises:
        ValueError: for another split, or a size that is not available.
        ImportError: if scikit-learn is missing.
    """
    part = splits.choose_part((), split, DIGITS)
    pictures, labels = _all_digits()
    rows = splits.choose_rows(len(pictures), part, size, DIGITS)
    return pictures[rows], labels[rows]


@functools.cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"source 'digits' needs scikit-learn, got {error}; install "
            "qgenx_jax[experiments], or use 'embedded', a folder of pictures or an "
            ".npz file"
        ) from error
    rows, labels = datasets.load_digits(return_X_y=True)
    pictures = np.asarray(rows).reshape(-1, 8, 8)
    return np.stack([_enlarged(picture) for picture in pictures]), np.asarray(labels)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """(8, 8) from 0 to 16 as (32, 32, 3) bytes; a bicubic overshoots, and is cut."""
    image = Image.fromarray(picture.astype(np.float32) * (255 / _BRIGHTEST))
    smooth = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    grey = np.clip(np.rint(smooth), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
