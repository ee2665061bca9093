"""Dual vectors: recorded ones, and draws from laws, as trees of leaves."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import qgenx_jax as qgenx
from experiments.common.vectors import OTHERS

LEAVES = {
    "input": 3 * 16 * 32,
    "narrow": 16 * 64 * 128,
    "wide": 16 * 128 * 256,
    "output": 16 * 32 * 3,
    "bias": 256,
    "norm": 64,
}
"""Sizes of leaves of a small convolutional network."""

SCALES = {"input": 3.0, "narrow": 0.3, "wide": 0.1, "output": 10.0, "bias": 1.0}
"""Of the coordinates of each leaf in the law `network`; 1 if not said."""

LAWS = ("normal", "laplace", "student", "network", "relu", "squares")


def drawn(law: str, seed: int) -> dict[str, np.ndarray]:
    """A vector of `LEAVES`, float32.

    Args:
        law: "normal", "laplace", "student" (3 degrees of freedom), of equal scale in
            all leaves; "network", whose leaves have `SCALES`, rows of log-normal scales
            and Student's tails, as gradients of convolutions do; "relu", normal ones
            or 0, as activations are; "squares" of "student", as second moments are.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, LAWS.index(law)])
    tree = {}
    for name, size in LEAVES.items():
        if law in ("normal", "relu"):
            leaf = rng.normal(size=size)
        elif law == "laplace":
            leaf = rng.laplace(size=size)
        else:
            leaf = rng.standard_t(3, size=size)
        if law == "network":
            rows = np.exp(rng.normal(size=-(-size // 64)))
            leaf = SCALES.get(name, 1.0) * leaf * np.repeat(rows, 64)[:size]
        if law == "relu":
            leaf = np.maximum(leaf, 0)
        if law == "squares":
            leaf = leaf**2
        tree[name] = leaf.astype(np.float32)
    return tree


def recorded(folder: str, *, small: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """By file name the vectors that `--record_vectors` of the GAN program left.

    Args:
        folder: of .npz files.
        small: whether the leaves that `small_leaves` keeps exact are there, too.

    Raises:
        ValueError: if there are none, or one is damaged.
    """
    return {path.stem: _opened(path, small=small) for path in _paths(folder)}


def of_workers(folder: str, *, small: bool = False) -> dict[str, np.ndarray]:
    """By file name the flat vectors of all workers that were recorded, (K, d) float32.

    Raises:
        ValueError: as `recorded` does, and where there is but one worker's.
    """
    found: dict[str, np.ndarray] = {}
    for path in _paths(folder):
        others = sorted((path.parent / OTHERS).glob(f"{path.stem}-*.npz"))
        if not others:
            raise ValueError(
                f"vectors must be those of several workers, got one in {str(path)!r}; "
                f"record them again, for a folder {OTHERS!r} beside it"
            )
        trees = [_opened(each, small=small) for each in (path, *others)]
        rows = [np.concatenate([np.ravel(x) for x in of.values()]) for of in trees]
        found[path.stem] = np.stack(rows).astype(np.float32)
    return found


def _paths(folder: str) -> list[pathlib.Path]:
    paths = sorted(pathlib.Path(folder).glob("*.npz"))
    if not paths:
        raise ValueError(
            f"vectors must be a folder with .npz files, got {folder!r}; record some by "
            "python -m experiments.cifar10_gan --record_vectors=1,50,150"
        )
    return paths


def _opened(path: pathlib.Path, *, small: bool) -> dict[str, np.ndarray]:
    """The leaves of a file."""
    try:
        with np.load(path) as file:
            leaves = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"vectors must be .npz files of arrays, got {str(path)!r} ({error}); "
            "record them again"
        ) from error
    return {
        name: x
        for name, x in leaves.items()
        if small or not qgenx.small_leaves(name, x)
    }


class Source(NamedTuple):
    """A vector to measure on.

    Attributes:
        vector: its leaves.
        first: the first vector that was recorded, where this is a later one.
    """

    vector: dict[str, np.ndarray]
    first: dict[str, np.ndarray] | None = None


def sources(laws: Sequence[str], folder: str, *, small: bool) -> dict[str, Source]:
    """By name all vectors to measure on.

    Raises:
        ValueError: as `recorded` does, and if vectors are not of the same leaves.
    """
    found = {law: Source(drawn(law, seed=0)) for law in laws}
    known = recorded(folder, small=small) if folder else {}
    first = next(iter(known.values()), None)
    for name, vector in known.items():
        if first is not None and _shapes(vector) != _shapes(first):
            raise ValueError(
                f"vectors must be of one network in a folder, got other leaves in "
                f"{name}.npz than in {next(iter(known))}.npz; put them into folders of "
                "their own"
            )
        found[name] = Source(vector, None if vector is first else first)
    return found


def _shapes(vector: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: x.shape for name, x in vector.items()}
