"""Where pictures come from, and the batches that workers take from them.

TensorFlow and TensorFlow Datasets are imported only when a data set of theirs is asked
for, and TensorFlow is kept off the GPU, whose memory it would take from JAX.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from experiments.cifar10_gan.pictures import SIDE, draw_pictures, to_signed

EMBEDDED_SIZE = 10_000
"""How many generated pictures there are unless a size is given."""

_SHAPE = (SIDE, SIDE, 3)
_SPLITS = ("train", "test")


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
      source: ``"embedded"`` for generated pictures; a path ending in ``.npy`` or
        ``.npz`` (an array named as the split, or a single one); else the name of a
        TensorFlow Datasets image set of 32 x 32 x 3 pictures, such as ``"cifar10"``.
      split: ``"train"`` or ``"test"`` for generated pictures (disjoint streams);
        TFDS's own split names otherwise. A ``.npy`` file is one split, whichever.
      data_dir: where TFDS data sets are prepared; None is TFDS's default.
      seed: of the generated pictures.
      size: takes the first `size` pictures; None takes all, or 10,000 generated ones.

    Returns:
      uint8 of shape (n, 32, 32, 3).

    Raises:
      ValueError: for an unknown source or split, pictures of another shape or dtype,
        a data set that is not prepared, or a size that is not available.
      ImportError: if TensorFlow Datasets is needed and missing.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1, got {size}; leave it out for all")
    if source == "embedded":
        if split not in _SPLITS:
            raise ValueError(
                f"split of embedded pictures must be one of {_SPLITS}, got {split!r}; "
                "use 'train'"
            )
        n = EMBEDDED_SIZE if size is None else size
        return draw_pictures(n, seed=seed, stream=_SPLITS.index(split))
    if source.endswith((".npy", ".npz")):
        pictures = _load_array(Path(source), split)
    else:
        pictures = _load_tfds(source, split, data_dir)
    if size is not None and size > len(pictures):
        raise ValueError(
            f"size must be at most the {len(pictures)} pictures of {source!r} "
            f"({split}), got {size}; leave it out for all"
        )
    return pictures[:size]


class Position(TypedDict):
    """Where a `Batches` iterator stands; plain integers, fit for JSON."""

    seed: int
    epoch: int
    step: int
    batch_size: int
    workers: int
    pictures: int


class Batches(Iterator[np.ndarray]):
    """Endless batches for K workers, without replacement within an epoch.

    Epoch e uses the permutation that (seed, e) determines. Step t of an epoch takes its
    elements t K B to (t + 1) K B, B in a row for each worker, so that no two workers
    share an example in an epoch; a remainder smaller than K B is left out, a different
    one each epoch. The position is a pair of integers: `state` and `restore` resume a
    run exactly, at no cost.
    """

    def __init__(
        self,
        pictures: np.ndarray,
        *,
        batch_size: int,
        workers: int = 1,
        seed: int = 0,
        local_workers: Sequence[int] | None = None,
    ) -> None:
        """Starts at the first batch of epoch 0.

        Args:
          pictures: uint8 (n, 32, 32, 3); kept, not copied.
          batch_size: B, examples per worker and batch.
          workers: K, over all processes.
          seed: of the permutations; the same in all processes.
          local_workers: whose batches to yield, in this order, for a process that holds
            some of the workers; None is all K.

        Raises:
          ValueError: for wrong pictures, a size below 1, B K > n, a negative seed, or a
            local worker outside [0, K).
        """
        _check_pictures(pictures, "pictures")
        for name, value in (("batch_size", batch_size), ("workers", workers)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}; pass 1")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}; pass 0")
        if batch_size * workers > len(pictures):
            raise ValueError(
                "batch_size * workers must be at most the number of pictures, got "
                f"{batch_size} * {workers} = {batch_size * workers} > {len(pictures)}; "
                "lower batch_size or load more pictures"
            )
        local = range(workers) if local_workers is None else local_workers
        if any(not 0 <= worker < workers for worker in local):
            raise ValueError(
                f"local_workers must lie in [0, {workers}), got {list(local)}; count "
                "workers over all processes"
            )
        self._pictures = pictures
        self._batch_size = batch_size
        self._workers = workers
        self._seed = seed
        self._local = np.asarray(local, np.int64)
        self._epoch = self._step = 0
        self._order = self._permutation()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, n // (K B)."""
        return len(self._pictures) // (self._batch_size * self._workers)

    def __next__(self) -> np.ndarray:
        """The next batch: float32 in [-1, 1], (local workers, B, 32, 32, 3)."""
        if self._step == self.steps_per_epoch:
            self._epoch, self._step = self._epoch + 1, 0
            self._order = self._permutation()
        share = self._batch_size * self._workers
        taken = self._order[self._step * share : (self._step + 1) * share]
        self._step += 1
        rows = taken.reshape(self._workers, self._batch_size)[self._local]
        return to_signed(self._pictures[rows])

    def state(self) -> Position:
        """The position before the next batch, to be saved with a checkpoint."""
        return {
            "seed": self._seed,
            "epoch": self._epoch,
            "step": self._step,
            "batch_size": self._batch_size,
            "workers": self._workers,
            "pictures": len(self._pictures),
        }

    def restore(self, state: Position) -> None:
        """Goes to a position that `state` gave.

        Raises:
          ValueError: if it belongs to other pictures, sizes or another seed, or lies
            outside an epoch.
        """
        for name in ("seed", "batch_size", "workers", "pictures"):
            mine = self.state()[name]
            if state[name] != mine:
                raise ValueError(
                    f"state must have {name} {mine}, as these batches do, got "
                    f"{state[name]}; start them with the arguments of the saved run"
                )
        if state["epoch"] < 0 or not 0 <= state["step"] <= self.steps_per_epoch:
            raise ValueError(
                f"state must have epoch >= 0 and step in [0, {self.steps_per_epoch}], "
                f"got {state['epoch']} and {state['step']}; pass what state() returned"
            )
        self._epoch, self._step = int(state["epoch"]), int(state["step"])
        self._order = self._permutation()

    def _permutation(self) -> np.ndarray:
        rng = np.random.default_rng([self._seed, self._epoch])
        return rng.permutation(len(self._pictures))


