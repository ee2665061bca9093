"""Which pictures of a source are its training pictures, and which are held out.

A source that has training and test pictures keeps them apart itself. Where test
pictures are missing, validation pictures stand in for them; where these are missing
too, every tenth picture (the first, the eleventh, ...) in the source's own fixed order
is held out for the test, and is not among the training pictures.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

HOLD_OUT_EVERY = 10
"""One picture in how many is held out of a source without test pictures."""

TRAIN = "train"
TEST = "test"
STAND_INS = ("validation", "val", "valid")
"""Splits that stand in for missing test pictures, in this order."""


class Part(NamedTuple):
    """Some pictures of a source.

    Attributes:
        name: the source's own name of their split; empty if it has one nameless set.
        share: all of them, all but every tenth ("kept"), or every tenth ("held out").
    """

    name: str
    share: Literal["all", "kept", "held out"]


def choose_part(available: Sequence[str], split: str, source: str) -> Part:
    """Which pictures a split means, by the rule above.

    Args:
        available: the names of the source's splits; empty for one nameless set.
        split: "train", "test", or another of the names.
        source: for messages.

    Raises:
        ValueError: if the source has no such pictures.
    """
    aside = [name for name in (TEST, *STAND_INS) if name in available]
    whole = TRAIN if TRAIN in available else ""
    held_out = not aside and (whole or not available)
    if split == TRAIN and held_out:
        return Part(whole, "kept")
    if split in available:
        return Part(split, "all")
    if split == TEST and aside:
        return Part(aside[0], "all")
    if split == TEST and held_out:
        return Part(whole, "held out")
    known = list(available) if available else [TRAIN, TEST]
    raise ValueError(
        f"split of {source!r} must be one of {known}, got {split!r}; use {known[0]!r}"
    )


def choose_rows(count: int, part: Part, size: int | None, source: str) -> np.ndarray:
    """Which of `count` pictures in order a part has, the first `size` of them.

    Returns:
        Their indices, ascending.

    Raises:
        ValueError: if there are none, or fewer than size.
    """
    rows = np.arange(count)
    held_out = rows % HOLD_OUT_EVERY == 0
    if part.share != "all":
        rows = rows[held_out if part.share == "held out" else ~held_out]
    label = f"{source!r}" + (f" ({part.name})" if part.name else "")
    if len(rows) == 0:
        raise ValueError(
            f"source {label} must hold {'a picture' if part.share == 'all' else '2'} "
            f"or more, got {count}; add pictures"
        )
    if size is not None and size > len(rows):
        held = "" if part.share == "all" else f" ({part.share} of {count})"
        raise ValueError(
            f"size must be at most the {len(rows)} pictures of {label}{held}, got "
            f"{size}; leave it out for all"
        )
    return rows[:size]
