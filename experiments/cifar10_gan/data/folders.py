"""Folders of pictures: which files are pictures, in which order, of which split."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from experiments.cifar10_gan.data import fitting, splits
from experiments.common.progress import Loading

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
MOST_PIXELS = 1 << 26
"""Of one picture; a file of a few kilobytes can hold more than memory does."""
_PART = 4096  # files handed to the threads at once


def load_folder(folder: Path, split: str, *, size: int | None = None) -> np.ndarray:
    """Loads a split of a folder of pictures, in the sorted order of their paths.

    Files ending in .png, .jpg, .jpeg, .webp or .bmp, in capitals too, are pictures, in
    subfolders as well; names that start with a dot, and symbolic links to folders, are
    passed over. A subfolder train/ makes train/, test/, validation/, val/ and valid/
    the splits, and other files are left alone; without it all files are one set. See
    `splits` for what stands in for a missing test/, and `fitting` for other sizes.
    Pictures are turned as their EXIF orientation says.

    Args:
        folder: an existing folder.
        split: "train", "test", or the name of another of these subfolders.
        size: loads the first `size` pictures; None loads all.

    Returns:
        uint8 (n, 32, 32, 3).

    Raises:
        ValueError: if there is no such split, no picture or fewer than size, or a file
            that is not a whole, readable picture; the message names it.
    """
    source = str(folder)
    names = (splits.TRAIN, splits.TEST, *splits.STAND_INS)
    available = [name for name in names if (folder / name).is_dir()]
    if available and splits.TRAIN not in available:
        raise ValueError(
            f"source {source!r} must have a subfolder train/ beside {available[0]}/, "
            "got none; move the training pictures there"
        )
    part = splits.choose_part(available, split, source)
    files = list_pictures(folder / part.name)
    rows = splits.choose_rows(len(files), part, size, source)
    return _read_all([files[row] for row in rows], source)


def list_pictures(folder: Path) -> list[Path]:
    """The pictures under a folder, sorted by the parts of their paths.

    The order is that of code points, so it depends neither on the file system nor on
    the language settings.

    Raises:
        ValueError: if there is none.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()

    def refuse(error: OSError) -> None:
        raise ValueError(
            f"source must be a folder that can be read, got {error}; check its rights"
        ) from error

    for where, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                found.append(Path(where, name))
            else:
                others[suffix or "no suffix"] += 1
    if not found:
        rest = ", ".join(f"{n} with {suffix}" for suffix, n in others.most_common(5))
        raise ValueError(
            f"source {str(folder)!r} must hold pictures ({', '.join(SUFFIXES)}), got "
            f"{rest or 'no files'}; name the folder that holds them (a data set whose "
            "name is that of a folder is read from a working directory without it)"
        )
    return sorted(found, key=lambda path: path.parts)


def read_picture(path: Path) -> np.ndarray:
    """One picture file as 32 x 32 x 3 bytes.

    Raises:
        ValueError: if it is not a whole, readable picture; the message names it.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("no regular file")
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size  # of the header: nothing is decoded yet
            if width * height > MOST_PIXELS:
                raise OSError(f"{width} x {height} pixels, over {MOST_PIXELS:,}")
            # A large JPEG is decoded at an eighth, a quarter or half of its size, as
            # long as that is no smaller than what the resampling starts from.
            least = int(fitting.BLOCK_UNTIL * fitting.SIDE)
            image.draft(None, (least, least))
            ImageOps.exif_transpose(image, in_place=True)
            return fitting.fit_image(image)
    except Exception as error:  # Pillow has no common error of broken files
        raise ValueError(
            f"picture {str(path)!r} must be a whole, readable picture, got "
            f"{type(error).__name__}: {error}; repair or remove it"
        ) from error


def _read_all(files: list[Path], source: str) -> np.ndarray:
    pictures = np.empty((len(files), *fitting.SHAPE), np.uint8)
    progress = Loading(source, len(files))
    done = 0
    # Pillow lets go of the interpreter lock while it decodes. In parts: an error, or a
    # keyboard interrupt, waits for little more than the pictures at hand.
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(files), _PART):
            part = files[start : start + _PART]
            for picture in threads.map(read_picture, part):
                pictures[done] = picture
                done += 1
                progress.update(done)
    return pictures
