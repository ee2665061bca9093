"""What a step hands to the next one, and what is wrong where it cannot."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from qgenx_jax import _checks
from qgenx_jax._types import AxisName, Params, State
from qgenx_jax._workers import axes
from qgenx_jax._workers.programs import Program


@contextlib.contextmanager
def _told_of_branches(axis_name: AxisName) -> Iterator[None]:
    """Says of a `lax.cond` what it means here that JAX finds its branches to differ.

    Raises:
        ValueError: in place of JAX's TypeError, where what varies over workers differs.
    """
    try:
        yield
    except TypeError as error:
        if "manual axis types do not match" not in str(error):
            raise
        raise _checks.refuse(
            "step",
            "must decide alike on all workers whether it updates, and after the "
            "exchange",
            _checks.Text(
                "a lax.cond, one branch of which gives what is equal on all workers, "
                f"and the other what varies over {axis_name!r}"
            ),
            "put what may skip an update (optax.apply_if_finite, conditionally_mask) "
            "after quantized_mean, not around it, or qgenx_jax.skip_not_finite around "
            "all; in a cond of your own, jax.lax.pcast one branch",
        ) from error


def checked(
    step: Callable[..., Any],
    params: Params,
    state: State,
    inputs: tuple,
    axis_name: AxisName,
) -> tuple[Any, ...]:
    """What a step returns, if it can be handed to the next step.

    Raises:
        ValueError: if it is no tuple, or params or state are of another structure,
            shape or dtype, or differ between workers.
    """
    with _told_of_branches(axis_name):
        result = step(params, state, *inputs)
    if not isinstance(result, tuple) or len(result) < 2:
        raise _checks.refuse(
            "step",
            "must return a tuple (params, state, *outputs)",
            _checks.Text(type(result).__name__),
            "return the state that update gave back, too",
        )
    found, wanted = jax.tree.structure(result[1]), jax.tree.structure(state)
    if found != wanted:
        raise _checks.refuse(
            "step",
            f"must return a state of the structure it got, {wanted}",
            found,
            "make one call a whole iteration (qgenx_jax.iterate), or drive the pair by "
            "qgenx_jax.alternating",
        )
    pairs = {"params": (result[0], params), "state": (result[1], state)}
    for name, (after, before) in pairs.items():
        argument, given = f"the step's {name}", f"the {name} it got"
        way_out = f"return {name} like those, for the next step"
        _checks.same_structure(argument, after, given, before, way_out)
        _checks.same_dtypes(argument, after, given, before, way_out)
    if axes.differing(result[:2], axis_name):
        result = _as_it_was(result, step, (params, state, *inputs), axis_name)
    for (name, way_out), after in zip(_WAYS_OUT.items(), result[:2], strict=True):
        for path in axes.differing(after, axis_name)[:1]:
            raise _checks.refuse(
                _checks.leaf_name(path, f"the step's {name}"),
                "must be equal on all workers",
                _checks.Text("one that differs"),
                way_out.format(axis=axis_name),
            )
    return result


_WAYS_OUT = {
    "params": "if it is trained, exchange its gradient over {axis!r} before an "
    "optimizer uses it (qgenx_jax.quantized_mean), or give it optax.set_to_zero; if it "
    "is a running statistic, average it by jax.lax.pmean(..., {axis!r}); if a worker's "
    "own gradient is tested for it (a loss scale), test the exchanged updates instead",
    "state": "what keeps something of vectors stands after the exchange "
    "(qgenx_jax.quantized_mean), not before it; a running statistic is averaged by "
    "jax.lax.pmean(..., {axis!r}); what tests a gradient is given the exchanged one",
}


def _as_it_was(
    result: tuple, step: Callable, arguments: tuple, axis_name: AxisName
) -> tuple:
    """A result with the leaves handed in, where it is sure that they are those.

    A frozen leaf, plus zeros that were made from a worker's own gradient, differs by
    its type alone.
    """
    program = Program(jax.make_jaxpr(step)(*arguments))
    given = jax.tree.leaves(arguments[:2])
    leaves, structure = jax.tree.flatten(result[:2])
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(result[:2])]
    differing = axes.differing(result[:2], axis_name)
    for index, path in enumerate(paths):
        value = program.values[program.outputs[index]]
        if path not in differing:
            continue
        if value.same_as == index:
            leaves[index] = given[index]
        elif value.known is not None:
            leaves[index] = jnp.full_like(given[index], value.known)
    return (*jax.tree.unflatten(structure, leaves), *result[2:])
