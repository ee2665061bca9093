"""Checks of arguments: every message names argument, rule, value and the way out."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp


def refuse(argument: str, rule: str, value: Any, way_out: str) -> ValueError:
    """The ValueError that says what is wrong with an argument and what to do.

    Args:
        argument: the argument as the caller wrote it, for instance "bits".
        rule: what it has to be, for instance "must be a whole number from 2 to 8".
        value: what was received.
        way_out: what to write instead.

    Returns:
        An exception to raise.
    """
    return ValueError(f"{argument} {rule}, got {value!r}: {way_out}")


def whole_number(argument: str, value: Any, low: int, high: int | None) -> int:
    """`value` as an int in [low, high]; a bool or a float is not a whole number.

    Raises:
        ValueError: if it is anything else.
    """
    in_range = (
        isinstance(value, int)
        and not isinstance(value, bool)
        and low <= value
        and (high is None or value <= high)
    )
    if not in_range:
        bounds = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise refuse(argument, f"must be a whole number {bounds}", value, "pass an int")
    return value


def one_of(argument: str, value: Any, choices: Iterable[Any]) -> Any:
    """`value` if it is one of the choices.

    Raises:
        ValueError: if it is not; the message lists the choices.
    """
    choices = tuple(choices)
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise refuse(argument, f"must be one of {listed}", value, "choose one of them")
    return value


def floating_leaves(argument: str, tree: Any) -> None:
    """Checks that every leaf of a tree is a real floating-point array.

    Raises:
        ValueError: for the first leaf that is not, with its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise refuse(
                f"leaf {jax.tree_util.keystr(path) or 'of the tree'} of {argument}",
                "must be a real floating-point array",
                str(dtype),
                "cast it, or leave it out (optax.masked, optax.partition)",
            )


def same_structure(argument: str, tree: Any, expected_name: str, expected: Any) -> None:
    """Checks that two trees have the same structure and the same leaf shapes.

    Raises:
        ValueError: with both structures, or with the path and both shapes.
    """
    found, wanted = jax.tree.structure(tree), jax.tree.structure(expected)
    if found != wanted:
        raise refuse(
            argument,
            f"must have the tree structure of {expected_name}, {wanted}",
            found,
            "pass the dual vector of the parameters that the state was made for",
        )
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(tree),
        jax.tree.leaves(expected),
        strict=True,
    )
    for (path, leaf), other in pairs:
        if jnp.shape(leaf) != jnp.shape(other):
            raise refuse(
                f"leaf {jax.tree_util.keystr(path)} of {argument}",
                f"must have the shape {jnp.shape(other)} it has in {expected_name}",
                jnp.shape(leaf),
                "pass the dual vector of the parameters that the state was made for",
            )