def _load_array(path: Path, split: str) -> np.ndarray:
    if not path.is_file():
        raise ValueError(
            f"source must name an existing file, got {str(path)!r}; write one with "
            "numpy.savez(path, train=pictures)"
        )
    # Pickled objects could run code on loading, and no picture needs them.
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        pictures = loaded
    else:
        with loaded:
            names = list(loaded.files)
            name = names[0] if len(names) == 1 else split
            if name not in names:
                raise ValueError(
                    f"source {str(path)!r} must hold one array or one named {split!r}, "
                    f"got {names}; save it with numpy.savez(path, {split}=pictures)"
                )
            pictures = loaded[name]
    _check_pictures(pictures, f"source {str(path)!r}")
    return pictures


def _load_tfds(
    name: str, split: str, data_dir: str | os.PathLike[str] | None
) -> np.ndarray:
    try:
        import tensorflow as tf
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"source {name!r} needs tensorflow and tensorflow-datasets ({error}); "
            "install qgenx_jax[experiments], or use 'embedded' or an .npz file"
        ) from error
    tf.config.set_visible_devices([], "GPU")
    where = None if data_dir is None else os.fspath(data_dir)
    try:
        builder = tfds.builder(name, data_dir=where, try_gcs=False)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            "source must be 'embedded', a path ending in .npy or .npz, or a set of "
            f"TensorFlow Datasets, got {name!r}; use 'cifar10' or 'embedded'"
        ) from error
    directory = Path(str(builder.data_dir))
    if not directory.is_dir():
        raise ValueError(
            f"source {name!r} must be prepared, got no data in {str(directory)!r}; run "
            f"tfds.builder({name!r}, data_dir=...).download_and_prepare() once, or "
            "pass the data_dir that holds it"
        )
    splits = list(builder.info.splits)
    if split not in splits:
        raise ValueError(
            f"split of {name!r} must be one of {splits}, got {split!r}; use 'train'"
        )
    # batch_size=-1 reads the whole split as one batch.
    columns = tfds.as_numpy(
        tfds.load(name, split=split, data_dir=where, download=False, batch_size=-1)
    )
    if not isinstance(columns, dict) or "image" not in columns:
        raise ValueError(
            f"source {name!r} must have a feature 'image', got "
            f"{builder.info.features}; use an image set such as 'cifar10'"
        )
    pictures = np.asarray(columns["image"])
    _check_pictures(pictures, f"source {name!r}")
    return pictures


def _check_pictures(pictures: np.ndarray, argument: str) -> None:
    if pictures.ndim != 4 or pictures.shape[1:] != _SHAPE or pictures.dtype != np.uint8:
        raise ValueError(
            f"{argument} must hold uint8 of shape (n, {SIDE}, {SIDE}, 3), got "
            f"{pictures.dtype} of shape {pictures.shape}; convert them first"
        )
