"""Groups of leaves with a quantizer each, labelled as in optax.partition."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange.layout import Layout, held
from qgenx_jax._types import Array, AxisName, LeafPredicate

Labels: TypeAlias = Callable[[Any], Any] | Any
"""A tree of labels, a prefix of the vectors' tree, or a function that makes it."""


@dataclasses.dataclass(frozen=True)
class _BySize:
    """What `by_size` makes: comparable, and printed as it was written."""

    limit: int
    small: str
    large: str

    def __call__(self, tree: Any) -> Any:
        """A label for each leaf."""
        return jax.tree.map(
            lambda x: self.small if np.size(x) <= self.limit else self.large, tree
        )

    def __repr__(self) -> str:
        return f"by_size({self.limit})"


def by_size(
    limit: int = 4096, small: str = "small", large: str = "large"
) -> Callable[[Any], Any]:
    """Labels of leaves by their sizes, for `labels=`, where nothing else is known.

    Biases, norms and small kernels are a small part of the bytes, and often the larger
    part of the error: with more bits they cost little. `plan_bits` weighs both.

    Args:
        limit: leaves of up to so many coordinates are small.
        small: their label.
        large: that of the others.

    Returns:
        A function from a tree, of arrays or of shapes, to its labels. An exchange
        refuses a quantizer for a label that no leaf has.

    Raises:
        ValueError: if the limit is no whole number of at least 1, or the labels are not
            two different strings.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> quantizers = {"small": qgenx.uniform(8), "large": qgenx.uniform(2)}
        >>> exchange = qgenx.exchange("data", quantizers, labels=qgenx.by_size(4096))
        >>> tree = {"bias": jnp.zeros(256), "kernel": jnp.zeros((256, 256))}
        >>> exchange.traffic(tree, workers=3).phases[0].sent_by_group
        {'small': 520, 'large': 33280}
    """
    limit = _checks.whole_number("limit", limit, 1, None)
    for name, label in (("small", small), ("large", large)):
        _checks.instance_of(name, label, str, "name the group by a string")
    if small == large:
        rule, way_out = "must be another label than small's", "name the groups"
        raise _checks.refuse("large", rule, large, way_out)
    return _BySize(limit, small, large)


def quantizers_of(quantizer: Any, labels: Any) -> dict[str, Quantizer | None]:
    """A quantizer or None for each label; "all" is the label where there is one.

    Raises:
        ValueError: unless it is a mapping exactly where labels are given, not empty, or
            if a label is no string or a value neither a quantizer nor None.
    """
    if isinstance(quantizer, Mapping) != (labels is not None):
        raise _checks.refuse(
            "quantizer",
            "must be a mapping from labels where labels are given, and only there",
            quantizer,
            'pass for instance {"large": uniform(4), "small": None} with labels=',
        )
    is_mapping = isinstance(quantizer, Mapping)
    if is_mapping and not quantizer:
        rule, way_out = "must have a label", "pass None for an exact exchange"
        raise _checks.refuse("quantizer", rule, quantizer, way_out)
    quantizers: dict[str, Any] = dict(quantizer) if is_mapping else {"all": quantizer}
    for label, value in quantizers.items():
        if not isinstance(label, str):
            rule, way_out = "must have strings for labels", "name the groups"
            raise _checks.refuse("quantizer", rule, label, way_out)
        if value is not None and not isinstance(value, Quantizer):
            raise _checks.refuse(
                "quantizer",
                "must be a quantizer, or None for an exact exchange",
                value,
                "make one by qgenx_jax.uniform(bits=...)",
            )
    return quantizers


def second_of(
    second: Any, quantizers: Mapping[str, Quantizer | None]
) -> dict[str, Quantizer | None]:
    """The quantizers of means by label, of those labels that have one of their own.

    Raises:
        ValueError: if one is no quantizer, or is for a label that has none.
    """
    if second is None:
        return {}
    quantized = [label for label, value in quantizers.items() if value is not None]
    if not quantized:
        rule = "must be left out where nothing is quantized"
        raise _checks.refuse("second", rule, second, "give a quantizer, too")
    if not isinstance(second, Mapping):
        second = dict.fromkeys(quantized, second)
    for label, value in second.items():
        _checks.one_of("the labels of second", label, quantized)
        if not isinstance(value, Quantizer | None):
            rule = "must be a quantizer, or None for the same as in the first phase"
            way_out = "make one by qgenx_jax.uniform(bits=...)"
            raise _checks.refuse("second", rule, value, way_out)
        if value is not None and value.refresh is not None:
            raise _checks.refuse(
                "second",
                "must have levels of its own, which nothing fits to means",
                value,
                "leave it out for those that are fitted to the workers' vectors, or "
                "pass user_levels, or dithered with a bend",
            )
    return dict(second)


