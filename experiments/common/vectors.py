"""Dual vectors in files, leaf by leaf: of the first worker, and of others beside it."""

import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

OTHERS = "workers"
"""The folder for those of other workers than the first."""


def write(
    vector_of: Callable[[Any], Any], workers: Iterable[Any], path: pathlib.Path
) -> Any:
    """Writes the vectors of workers as .npz files, by the paths of their leaves.

    Args:
        vector_of: from what `workers` has for one to its vector, a tree.
        workers: the first one's goes to `path`, that of number k to
            ``workers/NAME-k.npz`` in the same folder.
        path: of the first one.

    Returns:
        The first one's vector.
    """
    first = None
    for number, worker in enumerate(workers):
        vector = jax.device_get(vector_of(worker))
        leaves = jax.tree_util.tree_leaves_with_path(vector)
        named: dict[str, Any] = {
            jax.tree_util.keystr(where, simple=True, separator="/"): x
            for where, x in leaves
        }
        here = path
        if number:
            here = path.parent / OTHERS / f"{path.stem}-{number}.npz"
        here.parent.mkdir(parents=True, exist_ok=True)
        np.savez(here, **named)
        first = vector if number == 0 else first
    return first
