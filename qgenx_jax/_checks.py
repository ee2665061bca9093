"""Checks of arguments: every message names argument, rule, value and the way out."""

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_left: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
    "left", default=None
)


@contextlib.contextmanager
def noting_what_is_left() -> Iterator[list[str]]:
    """Notes the arguments whose values could not be checked, as they were traced."""
    found: list[str] = []
    token = _left.set(found)
    try:
        yield found
    finally:
        _left.reset(token)


def leave(argument: str) -> None:
    """Says that values are not known, so that whoever has them may check again."""
    found = _left.get()
    if found is not None:
        found.append(argument)


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

    Of a traced value (a hyperparameter that optax.inject_hyperparams put in a state)
    only shape and dtype are checked.

    Raises:
        ValueError: if it is not a real number, or a concrete one that breaks the rule.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        is_real = any(jnp.issubdtype(value.dtype, kind) for kind in _REAL)
        is_number = value.shape == () and is_real
    if not is_number or not (isinstance(value, Tracer) or holds(float(value))):
        raise refuse(argument, rule, value, way_out)
    return value


_REAL = (jnp.floating, jnp.integer)


def positive(argument: str, value: Any, way_out: str) -> Any:
    """`value` if it is one positive, finite number; see `real_number`."""
    return real_number(
        argument,
        value,
        "must be a positive, finite number",
        lambda x: 0 < x < float("inf"),
        way_out,
    )


def at_least_zero(argument: str, value: Any, way_out: str) -> Any:
    """`value` if it is one finite number that is not negative; see `real_number`."""
    return real_number(
        argument,
        value,
        "must be a finite number of at least 0",
        lambda x: 0 <= x < float("inf"),
        way_out,
    )


def one_of(argument: str, value: Any, choices: Iterable[Any]) -> Any:
    """The choice that `value` is; an array or a bool is none.

    Raises:
        ValueError: if it is not; the message lists the choices.
    """
    choices = tuple(choices)
    if isinstance(value, bool) or not _hashable(value) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise refuse(argument, f"must be one of {listed}", value, "choose one of them")
    return choices[choices.index(value)]


def instance_of(argument: str, value: Any, kind: type, way_out: str) -> None:
    """Checks that a value is of a type.

    Raises:
        ValueError: if it is not, with both types' names.
    """
    if not isinstance(value, kind):
        rule = f"must be of type {kind.__name__}"
        raise refuse(argument, rule, Text(type(value).__name__), way_out)


def no_weight(extra: Mapping[str, Any], method: str) -> None:
    """Checks that no weight is given to a method whose mean has none.

    Raises:
        ValueError: if there is one.
    """
    if extra.get("weight") is not None:
        rule = f"must be left out of the update of {method}, whose mean is unweighted"
        way_out = (
            "weigh in quantized_mean alone, or multiply the vectors by K w / sum(w), "
            "with the sum by jax.lax.psum"
        )
        raise refuse("weight", rule, extra["weight"], way_out)


def function(argument: str, value: Any, what: str, way_out: str) -> None:
    """Checks that a value can be called; `what` says with what and for what.

    Raises:
        ValueError: if it cannot.
    """
    if not callable(value):
        raise refuse(argument, f"must be a function {what}", value, way_out)


def axis_name(value: Any) -> None:
    """Checks that a value can be the name of an axis, or is a tuple of such.

    Raises:
        ValueError: if it is not, or the tuple is empty or repeats a name.
    """
    names = value if isinstance(value, tuple) else (value,)
    nameable = all(_hashable(name) and name is not None for name in names)
    if not names or not nameable or len(set(names)) < len(names):
        rule = "must be the name of the axis over workers, or a tuple of different ones"
        raise refuse("axis_name", rule, value, 'pass for instance "data"')


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:  # lists, arrays, traced values
        return False
    return True


def inexact_leaves(argument: str, tree: Any) -> None:
    """Checks that there is a tree, and that every leaf is a floating-point array.

    Complex numbers pass.

    Raises:
        ValueError: for None, and for the first leaf that is none, with its path.
    """
    _leaves_of(argument, tree, jnp.inexact, "a floating-point array")


def floating_leaves(argument: str, tree: Any) -> None:
    """Checks that there is a tree, and that every leaf is a real, floating-point array.

    Raises:
        ValueError: for None, and for the first leaf that is none, with its path.
    """
    _leaves_of(argument, tree, jnp.floating, "a real floating-point array")


def _leaves_of(argument: str, tree: Any, kind: Any, what: str) -> None:
    if tree is None:
        raise refuse(argument, f"must be a tree, every leaf {what}", None, "pass one")
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, (float, complex, int)) or hasattr(leaf, "dtype"):
            found: Any = jnp.result_type(leaf)
            fits = jnp.issubdtype(found, kind)
        else:
            found, fits = type(leaf).__name__, False
        if not fits:
            way_out = "cast it, or leave it out (optax.masked, optax.partition)"
            name = leaf_name(path, argument)
            raise refuse(name, f"must be {what}", Text(found), way_out)


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


def same_dtypes(
    argument: str, tree: Any, expected_name: str, expected: Any, way_out: str
) -> None:
    """Checks that two trees of the same structure have the same dtypes.

    Raises:
        ValueError: for the first leaf of another dtype, with its path and both.
    """
    with_path = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), other in zip(with_path, jax.tree.leaves(expected), strict=True):
        found, wanted = jax.typeof(leaf).dtype, jax.typeof(other).dtype
        if found != wanted:
            rule = f"must have the dtype {wanted} it has in {expected_name}"
            raise refuse(leaf_name(path, argument), rule, Text(found), way_out)


def own_leaves(argument: str, tree: Any) -> None:
    """Checks that leaves below `per_worker` are one worker's own, inside a map.

    Raises:
        ValueError: for the first leaf whose leading axis is not of length 1.
    """
    what = "worker, of which there is one inside the mapped function"
    way_out = "map it over the worker axis, as qgenx_jax.map_workers does"
    leading_axis(argument, tree, 1, what, way_out)


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
