"""Gradients that a step has, without a word, summed over the workers of a mesh.

Parameters are equal on all workers, and `jax.grad` with respect to what is equal sums
over the workers: in shard_map, with tracking. By vmap it does not. So a step that takes
a gradient of the parameters it was handed (for a penalty, say, or an inner step) is
another step on a mesh. Such a sum is the transpose of a `pvary`, and known in the
step's jaxpr by its name stack, of which an equation inside of another, of a jitted
loss, say, has a part only. What the sum is of decides: where it is handed on to the
transpose of a sum, as in the derivative of a loss with a `lax.pmean` inside, it is
right everywhere.
"""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr

from qgenx_jax import _checks
from qgenx_jax._types import AxisName
from qgenx_jax._workers.programs import Operation, Program, bodies


def refuse_summed(closed: ClosedJaxpr, axis_name: AxisName) -> None:
    """Checks that no gradient of a traced step was summed over the workers.

    Args:
        closed: with a shard_map in it.
        axis_name: the mesh axes over workers.

    Raises:
        ValueError: for the first one, with its shape.
    """
    names = set(axis_name if isinstance(axis_name, tuple) else (axis_name,))
    for equation in closed.jaxpr.eqns:
        if equation.primitive.name != "shard_map":
            continue
        (body,) = bodies(equation)
        for aval in _not_spread(Program(body), names):
            raise _checks.refuse(
                "step",
                "must not take a gradient with respect to the parameters it was handed "
                f"as they are, which on a mesh is summed over {axis_name!r}",
                _checks.Text(f"a gradient of type {aval}"),
                "differentiate with respect to "
                f"qgenx_jax.local_params(params, {axis_name!r}), or by "
                "qgenx_jax.value_and_grad",
            )


def _not_spread(program: Program, names: set) -> Iterator[Any]:
    """The types of sums that reach no transpose of a sum.

    They are followed through transposes alone: a loss that is computed from a gradient
    has another derivative.
    """
    for index, operation in enumerate(program.operations):
        summed, is_found = [], False
        if _is_sum(operation, names):
            summed = [program.avals[operation.outs[0]]]
        else:
            for body in _bodies(operation):
                summed += _not_spread(body, names)
            # the sum of an iteration is handed on by the loop's transpose
            is_found = bool(summed) and _has_spread(operation)
        if not summed:
            continue
        reached = {*operation.outs} if _is_transposed(operation) else set()
        for later in program.operations[index + 1 :]:
            if _is_transposed(later) and reached.intersection(later.ins):
                is_found = is_found or _has_spread(later)
                reached.update(later.outs)
        if not is_found:
            yield from summed


def _is_sum(operation: Operation, names: set) -> bool:
    """Whether it sums over the workers, as the transpose of a `pvary`."""
    if operation.name != "psum_invariant" or not _is_transposed(operation):
        return False
    return bool(names & {*operation.equation.params["axes"]})


def _has_spread(operation: Operation) -> bool:
    """Whether it is the transpose of a sum, or a transposed loop with one inside."""
    if not _is_transposed(operation):
        return False
    return operation.name in ("pvary", "pcast") or any(
        _has_spread(inner) for body in _bodies(operation) for inner in body.operations
    )


def _is_transposed(operation: Operation) -> bool:
    # a transposed jax.checkpoint computes again what was before, as that was
    *_, stack = operation.stack.split("rematted_computation")
    return "transpose(" in stack


def _bodies(operation: Operation) -> Iterator[Program]:
    """What a loop does."""
    if operation.equation is not None:
        for body in bodies(operation.equation):
            yield Program(body, operation.stack)
