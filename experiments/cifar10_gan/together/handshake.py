"""What all processes of a run must have alike, and say before anything else."""

import dataclasses
import importlib.metadata
import platform
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.cifar10_gan.config import Config

OF_EACH = frozenset({"coordinator", "process", "wait_seconds", "workdir", "data_dir"})
"""Fields that each process may have in its own way.

One folder may have two paths on two machines: whether it is shared shows a file in it.
"""
_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "flax", "orbax-checkpoint", "qgenx-jax")


def facts_of(config: Config, **more: Any) -> dict[str, Any]:
    """What this process says of itself: fields, versions, and what else is given."""
    fields = dataclasses.asdict(config)
    said = {name: fields[name] for name in fields if name not in OF_EACH}
    versions = {name: _version(name) for name in _PACKAGES}
    return {**said, **more, "python": platform.python_version(), **versions}


def difference(
    here: Mapping[str, Any], there: Mapping[str, Any], process: int
) -> str | None:
    """The first fact in which process 0 and another one differ, in a sentence."""
    for name in sorted({*here, *there}):
        mine, other = here.get(name), there.get(name)
        if mine != other:
            return (
                f"{name} must be the same in all processes, got {other!r} in process "
                f"{process} and {mine!r} in process 0; start all of them with the same "
                "flags and the same packages"
            )
    return None


def digest(tree: Any) -> str:
    """A tree of arrays in a few words, that differ where a bit does."""
    crc, leaves = 0, jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in leaves:
        x = np.asarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {x.shape} {x.dtype}"
        crc = zlib.crc32(x.tobytes(), zlib.crc32(name.encode(), crc))
    return f"{len(leaves)} arrays of digest {crc:08x}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "not installed"
