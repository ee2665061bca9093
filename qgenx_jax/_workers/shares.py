"""What of a step's arguments each worker gets: all of it, or its share of a batch."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import AxisName


def check_number(argument: str, number: Any, count: int) -> None:
    """Checks that one of `count` positional arguments has this number."""
    if not count:
        raise _checks.refuse(
            "the loss",
            "must be given what it is differentiated by as a positional argument",
            _checks.Text("keywords alone"),
            "pass the parameters first, without a name",
        )
    _checks.whole_number(argument, number, -count, count - 1)


def of_all(
    loss: Callable[..., Any],
    replicated: Sequence[int | str],
    count: int,
    keywords: dict[str, Any],
) -> set[int | str]:
    """The arguments that each worker gets whole: numbers, and names of keywords.

    Raises:
        ValueError: for one that the loss is not given.
    """
    try:
        names = list(inspect.signature(loss).parameters)
    except (TypeError, ValueError):  # of what is not written in Python
        names = []
    found: set[int | str] = set()
    for one in replicated:
        name = one
        if isinstance(one, int) and count <= one < len(names):
            name = names[one]  # it may be handed over by its name
        if name in keywords:
            found.add(name)
        elif isinstance(name, str) and name in names[:count]:
            found.add(names.index(name))
        elif isinstance(one, str):
            rule = "must name arguments that the loss is given"
            way_out = f"name some of {names[:count]} and {sorted(keywords)}"
            raise _checks.refuse("replicated", rule, one, way_out)
        else:
            check_number("replicated", one, count)
            found.add(one % count)
    return found


def check_differentiable(argument: Any, number: int) -> None:
    """Checks that an argument can be differentiated by.

    Raises:
        ValueError: if a leaf of it is no floating-point array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
        if not is_array(leaf) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise _checks.refuse(
                _checks.leaf_name(path, f"argument {number} of the loss"),
                "must be a floating-point array, to differentiate by",
                leaf,
                "hand over what is trained alone; of a flax.nnx module with random "
                "states or counters: graphdef, params, rest = nnx.split(model, "
                "nnx.Param, ...)",
            )


def is_array(x: Any) -> bool:
    """Whether a leaf is an array; others are handed on as they are."""
    return isinstance(x, jax.Array | np.ndarray | np.generic)


def where(path: tuple) -> Any:
    """The number of an argument that a leaf is in, or a keyword's name."""
    return getattr(path[1], "idx", getattr(path[1], "key", None))


def specs_of(
    leaves: list,
    paths: list,
    is_whole: list[bool],
    traced: list[int],
    axis_name: AxisName,
    workers: int,
) -> list[PartitionSpec]:
    """How each array is handed to the workers.

    Raises:
        ValueError: for one that is to be cut into K shares, and cannot be, or is not
            of as many examples as the first of them.
    """
    specs: list[PartitionSpec] = []
    first: tuple | None = None
    for i in traced:
        x, name = leaves[i], name_of(paths[i])
        if is_whole[i] or not jnp.ndim(x):
            specs.append(PartitionSpec())
            continue
        shape, dtype = jnp.shape(x), jnp.result_type(x)
        if shape == (2,) and dtype == np.uint32:
            raise _checks.refuse(
                name,
                "must be no key of plain words, which would be cut as a batch is",
                _checks.Text(jax.typeof(x)),
                "pass a typed one, jax.random.key or jax.random.wrap_key_data, of "
                "which each worker gets its own; or name the argument in replicated=",
            )
        if shape[0] % workers:
            raise _checks.refuse(
                name,
                f"must be a batch, of a multiple of {workers} examples, of which each "
                f"worker along {axis_name!r} gets its share",
                shape,
                "leave out the last examples; what each worker is to get whole, name "
                "in replicated=",
            )
        first = first or (name, shape[0])
        if shape[0] != first[1]:
            raise _checks.refuse(
                name,
                f"must have as many examples as {first[0]}, {first[1]}",
                shape,
                "name what each worker is to get whole in replicated=",
            )
        specs.append(PartitionSpec(axis_name))
    return specs


def name_of(path: tuple) -> str:
    """How an error names a leaf of (arguments, keywords)."""
    kind, number = path[0].idx, path[1]
    if kind == 0:
        return _checks.leaf_name(path[2:], f"argument {number.idx} of the loss")
    return _checks.leaf_name(path[2:], f"argument {number.key!r} of the loss")
