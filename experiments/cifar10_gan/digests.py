"""Digests of trees of arrays, the same however they are laid out over devices.

The digest of a leaf is the sum of those of its rows, each with its number: processes
that hold different rows add theirs up.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cifar10_gan.together.votes import gathered

_ROWS = 4096
"""An array with more is one row: workers, each with a row of its own, are fewer."""


class Damaged(ValueError):
    """Raised where something is not what was saved, or not alike in all processes."""


def name_of(path: Any) -> str:
    """Of a leaf, as digests are listed by."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def digests(tree: Any) -> dict[str, int]:
    """32 bits of each leaf, by its name; all processes of a run call it together.

    Raises:
        Damaged: in all processes, if copies of a leaf differ between them; it is named,
            and the odd process where there are three or more.
    """
    mine: dict[str, int] = {}
    whole = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.is_fully_replicated or leaf.is_fully_addressable:
            local = leaf if leaf.is_fully_addressable else leaf.addressable_data(0)
            mine[name_of(path)] = _of_rows(np.asarray(local), 0, leaf.shape)
            whole.append(name_of(path))
        else:
            mine[name_of(path)] = _of_shards(leaf)
    everyone = gathered(mine, "digests")
    found: dict[str, int] = {}
    for name in mine:
        copies = [each[name] for each in everyone]
        if name not in whole:
            found[name] = sum(copies) % 2**32
        elif len(set(copies)) > 1:
            raise Damaged(_odd(name, copies))
        else:
            found[name] = copies[0]
    return found


def of_facts(facts: Mapping[str, Any]) -> int:
    """32 bits of what JSON can hold."""
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def _odd(name: str, copies: list) -> str:
    """Which process has another copy than most of them, in a sentence."""
    groups: dict[Any, list[int]] = {}
    for process, copy in enumerate(copies):
        groups.setdefault(copy, []).append(process)
    ordered = sorted(groups.values(), key=len)
    who = " | ".join(", ".join(map(str, group)) for group in ordered)
    odd = ""
    if len(copies) > 2 and len(ordered) == 2 and len(ordered[0]) < len(ordered[1]):
        odd = f"; the odd one is process {', '.join(map(str, ordered[0]))}"
    return (
        f"{name} must be equal in all processes, got {len(groups)} different copies, "
        f"in processes {who}{odd}; go on from the last checkpoint by --resume, and if "
        "it comes again, without that machine"
    )


def _of_shards(leaf: jax.Array) -> int:
    total = 0
    for shard in leaf.addressable_shards:
        if shard.replica_id == 0:
            first = shard.index[0].start or 0
            total += _of_rows(np.asarray(shard.data), first, leaf.shape)
    return total % 2**32


def _of_rows(x: np.ndarray, first: int, shape: tuple[int, ...]) -> int:
    """The sum over rows of their digests; the whole array's shape decides on rows."""
    if x.size == 0:
        return 0
    count = len(x) if shape and shape[0] <= _ROWS else 1
    rows = np.ascontiguousarray(x).reshape(count, -1).view(np.uint8)
    seed = zlib.crc32(f"{shape} {x.dtype}".encode())
    total = 0
    for number, row in enumerate(rows, first):
        total += zlib.crc32(row.data, zlib.crc32(str(number).encode(), seed))
    return total % 2**32
