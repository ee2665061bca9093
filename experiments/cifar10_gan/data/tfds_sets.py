"""Image sets of TensorFlow Datasets.

TensorFlow and TensorFlow Datasets are imported only when a set of theirs is asked for,
and TensorFlow is kept off the GPU, whose memory it would take from JAX.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cifar10_gan.data import fitting, splits
from experiments.common.progress import Loading

_BATCH = 500


def load_tfds(
    source: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    size: int | None = None,
) -> np.ndarray:
    """Loads a split of a prepared image set, in the set's own order of reading.

    The pictures are the feature "image", else the only feature that is an image. See
    `splits` for what stands in for a missing test split, and `fitting` for pictures of
    other sizes or channels.

    Args:
        source: "name", "name/config", "name:version" or "name/config:version"; or the
            folder of a prepared set, which holds dataset_info.json.
        split: "train", "test", or another of the set's splits.
        data_dir: where sets are prepared; None is TFDS's default.
        size: loads the first `size` pictures; None loads all.

    Returns:
        uint8 (n, 32, 32, 3).

    Raises:
        ValueError: if there is no such set or split, if it is not prepared or not
            whole, or has no pictures of 8 or 16 bits.
        ImportError: if TensorFlow or TensorFlow Datasets is missing.
    """
    builder, tf, tfds = _builder(source, data_dir)
    part = splits.choose_part(list(builder.info.splits), split, source)
    count = builder.info.splits[part.name].num_examples
    rows = splits.choose_rows(count, part, size, source)
    images = _images(builder.info.features, tfds)
    name = _choose_image(images, builder.info.features, source)
    dataset = builder.as_dataset(
        split=part.name,
        shuffle_files=False,
        decoders={
            other: tfds.decode.SkipDecoding() for other in images if other != name
        },
        read_config=tfds.ReadConfig(try_autocache=False),  # it is read only once
    ).map(lambda columns: columns[name])
    # Pictures of different sizes make no batch: they come one by one.
    fixed = None not in images[name].shape
    dataset = dataset.batch(_BATCH if fixed else 1)
    try:
        return _gather(tfds.as_numpy(dataset), rows, source)
    except tf.errors.OpError as error:
        raise ValueError(
            f"source {source!r} must be readable, got {type(error).__name__}: "
            f"{error.message} in {str(builder.data_dir)!r}; remove that folder and "
            "prepare the set again"
        ) from error


def _builder(source: str, data_dir: str | os.PathLike[str] | None) -> tuple:
    """The set's builder, and the two modules."""
    if "tensorflow_datasets" not in sys.modules:
        print(f"loading {source}: importing TensorFlow", file=sys.stderr, flush=True)
    try:
        import tensorflow as tf
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"source {source!r} needs tensorflow and tensorflow-datasets ({error}); "
            "install qgenx_jax[experiments], or use 'digits', a folder of pictures "
            "or an .npz file"
        ) from error
    tf.config.set_visible_devices([], "GPU")
    folder = Path(source).expanduser()
    if (folder / "dataset_info.json").is_file():
        try:
            return tfds.builder_from_directory(folder), tf, tfds
        except Exception as error:  # many kinds, protobuf's and TFDS's own
            raise _damaged(source, str(folder), error) from error
    where = None if data_dir is None else os.fspath(data_dir)
    try:
        builder = tfds.builder(source, data_dir=where, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            "source must be 'digits', 'embedded', an existing folder of pictures, a "
            "path ending in .npy or .npz, or a set of TensorFlow Datasets, got "
            f"{source!r}; use 'cifar10' or 'digits'"
        ) from error
    except Exception as error:
        named = isinstance(
            error, ValueError | AssertionError
        )  # a name, config, version
        if not named or "DatasetInfo" in str(error):
            within = "its folder in " + (where or "the data_dir of TFDS")
            raise _damaged(source, within, error) from error
        reason = str(error).partition("\n")[0]
        raise ValueError(
            "source must be 'name', 'name/config' or 'name:version' of a set of "
            f"TensorFlow Datasets, got {source!r} ({reason}); use 'cifar10', say"
        ) from error
    directory = Path(str(builder.data_dir))
    if not directory.is_dir() or not list(builder.info.splits):
        raise ValueError(
            f"source {source!r} must be prepared, got no data in {str(directory)!r}; "
            f"run tfds.builder({source!r}, data_dir=...).download_and_prepare() once, "
            "or pass the data_dir that holds it"
        )
    return builder, tf, tfds


def _damaged(source: str, folder: str, error: Exception) -> ValueError:
    what = " ".join(str(error).split())[:200]
    return ValueError(
        f"source {source!r} must have its dataset_info.json, features.json and other "
        f"notes whole, got {type(error).__name__}: {what}; remove {folder} and prepare "
        "the set again"
    )


def _images(features: Any, tfds: Any) -> dict[str, Any]:
    """The features that are images, by name."""
    items = features.items() if isinstance(features, tfds.features.FeaturesDict) else ()
    return {name: x for name, x in items if isinstance(x, tfds.features.Image)}


def _choose_image(images: dict[str, Any], features: Any, source: str) -> str:
    """The name of the feature that holds the pictures."""
    name = "image" if "image" in images else next(iter(images), None)
    if name is None or (len(images) > 1 and name != "image"):
        raise ValueError(
            f"source {source!r} must have a feature 'image', or a single image "
            f"feature, got {features}; use an image set such as 'cifar10'"
        )
    dtype = np.dtype(images[name].np_dtype)
    if dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"source {source!r} must have pictures of uint8 or uint16, got {dtype}; "
            "save them as bytes in an .npz file"
        )
    return name


def _gather(parts: Iterable[np.ndarray], rows: np.ndarray, source: str) -> np.ndarray:
    """The pictures of the given ascending rows of all the parts in a row."""
    pictures = np.empty((len(rows), *fitting.SHAPE), np.uint8)
    progress = Loading(source, len(rows))
    read = done = 0
    for part in parts:
        last = np.searchsorted(rows, read + len(part))
        chosen = part[rows[done:last] - read]
        if chosen.shape[1:] == fitting.SHAPE and chosen.dtype == np.uint8:
            pictures[done:last] = chosen
        else:
            for row, picture in enumerate(chosen, done):
                pictures[row] = fitting.fit_array(picture)
        read, done = read + len(part), int(last)
        progress.update(done)
        if done == len(rows):
            return pictures
    raise ValueError(
        f"source {source!r} must hold {int(rows[-1]) + 1} pictures, as its "
        f"dataset_info.json says, got {read}; prepare the set again"
    )
