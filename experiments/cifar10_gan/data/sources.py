"""Where pictures come from: digits, a procedure, arrays, folders, TensorFlow Datasets.

Every process of a run loads the whole set, 3 KiB a picture (150 MB for CIFAR-10), and
takes its own workers' rows from it (`batches`), so that no two processes need agree on
more than a seed.
"""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.cifar10_gan.data import folders, headers, splits, tfds_sets
from experiments.cifar10_gan.data.digits import DIGITS, load_digits
from experiments.cifar10_gan.data.fitting import check_pictures
from experiments.cifar10_gan.data.pictures import draw_pictures

EMBEDDED = "embedded"
EMBEDDED_SIZE = 10_000
"""How many generated pictures there are unless a size is given."""

_STREAMS = (splits.TRAIN, splits.TEST)


def load_pictures(
    source: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    size: int | None = None,
) -> np.ndarray:
    """Loads the pictures of one split.

    Args:
        source: one of

            - ``"digits"``: those of scikit-learn (`digits.load_digits`);
            - ``"embedded"``: generated pictures, which need no package;
            - a path ending in ``.npy`` or ``.npz``: uint8 (n, 32, 32, 3), with an array
              per split, or one array of any name;
            - an existing folder of png, jpg, webp or bmp files (`folders.load_folder`);
            - an image set of TensorFlow Datasets, such as ``"cifar10"``,
              ``"name/config"`` or ``"name:version"``, or the folder of a prepared one
              (`tfds_sets.load_tfds`).

            An existing folder wins over a data set of the same name.
        split: ``"train"``, ``"test"``, or another that the source has. `splits` says
            what is held out of a source without test pictures; generated pictures have
            two disjoint streams.
        data_dir: where TFDS data sets are prepared; None is TFDS's default.
        seed: of the generated pictures.
        size: takes the first `size` pictures; None takes all, or 10,000 generated ones.

    Returns:
        uint8 of shape (n, 32, 32, 3). Folders and data sets are fitted to that by
        `fitting`; pictures that have it already, as CIFAR-10's, are unchanged.

    Raises:
        ValueError: for an unknown source or split, a file that is not readable, an
            array of another shape or dtype, a data set that is not prepared, or a size
            that is not available.
        ImportError: if scikit-learn or TensorFlow Datasets is needed and missing.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1, got {size}; leave it out for all")
    if source == DIGITS:
        return load_digits(split, size=size)[0]
    if source == EMBEDDED:
        if split not in _STREAMS:
            raise ValueError(
                f"split of embedded pictures must be one of {_STREAMS}, got {split!r}; "
                "use 'train'"
            )
        n = EMBEDDED_SIZE if size is None else size
        return draw_pictures(n, seed=seed, stream=_STREAMS.index(split))
    path = Path(source).expanduser()
    if source.endswith((".npy", ".npz")):
        return _load_array(path, split, size)
    if path.is_dir() and not (path / "dataset_info.json").is_file():
        return folders.load_folder(path, split, size=size)
    if not path.exists() and source.startswith((".", "/", "~")):
        raise ValueError(
            f"source must be a folder that exists, got {source!r}; name a folder of "
            "pictures, a data set such as 'cifar10', or 'digits'"
        )
    if path.is_file():
        raise ValueError(
            "source must be a folder or a file ending in .npy or .npz, got the file "
            f"{source!r}; name the folder that it is in"
        )
    return tfds_sets.load_tfds(source, split, data_dir=data_dir, size=size)


def _load_array(path: Path, split: str, size: int | None) -> np.ndarray:
    source = str(path)
    if not path.is_file():
        raise ValueError(
            f"source must name an existing file, got {source!r}; write one with "
            "numpy.savez(path, train=pictures)"
        )
    # Opened here: NumPy leaves a broken file open.
    with path.open("rb") as file:
        with _readable(source):
            headers.check_arrays(path)
            # Pickled objects could run code on loading, and no picture needs them.
            loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            part = splits.choose_part((), split, source)
            pictures = loaded
        else:
            name, part = _choose_array(list(loaded.files), split, source)
            with _readable(source):
                pictures = loaded[name]
    check_pictures(pictures, f"source {source!r}")
    rows = splits.choose_rows(len(pictures), part, size, source)
    # a slice is a view: no second copy of the whole set
    return pictures[: len(rows)] if part.share == "all" else pictures[rows]


def _choose_array(names: list[str], split: str, source: str) -> tuple[str, splits.Part]:
    """The array of an .npz file that a split is in."""
    known = {splits.TRAIN, splits.TEST, *splits.STAND_INS, split}
    if len(names) == 1 and names[0] not in known:
        return names[0], splits.choose_part((), split, source)
    if not known.intersection(names):
        raise ValueError(
            f"source {source!r} must hold one array, or arrays named as splits, got "
            f"{names}; save it with numpy.savez(path, train=pictures, test=others)"
        )
    part = splits.choose_part(names, split, source)
    return part.name, part


_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, MemoryError)


@contextlib.contextmanager
def _readable(source: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise ValueError(
            f"source {source!r} must be a whole array file, got "
            f"{type(error).__name__}: {error}; write it again with numpy.savez"
        ) from error
