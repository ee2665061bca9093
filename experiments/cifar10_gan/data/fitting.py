"""Any picture as 32 x 32 x 3 bytes.

Greyscale becomes three equal channels, of 16 bits the high byte is taken, a palette is
looked up, CMYK is converted, and alpha is composited over black, where a transparent
pixel shows nothing. The largest centred square is cut out and resampled by Lanczos,
whose kernel widens with the reduction, so that every pixel of the square has a say; a
square of more than three times the size is averaged over whole blocks first. A picture
of 32 x 32 x 3 bytes stays as it is, bit for bit.
"""

import numpy as np
from PIL import Image

from experiments.cifar10_gan.data.pictures import SIDE

SHAPE = (SIDE, SIDE, 3)

BLOCK_UNTIL = 3.0
"""Whole blocks are averaged down to this many times the size, then Lanczos takes over.

Three is Pillow's recommendation for a result close to that of Lanczos alone.
"""


def check_pictures(pictures: np.ndarray, argument: str) -> None:
    """Refuses what is not a set of pictures.

    Raises:
        ValueError: unless they are uint8 of shape (n, 32, 32, 3), n at least 1.
    """
    fits = pictures.ndim == 4 and pictures.shape[1:] == SHAPE and len(pictures) > 0
    if not fits or pictures.dtype != np.uint8:
        raise ValueError(
            f"{argument} must hold uint8 of shape (n, {SIDE}, {SIDE}, 3) with n >= 1, "
            f"got {pictures.dtype} of shape {pictures.shape}; convert each picture "
            "with experiments.cifar10_gan.data.fitting.fit_array first"
        )


def fit_array(picture: np.ndarray) -> np.ndarray:
    """A picture in an array as 32 x 32 x 3 bytes.

    Args:
        picture: uint8 or uint16, (h, w) or (h, w, c); c = 1 is grey, 2 grey and alpha,
            3 RGB, 4 RGB and alpha.

    Returns:
        uint8 (32, 32, 3).

    Raises:
        ValueError: for another dtype or shape.
    """
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.shape == SHAPE and picture.dtype == np.uint8:
        return picture
    if picture.ndim == 2:
        picture = picture[..., None]
    channels = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    fits = picture.ndim == 3 and picture.shape[2] in channels and picture.size > 0
    if not fits or picture.dtype != np.uint8:
        raise ValueError(
            "picture must be uint8 or uint16 of shape (h, w) or (h, w, 1 to 4), got "
            f"{picture.dtype} of shape {picture.shape}; scale it to bytes first"
        )
    height, width, count = picture.shape
    # frombytes: fromarray has no mode for a trailing axis of one
    image = Image.frombytes(channels[count], (width, height), picture.tobytes())
    return fit_image(image)


def fit_image(image: Image.Image) -> np.ndarray:
    """An open image as 32 x 32 x 3 bytes; its first frame, if it has several.

    Raises:
        ValueError: if its pixels are of more than 16 bits, or floating.
    """
    image = _to_rgb(image)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if (width, height) != (side, side):
        image = image.crop((left, top, left + side, top + side))
    if side != SIDE:
        image = image.resize(
            (SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=BLOCK_UNTIL
        )
    return np.array(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        high = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(
            f"image must have 8 or 16 bits per channel, got mode {image.mode!r}; "
            "scale it to 8 bits first"
        )
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert("RGB")
