"""Whether generated digits can be read, by a measure that real ones calibrate.

A picture reads as a digit if, at the 8 x 8 pixels that the digits were before they were
enlarged (means of blocks), it passes three tests, each of which nearly all real ones
pass:

- near: its distance from the nearest real picture is at most what 95 % of the real ones
  have from their nearest other one;
- agreed: at least 4 of its 5 nearest real pictures are of one class;
- sharp: the norm of its differences between neighbouring pixels is at least what 99 %
  of the real ones have, since a blurred digit is as near to others as a digit is.

A set is legible if 8 of 10 pictures read as digits, and at least 8 of the 10 classes
are in it, each by 2 % of the pictures or more. Pictures that a generator has learnt by
heart pass, too: `distance`, of a typical picture over that of a typical real one, is
near 1 for new pictures, and near 0 for copies.
"""

from typing import NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

SHARE = 0.8
CLASSES = 8
LEAST = 0.02
"""Of the pictures, for a class to be there."""
PIXELS = 8
NEIGHBOURS = 5
AGREEING = 4
NEAR_QUANTILE = 0.95
SHARP_QUANTILE = 0.01


class Reading(NamedTuple):
    """What is made of n pictures.

    Attributes:
        near: passes the test of distance, (n,) bool.
        agreed: that of classes.
        sharp: that of differences.
        classes: of the majority of the nearest real pictures, (n,) integers.
        distance: median distance to the nearest real picture, over that of real ones.
    """

    near: np.ndarray
    agreed: np.ndarray
    sharp: np.ndarray
    classes: np.ndarray
    distance: float

    @property
    def share(self) -> float:
        """Of the pictures that read as digits."""
        return float(np.mean(self._reads()))

    @property
    def present(self) -> list[int]:
        """The classes that are there."""
        counts = np.bincount(self.classes[self._reads()])
        return np.flatnonzero(counts >= LEAST * len(self.classes)).tolist()

    @property
    def is_legible(self) -> bool:
        """Whether the set as a whole passes."""
        return self.share >= SHARE and len(self.present) >= CLASSES

    def _reads(self) -> np.ndarray:
        return self.near & self.agreed & self.sharp

    def __str__(self) -> str:
        tests = {"near": self.near, "agreed": self.agreed, "sharp": self.sharp}
        parts = ", ".join(f"{name} {np.mean(x):.0%}" for name, x in tests.items())
        return (
            f"{self.share:.0%} read as digits ({parts}), {len(self.present)} of 10 "
            f"classes, {self.distance:.2f} of the distance between real ones"
        )


class Reader:
    """Reads pictures by the real ones that it is given."""

    def __init__(self, real: np.ndarray, labels: np.ndarray) -> None:
        """Calibrates the tests.

        Args:
            real: uint8 (m, 32, 32, 3).
            labels: integers from 0, (m,).
        """
        small = _reduced(real)
        flat = small.reshape(len(small), -1)
        self._labels = labels
        self._neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute")
        self._neighbours.fit(flat)
        # its own nearest one is each picture itself
        distances = self._neighbours.kneighbors(flat, 2)[0][:, 1]
        self._far = np.quantile(distances, NEAR_QUANTILE)
        self._typical = np.median(distances)
        self._blurred = np.quantile(_differences(small), SHARP_QUANTILE)

    def read(self, pictures: np.ndarray) -> Reading:
        """Reads uint8 pictures (n, 32, 32, 3)."""
        small = _reduced(pictures)
        distances, rows = self._neighbours.kneighbors(small.reshape(len(small), -1))
        votes = np.apply_along_axis(
            np.bincount, 1, self._labels[rows], minlength=self._labels.max() + 1
        )
        return Reading(
            near=distances[:, 0] <= self._far,
            agreed=votes.max(axis=1) >= AGREEING,
            sharp=_differences(small) >= self._blurred,
            classes=votes.argmax(axis=1),
            distance=float(np.median(distances[:, 0]) / self._typical),
        )


def _reduced(pictures: np.ndarray) -> np.ndarray:
    """Grey means of blocks, in [0, 1], (n, 8, 8)."""
    n, h, w, _ = pictures.shape
    blocks = pictures.reshape(n, PIXELS, h // PIXELS, PIXELS, w // PIXELS, -1)
    return blocks.mean(axis=(2, 4, 5)) / 255


def _differences(small: np.ndarray) -> np.ndarray:
    """The norm of a picture's gradient, (n,)."""
    squares = [np.sum(np.diff(small, axis=axis) ** 2, axis=(1, 2)) for axis in (1, 2)]
    return np.sqrt(sum(squares))
