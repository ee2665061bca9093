"""Leaves of one quantizer in several groups, by their scales.

Within a group buckets run on from leaf to leaf, and what shares one with a leaf of
larger scale is rounded as coarsely as that. With equal weights this adds little to the
total; where a weight makes up for a small scale, as Adam's does, it may add more than
all else. A group of its own for each range of scales costs the bytes of a short bucket.
"""

import heapq
from collections.abc import Sequence

import numpy as np

from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange.assigned import Groups, counted
from qgenx_jax._exchange.recorded import Recorded
from qgenx_jax.bounds.given_vector import coordinate_variances

WORTH = 0.02
"""Of the variance, what a group more has to save: each is compiled for itself."""
SMALL = 2**17
"""Coordinates of a tree of which whole groups are compared."""
TRIED = 16
"""Places to cut a group at, those where scales differ most."""


def split(of: Recorded, groups: Groups, most: int) -> Groups:
    """The same quantizers for the same leaves, in up to `most` groups.

    Greedily: of all groups the one whose best cut saves most is cut next.

    Args:
        of: the vectors.
        groups: one for each quantizer.
        most: groups in the end, unless there are more already.
    """
    own = {
        i: of.variance([i], quantizer) / max(of.sizes[i], 1)
        for label, quantizer in groups.quantizers.items()
        for i in groups.members[label]
    }
    whole = sum(each * of.sizes[i] for i, each in own.items())
    parts = {x: [groups.members[x]] for x in groups.quantizers}
    waiting: list[tuple[float, str, list[int], list[list[int]]]] = []

    def consider(label: str, members: list[int]) -> None:
        quantizer = groups.quantizers[label]
        if quantizer is not None and len(members) > 1:
            saved, halves = _best_cut(of, members, quantizer, own)
            heapq.heappush(waiting, (-saved, label, members, halves))

    for label, members in groups.members.items():
        consider(label, members)
    count = len(parts)
    while count < most and waiting:
        saved, label, members, halves = heapq.heappop(waiting)
        if -saved <= WORTH * whole:
            break
        parts[label].remove(members)
        parts[label].extend(halves)
        whole, count = whole + saved, count + 1
        for half in halves:
            consider(label, half)
    if count == len(groups.quantizers):
        return groups
    named = {
        f"{label}_scale_{place}" if len(several) > 1 else label: (label, members)
        for label, several in parts.items()
        for place, members in enumerate(several, 1)
    }
    quantizers = {x: groups.quantizers[label] for x, (label, _) in named.items()}
    return counted(of, quantizers, {x: sorted(of) for x, (_, of) in named.items()})


def _best_cut(
    of: Recorded, members: list[int], quantizer: Quantizer, own: dict[int, float]
) -> tuple[float, list[list[int]]]:
    """What the best of some cuts by scale saves, and the two groups that it makes."""
    scales = np.array([of.mean_square(i) for i in members])
    order = np.argsort(scales, kind="stable")
    steps = np.diff(np.log(np.maximum(scales[order], 1e-300)))
    places = np.argsort(-steps, kind="stable")[:TRIED] + 1
    together = _shared(of, members, quantizer, own)
    best, halves = 0.0, [members, []]
    for place in places:
        tried = [sorted(members[i] for i in half) for half in np.split(order, [place])]
        saved = together - sum(_shared(of, half, quantizer, own) for half in tried)
        if saved > best:
            best, halves = saved, tried
    return best, halves


def _shared(
    of: Recorded, members: Sequence[int], quantizer: Quantizer, own: dict[int, float]
) -> float:
    """Variance in buckets that leaves share, above what is expected without.

    `own` is the variance per coordinate of each leaf in buckets of its own. Of a small
    group it is the whole variance, since other buckets are cut elsewhere, too.
    """
    ends = np.cumsum([of.sizes[i] for i in members])
    if sum(of.sizes[i] for i in own) <= SMALL:
        return of.variance(members, quantizer)
    length = quantizer.bucket_size or int(ends[-1])
    inside = ends[:-1][ends[:-1] % length != 0]
    starts = np.unique(inside // length) * length
    # the short bucket stays the last one, so that all are cut as they travel
    index = (starts[:, None] + np.arange(length)).ravel()
    index = index[index < ends[-1]]
    leaf = np.searchsorted(ends, index, side="right")
    numbers = [np.broadcast_to(of.squares[i], (of.sizes[i],)) for i in members]
    squares = np.concatenate(numbers)[index] if numbers else np.zeros(0)
    found = [
        float(np.sum(squares * coordinate_variances(flat[index], quantizer)))
        for flat in of.flats(members)
    ]
    expected = np.array([own[i] for i in members])[leaf].sum()
    return float(np.mean(found) - expected)
