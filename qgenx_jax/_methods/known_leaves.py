"""Trees that know some leaves of the parameters, put together.

Below optax.masked and optax.partition a state has optax.MaskedNode in place of the
leaves, or of the subtrees, that are hidden from it.
"""

from collections.abc import Sequence
from typing import Any

import jax
import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._types import Params


def hidden_like(params: Params, known: Any, way_out: str) -> Params:
    """The parameters, without those that are hidden in a tree like them.

    Raises:
        ValueError: if what is left is not of the tree's structure and shapes.
    """
    try:
        seen = jax.tree.map(
            lambda k, p: k if _is_hidden(k) else p, known, params, is_leaf=_is_hidden
        )
    except ValueError:  # another tree altogether: both are named
        seen = params
    _checks.same_structure("params", seen, "the state", known, way_out)
    return seen


def seen(tree: Any) -> Any:
    """A tree without what is hidden: its largest subtree that is whole, or a list."""
    subtrees = _whole_subtrees(tree)
    return subtrees[0] if len(subtrees) == 1 else subtrees


def _whole_subtrees(tree: Any) -> list[Any]:
    if _is_hidden(tree):
        return []
    if not _trees.find_if(tree, _is_hidden):
        return [tree]
    children, _ = _one_level(tree)
    return [part for _, child in children for part in _whole_subtrees(child)]


def filled(known: Any, params: Params) -> Params:
    """A tree like the parameters, which stand where it has hidden leaves."""
    return jax.tree.map(
        lambda k, p: p if _is_hidden(k) else k, known, params, is_leaf=_is_hidden
    )


def overlaid(parts: Sequence[Any], kind: str, way_out: str) -> Any:
    """One tree with what each of some trees knows.

    Args:
        parts: at least one; hidden leaves of one may be known to another.
        kind: what each is read from, in messages.
        way_out: what to pass instead.

    Raises:
        ValueError: if two of them know one leaf, or are of different trees.
    """
    whole, *others = parts
    for other in others:
        whole = _both(whole, other, (), kind, way_out)
    return whole


def _both(one: Any, other: Any, path: tuple[Any, ...], kind: str, way_out: str) -> Any:
    if _is_hidden(one):
        return other
    if _is_hidden(other):
        return one
    (here, structure), (there, its_structure) = map(_one_level, (one, other))
    is_leaf = jax.tree_util.treedef_is_leaf(structure) and here[0][1] is one
    if is_leaf or structure != its_structure:
        raise _checks.refuse(
            "state",
            f"must contain exactly one {kind} that knows a leaf of the parameters",
            _checks.Text(f"2 of them that know {_checks.leaf_name(path, 'params')}"),
            way_out,
        )
    children = [
        _both(mine, its, (*path, *key), kind, way_out)
        for (key, mine), (_, its) in zip(here, there, strict=True)
    ]
    return jax.tree.unflatten(structure, children)


def _one_level(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """The children of a node, with their keys, and its structure."""
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)


def _is_hidden(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
