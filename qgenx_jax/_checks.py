"""Checks of arguments: every message names argument, rule, value and the way out."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Text(str):
    """A description of what was received, printed without quotes."""

    def __repr__(self) -> str:
        return str(self)


def refuse(argument: str, rule: str, value: Any, way_out: str) -> ValueError:
    """The ValueError that says what is wrong with an argument and what to do.

    Args:
        argument: the argument as the caller wrote it, for instance "bits".
        rule: what it has to be, for instance "must be a whole number from 2 to 8".
        value: what was received; a `Text` where its repr would not help.
        way_out: what to write instead.

    Returns:
        An exception to raise.
    """
    return ValueError(f"{argument} {rule}, got {value!r}: {way_out}")


def leaf_name(path: tuple[Any, ...], argument: str) -> str:
    """How an error names a leaf: its path in the argument, or the argument itself."""
    where = jax.tree_util.keystr(path)
    return f"leaf {where} of {argument}" if where else argument


def whole_number(argument: str, value: Any, low: int, high: int | None) -> int:
    """`value` as an int in [low, high]; a bool or a float is not a whole number.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(value, np.integer):
        value = int(value)
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


def real_number(
    argument: str, value: Any, rule: str, holds: Callable[[float], bool], way_out: str
) -> Any:
    """`value` if it is one real number for which a rule holds.

    A traced value (a hyperparameter that optax.inject_hyperparams put in a state) is
    taken as it is.

    Raises:
        ValueError: if it is not a real number, or a concrete one that breaks the rule.
    """
    if isinstance(value, Tracer):
        return value
    is_array = isinstance(value, (jax.Array, np.ndarray, np.generic))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_array:
        is_number = value.shape == () and np.issubdtype(value.dtype, np.floating)
    if not is_number or not holds(float(value)):
        raise refuse(argument, rule, value, way_out)
    return value


def positive(argument: str, value: Any, way_out: str) -> Any:
    """`value` if it is one positive, finite number; see `real_number`."""
    return real_number(
        argument,
        value,
        "must be a positive, finite number",
        lambda x: 0 < x < float("inf"),
        way_out,
    )


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
                leaf_name(path, argument),
                "must be a real floating-point array",
                Text(dtype),
                "cast it, or leave it out (optax.masked, optax.partition)",
            )


def same_structure(
    argument: str, tree: Any, expected_name: str, expected: Any, way_out: str
) -> None:
    """Checks that two trees have the same structure and the same leaf shapes.

    Raises:
        ValueError: with both structures, or with the path and both shapes.
    """
    found, wanted = jax.tree.structure(tree), jax.tree.structure(expected)
    if found != wanted:
        rule = f"must have the tree structure of {expected_name}, {wanted}"
        raise refuse(argument, rule, found, way_out)
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(tree),
        jax.tree.leaves(expected),
        strict=True,
    )
    for (path, leaf), other in pairs:
        if jnp.shape(leaf) != jnp.shape(other):
            rule = f"must have the shape {jnp.shape(other)} it has in {expected_name}"
            raise refuse(leaf_name(path, argument), rule, jnp.shape(leaf), way_out)


def leading_axis(
    argument: str, tree: Any, length: int, what: str, way_out: str
) -> None:
    """Checks that every leaf has a leading axis of this length, one entry per `what`.

    Raises:
        ValueError: for the first leaf that has not, with its path and shape.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not jnp.shape(leaf) or jnp.shape(leaf)[0] != length:
            rule = f"must have a leading axis of length {length}, one entry per {what}"
            raise refuse(leaf_name(path, argument), rule, jnp.shape(leaf), way_out)