def layout(
    tree: Any,
    quantizers: Mapping[str, Quantizer | None],
    labels: Labels | None,
    exact: LeafPredicate | None,
    axis_name: AxisName = None,
) -> Layout:
    """How the leaves of a tree travel: by their labels, and by what stays exact.

    And by the axes, besides those over workers, that they vary over, see `held`.

    Raises:
        ValueError: if a leaf is not a real floating-point array, a label has no
            quantizer, `exact` returns no bool, or a quantizer is left with no leaf.
    """
    _checks.floating_leaves("the tree to exchange", tree)
    with_path, treedef = jax.tree_util.tree_flatten_with_path(tree)
    paths, leaves, labels_of, over = [], [], [], []
    own_labels = _labels_of(tree, labels, quantizers)
    for (path, x), group in zip(with_path, own_labels, strict=True):
        paths.append(jax.tree_util.keystr(path))
        leaf, axes_of = held(x, axis_name)
        leaves.append(leaf)
        over.append(axes_of)
        stays = quantizers[group] is None or _stays(exact, paths[-1], leaves[-1])
        labels_of.append(None if stays else group)
    found = Layout(treedef, tuple(paths), tuple(leaves), tuple(labels_of), tuple(over))
    for group, quantizer in quantizers.items():
        if quantizer is not None and found.leaves and group not in own_labels:
            rule = f"must give {group!r}, which has a quantizer, at least one leaf"
            way_out = "label a leaf so, or leave that quantizer out"
            given = f" by {labels}" if isinstance(labels, _BySize) else ""
            sizes = [leaf.size for leaf in found.leaves]
            what = f"{sorted(set(own_labels))}{given} of leaves of {min(sizes):,} to "
            what = _checks.Text(f"{what}{max(sizes):,} coordinates")
            raise _checks.refuse("labels", rule, what, way_out)
    for group, quantizer in quantizers.items():
        if quantizer is not None and found.leaves and group not in found.labels:
            whose = "" if labels is None else f" of group {group!r}"
            raise _checks.refuse(
                "exact",
                f"must leave {quantizer}{whose} at least one leaf to quantize",
                _checks.Text(f"none of {len(found.leaves)} leaves"),
                "pass quantizer=None for an exact exchange, or exact=no_leaves to "
                "quantize every leaf (quantized_mean keeps leaves of fewer than 2 "
                "dimensions or 1024 elements exact unless told otherwise)",
            )
    return found


def _stays(exact: LeafPredicate | None, path: str, leaf: jax.ShapeDtypeStruct) -> bool:
    """Whether a leaf is to travel exact."""
    stays = exact is not None and exact(path, leaf)
    if not isinstance(stays, (bool, np.bool_)):
        rule, way_out = "must return a bool", f"return True to keep {path} exact"
        raise _checks.refuse("exact", rule, stays, way_out)
    return bool(stays)


def _labels_of(tree: Any, labels: Any, known: Mapping[str, Any]) -> list[str]:
    """The label of each leaf."""
    if labels is None:
        (only,) = known
        return [only] * len(jax.tree.leaves(tree))
    found = spread(tree, labels)
    for label in found:
        _checks.one_of("labels", label, known)
    return found


def spread(tree: Any, labels: Labels) -> list[Any]:
    """The label that each leaf of a tree is given.

    Raises:
        ValueError: if they are no prefix of the tree.
    """
    prefix = labels(tree) if callable(labels) else labels
    try:
        each = jax.tree.map(
            lambda label, part: jax.tree.map(lambda _: label, part), prefix, tree
        )
    except ValueError as error:
        rule = f"must be a prefix of the tree to exchange, {jax.tree.structure(tree)}"
        way_out = "label every leaf, or whole subtrees"
        raise _checks.refuse("labels", rule, prefix, way_out) from error
    return jax.tree.leaves(each)


def check_levels(levels: Any, expected: Mapping[str, Array]) -> None:
    """Checks that a state holds levels for the groups that have some, and no others.

    Raises:
        ValueError: if it is the state of another configuration.
    """
    found = levels if isinstance(levels, Mapping) else {}
    shapes = [
        {group: getattr(x, "shape", None) for group, x in d.items()}
        for d in (found, expected)
    ]
    if shapes[0] != shapes[1]:
        raise _checks.refuse(
            "state.levels",
            f"must hold levels of the shapes {shapes[1]}, by group",
            shapes[0],
            "make the state by init of this very exchange",
        )
