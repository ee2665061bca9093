"""Choices that each worker makes for itself, of what is to be equal on all of them.

JAX's types do not tell: in shard_map a `lax.cond` by a value that varies, between two
that do not, has a result that does not vary, and a `lax.while_loop` likewise. Copies
would drift apart, and an exchange in a branch would wait for workers that take another.
"""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, DropVar

from qgenx_jax import _checks
from qgenx_jax._types import AxisName
from qgenx_jax._workers.programs import bodies


def refuse_own_choices(closed: ClosedJaxpr, axis_name: AxisName) -> None:
    """Checks that nothing equal on all workers is chosen by what varies over them.

    Args:
        closed: a traced step, with a shard_map in it.
        axis_name: the mesh axes over workers.

    Raises:
        ValueError: if a cond or a while loop does.
    """
    names = set(axis_name if isinstance(axis_name, tuple) else (axis_name,))
    if any(_is_own_choice(equation, names) for equation in _equations(closed.jaxpr)):
        raise not_alike(axis_name, "a lax.cond or while_loop by what varies over")


def not_alike(axis_name: AxisName, received: str) -> ValueError:
    """The refusal of a step whose workers may decide differently."""
    return _checks.refuse(
        "step",
        "must decide alike on all workers whether it updates, and after the exchange",
        _checks.Text(f"{received} {axis_name!r}"),
        "put what may skip an update (optax.apply_if_finite, conditionally_mask) after "
        "quantized_mean, not around it, or qgenx_jax.skip_not_finite around all; in a "
        "cond of your own decide by what was exchanged or by jax.lax.pmin, or where "
        "results may differ jax.lax.pcast one branch",
    )


def _is_own_choice(equation: Any, names: set) -> bool:
    name, given = equation.primitive.name, equation.params
    if name == "cond":
        (by, *_), chosen = equation.invars, given["branches"]
    elif name == "while":
        (by,), chosen = given["cond_jaxpr"].jaxpr.outvars, (given["body_jaxpr"],)
    else:
        return False
    if not names & _varying(by):
        return False
    inside = (inner for body in chosen for inner in _equations(body.jaxpr))
    if any(_travels(inner, names) for inner in inside):
        return True  # it would wait for workers that take another branch
    return any(
        not names & _varying(out) and not _is_handed_on(chosen, place, name)
        for place, out in enumerate(equation.outvars)
        if not isinstance(out, DropVar)
    )


def _travels(equation: Any, names: set) -> bool:
    """Whether it is a collective over workers."""
    given = equation.params
    over = given.get("axes", given.get("axis_name", ()))
    over = over if isinstance(over, tuple) else (over,)
    still = ("axis_index", "pvary", "pcast")
    return bool(names.intersection(over)) and equation.primitive.name not in still


def _is_handed_on(chosen: Any, place: int, name: str) -> bool:
    """Whether a result is an operand, the same one whatever is chosen."""
    found = set()
    for body in chosen:
        ins, out = body.jaxpr.invars, body.jaxpr.outvars[place]
        found.add(ins.index(out) if out in ins else None)
    if name == "while":
        (body,) = chosen
        first = len(body.jaxpr.invars) - len(body.jaxpr.outvars)
        return found == {first + place}
    return len(found) == 1 and None not in found


def _varying(atom: Any) -> frozenset:
    mat = getattr(atom.aval, "mat", None)
    return frozenset(mat.varying) if mat is not None else frozenset()


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for body in bodies(equation):
            yield from _equations(body.jaxpr)
