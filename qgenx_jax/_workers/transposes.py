"""Gradients that a step has, without a word, summed over the workers of a mesh.

Parameters are equal on all workers, and `jax.grad` with respect to what is equal sums
over the workers: in shard_map, with tracking. By vmap it does not. So a step that takes
a gradient of the parameters it was handed (for a penalty, say, or an inner step) is
another step on a mesh. Such a sum is the transpose of a `pvary`, and known in the
step's jaxpr by its name stack. What the sum is of decides: where it is handed on to the
transpose of a sum, as in the derivative of a loss with a `lax.pmean` inside, it is
right everywhere.
"""

from collections.abc import Callable, Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

from qgenx_jax import _checks
from qgenx_jax._types import AxisName
from qgenx_jax._workers.programs import Program


def refuse_summed(closed: ClosedJaxpr, axis_name: AxisName) -> None:
    """Checks that no gradient of a traced step was summed over the workers.

    Args:
        closed: with a shard_map in it.
        axis_name: the mesh axes over workers.

    Raises:
        ValueError: for the first one, with its shape.
    """
    names = set(axis_name if isinstance(axis_name, tuple) else (axis_name,))

    def is_sum(equation: Any) -> bool:
        over = equation.params.get("axes", ())
        is_one = equation.primitive.name == "psum_invariant" and names & {*over}
        return bool(is_one) and _is_transposed(equation)

    def is_spread(equation: Any) -> bool:
        name = equation.primitive.name
        return name in ("pvary", "pcast") and _is_transposed(equation)

    for equation in closed.jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        if equation.primitive.name != "shard_map" or not _has(inner, is_sum):
            continue
        for aval in _not_spread(_closed(inner), is_sum, is_spread):
            raise _checks.refuse(
                "step",
                "must not take a gradient with respect to the parameters it was handed "
                f"as they are, which on a mesh is summed over {axis_name!r}",
                _checks.Text(f"a gradient of type {aval}"),
                "differentiate with respect to "
                f"qgenx_jax.local_params(params, {axis_name!r}), or by "
                "qgenx_jax.value_and_grad",
            )


def _not_spread(
    closed: ClosedJaxpr, is_sum: Callable, is_spread: Callable
) -> Iterator[Any]:
    """The types of sums that reach no transpose of a sum."""
    operations = Program(closed).operations
    is_at = [
        op.equation is not None and _is_or_has(op.equation, is_spread)
        for op in operations
    ]
    for index, operation in enumerate(operations):
        if operation.equation is None or not _is_or_has(operation.equation, is_sum):
            continue
        reached, is_found = {*operation.outs}, is_at[index]
        for later, is_one in zip(
            operations[index + 1 :], is_at[index + 1 :], strict=True
        ):
            if reached.intersection(later.ins):
                is_found = is_found or is_one
                reached.update(later.outs)
        if not is_found:
            yield operation.equation.outvars[0].aval


def _is_transposed(equation: Any) -> bool:
    return "transpose(" in str(equation.source_info.name_stack)


def _is_or_has(equation: Any, holds: Callable[[Any], bool]) -> bool:
    """Of an equation, or of one inside it, where it is a loop."""
    return holds(equation) or any(_has(jaxpr, holds) for jaxpr in _inside(equation))


def _has(jaxpr: Any, holds: Callable[[Any], bool]) -> bool:
    return any(_is_or_has(equation, holds) for equation in jaxpr.eqns)


def _inside(equation: Any) -> Iterator[Jaxpr]:
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())
