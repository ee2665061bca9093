"""Which leaves share a quantizer, and the bytes of the groups that they travel in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from qgenx_jax import _trees
from qgenx_jax._codec.quantizer import Quantizer, coder_of
from qgenx_jax._exchange.factory import exchange
from qgenx_jax._exchange.recorded import Recorded


def cost(
    of: Recorded, unit: Sequence[int], quantizer: Quantizer | None, *, runs_on: bool
) -> float:
    """Bytes of a unit; of one whose buckets run on to others at least its share."""
    kinds = jax.tree.leaves(of.shapes)
    if quantizer is None:
        return sum(kinds[i].size * kinds[i].dtype.itemsize for i in unit)
    size = sum(of.sizes[i] for i in unit)
    form = coder_of(quantizer, np.result_type(*(of.leaves[i][0] for i in unit))).form
    if not runs_on:
        return form.n_bytes(size)
    if form.bucket_size is None:
        return size * form.bits / 8
    meta = form.n_meta * form.wide.itemsize
    return size * (form.bits / 8 + meta / form.bucket_size)


class Groups(NamedTuple):
    """Leaves that share a quantizer, and the bytes of each group.

    Attributes:
        quantizers: by label.
        members: indices of leaves, by label.
        bytes_of: by label.
    """

    quantizers: dict[str, Quantizer | None]
    members: dict[str, list[int]]
    bytes_of: dict[str, int]

    @property
    def payload_bytes(self) -> int:
        """Of all."""
        return sum(self.bytes_of.values())


def grouped(
    of: Recorded,
    units: Mapping[str, list[int]],
    chosen: Sequence[Quantizer | None],
    *,
    by_leaf: bool,
) -> Groups:
    """The groups that travel: of units as they are, or of leaves with one quantizer."""
    quantizers: dict[str, Quantizer | None] = {}
    members: dict[str, list[int]] = {}
    names: dict[Quantizer | None, str] = {}
    for (unit, leaves), quantizer in zip(units.items(), chosen, strict=True):
        label = unit
        if by_leaf:
            label = names.setdefault(quantizer, _name(quantizer, names.values()))
        quantizers[label] = quantizer
        members.setdefault(label, []).extend(leaves)
    return counted(of, quantizers, members)


def _name(quantizer: Quantizer | None, taken: Iterable[str]) -> str:
    """A label that says what it is for, and is not taken."""
    name = "exact" if quantizer is None else f"{quantizer.family}_{quantizer.bits}"
    others = sum(x == name or x.startswith(f"{name}_") for x in taken)
    return f"{name}_{others + 1}" if others else name


def counted(
    of: Recorded,
    quantizers: dict[str, Quantizer | None],
    members: dict[str, list[int]],
) -> Groups:
    """Groups with the bytes that an exchange by them counts."""
    label_of = {i: label for label, leaves in members.items() for i in leaves}
    kinds, treedef = jax.tree.flatten(of.shapes)
    labels = jax.tree.unflatten(treedef, [label_of[i] for i in range(len(kinds))])
    made = exchange("workers", quantizers, labels=labels)
    # of two workers, each sends its payload once
    (phase,) = made.traffic(of.shapes, workers=2).phases
    bytes_of, reduces = dict(phase.sent_by_group), not phase.sent_by_group
    for label, quantizer in quantizers.items():
        if quantizer is None:  # an all-reduce where all are exact
            dtypes = {
                i: _trees.accumulator_dtype(kinds[i]) if reduces else kinds[i].dtype
                for i in members[label]
            }
            sums = (kinds[i].size * dtype.itemsize for i, dtype in dtypes.items())
            bytes_of[label] = sum(sums)
    return Groups(quantizers, members, {label: bytes_of[label] for label in quantizers})


def variances(of: Recorded, groups: Groups) -> dict[str, float]:
    """Of each group as it travels."""
    return {
        label: of.variance(groups.members[label], quantizer)
        for label, quantizer in groups.quantizers.items()
    }
