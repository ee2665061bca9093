"""What a step hands to the next one, and what is wrong where it cannot."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from qgenx_jax import _checks
from qgenx_jax._types import AxisName, Params, State
from qgenx_jax._workers import axes
from qgenx_jax._workers.branches import not_alike
from qgenx_jax._workers.programs import Program


def check_inputs(inputs: tuple, workers: int) -> None:
    """Checks that every input has an entry for each worker.

    Raises:
        ValueError: for the first one that has not, with what to do for its kind.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(inputs):
        shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
        if shape and shape[0] == workers:
            continue
        processes = jax.process_count()
        is_key = jnp.issubdtype(dtype, jax.dtypes.prng_key)
        if (is_key and not shape) or (shape == (2,) and dtype == jnp.uint32):
            way_out = f"give each worker its own key: jax.random.split(key, {workers})"
        elif not shape:
            way_out = (
                "close over what is the same on all workers, or hand over one for "
                f"each: jnp.full({workers}, x)"
            )
        elif processes > 1 and shape[0] * processes == workers:
            way_out = (
                "make one array of all processes' own batches: "
                "jax.make_array_from_process_local_data(NamedSharding(mesh, P(axis)), "
                "batch)"
            )
        else:
            way_out = "reshape a global batch (K * b, ...) to (K, b, ...)"
        name = _checks.leaf_name(path, "the inputs")
        rule = f"must have a leading axis of length {workers}, one entry per worker"
        raise _checks.refuse(name, rule, shape, way_out)


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
        received = (
            "a lax.cond, one branch of which gives what is equal on all workers, and "
            "the other what varies over"
        )
        raise not_alike(axis_name, received) from error


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
    program = Program(jax.make_jaxpr(step)(*arguments), finite=False)
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
