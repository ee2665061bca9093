"""Groups of leaves with a quantizer each, labelled as in optax.partition."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax

from qgenx_jax import _checks
from qgenx_jax._quantize import Quantizer
from qgenx_jax._types import Array

Labels: TypeAlias = Callable[[Any], Any] | Any
"""A tree of labels, a prefix of the vectors' tree, or a function that makes it."""


def quantizers_of(quantizer: Any, labels: Any) -> dict[str, Quantizer | None]:
    """A quantizer or None for each label; "all" is the label where there is one.

    Raises:
        ValueError: unless it is a mapping exactly where labels are given, or if a value
            is neither a quantizer nor None.
    """
    if isinstance(quantizer, Mapping) != (labels is not None):
        raise _checks.refuse(
            "quantizer",
            "must be a mapping from labels where labels are given, and only there",
            quantizer,
            'pass for instance {"large": uniform(4), "small": None} with labels=',
        )
    is_mapping = isinstance(quantizer, Mapping)
    quantizers: dict[str, Any] = dict(quantizer) if is_mapping else {"all": quantizer}
    for value in quantizers.values():
        if value is not None and not isinstance(value, Quantizer):
            raise _checks.refuse(
                "quantizer",
                "must be a quantizer, or None for an exact exchange",
                value,
                "make one by qgenx_jax.uniform(bits=...)",
            )
    return quantizers


def labels_of(tree: Any, labels: Any, known: Mapping[str, Any]) -> list[str]:
    """The label of each leaf.

    Raises:
        ValueError: if a label has no quantizer.
    """
    if labels is None:
        (only,) = known
        return [only] * len(jax.tree.leaves(tree))
    prefix = labels(tree) if callable(labels) else labels
    spread = jax.tree.map(
        lambda label, part: jax.tree.map(lambda _: label, part), prefix, tree
    )
    found = jax.tree.leaves(spread)
    for label in found:
        _checks.one_of("labels", label, known)
    return found


def check_levels(levels: Any, expected: Mapping[str, Array]) -> None:
    """Checks that a state holds levels for the groups of `user_levels`, and no others.

    Raises:
        ValueError: if it is the state of another configuration.
    """
    found = levels if isinstance(levels, Mapping) else {}
    shapes = [{group: x.shape for group, x in d.items()} for d in (found, expected)]
    if shapes[0] != shapes[1]:
        raise _checks.refuse(
            "state.levels",
            f"must hold levels of the shapes {shapes[1]}, by group",
            shapes[0],
            "make the state by init of this very exchange",
        )
