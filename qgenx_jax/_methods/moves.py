"""Whether the moves of `alternating` reach the parameters as they are.

A move leads from one point to the next, X_{t+1/2} or X_t, and the next call counts on
it. What is scaled, clipped or decayed after `alternating` ends elsewhere, and the
iteration is another method's, silently. Whoever stands around an `alternating` may hold
a move back whole, or cut it into leaves, and nothing else. Moves are marked where they
are made, and looked for in the traced update.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr

from qgenx_jax import _checks
from qgenx_jax._types import Params, State
from qgenx_jax._workers.axes import UnboundAxis
from qgenx_jax._workers.known_numbers import NEUTRAL
from qgenx_jax._workers.programs import PASSED_ON, Operation, Program

MARK = "qgenx_jax: a move of alternating"
_KEPT = PASSED_ON | {"concatenate", "slice", "split", "transpose"}
"""Operations that put numbers elsewhere and change none."""


def marked(moves: Params) -> Params:
    """The same moves, to be known again in a trace; a compiled program has no mark."""
    return jax.tree.map(functools.partial(checkpoint_name, name=MARK), moves)


def refuse_changed(
    optimizer: Any,
    params: Params,
    state: State,
    *,
    of: str = "alternating",
    way_out: str = "put what clips, scales, decays or averages before the pair, in "
    "qgenx_jax.chain, where it is given dual vectors",
) -> None:
    """Checks that an optimizer hands on the moves of an `alternating` inside it.

    Args:
        optimizer: with an `alternating` somewhere inside.
        params: or their shapes and dtypes.
        state: of one worker, or its shapes and dtypes.
        of: what makes the moves, if it is another.
        way_out: what to write instead.

    Raises:
        ValueError: if it scales them, say, or adds something.
    """
    try:
        traced, moves = _traced(optimizer.update, params, state)
    except Exception:  # of the user's own: whoever calls the update is told
        return
    leaf = _changed_leaf(traced, moves)
    if leaf is not None:
        raise _checks.refuse(
            "optimizer",
            f"must hand on the moves of {of} as they are, which lead from one "
            "point to the next",
            _checks.Text(f"one that changes leaf {leaf}"),
            way_out,
        )


class Undriven(TypeError):
    """A pair is used as one transformation: it has two, in turn."""


def refuse_undriven(optimizer: Any, params: Params, state: State) -> None:
    """Checks that nobody calls a pair as one transformation, as optax.chain would.

    Args:
        optimizer: a pair, or something with a pair inside.
        params: or their shapes and dtypes.
        state: of one worker, or its shapes and dtypes.

    Raises:
        ValueError: if it does, which its update would say at the first call.
    """
    update = getattr(optimizer, "update", None)
    if hasattr(optimizer, "extrapolation") or not callable(update):
        return  # a pair, for whoever drives its two sides
    try:
        _traced(update, params, state)
    except Undriven as undriven:
        raise _checks.refuse(
            "optimizer",
            "must drive both half-steps of the extra-gradient pair in it",
            _checks.Text("one that calls the pair as one transformation"),
            "compose by qgenx_jax.chain instead of optax.chain, and wrap the pair in "
            "qgenx_jax.alternating",
        ) from undriven
    except Exception:  # of the user's own: whoever calls the update is told
        return


def _changed_leaf(traced: ClosedJaxpr, moves: Any) -> str | None:
    """The path of the first leaf in which a marked move is changed, or None."""
    program = Program(traced)
    marks, kept = _marks(program)
    for (path, _), number in zip(
        jax.tree_util.tree_leaves_with_path(moves), program.outputs, strict=False
    ):
        if number in marks - kept and program.values[number].known is None:
            return jax.tree_util.keystr(path) or "the whole"
    return None


def _traced(
    update: Callable[..., Any], params: Params, state: State
) -> tuple[ClosedJaxpr, Any]:
    """An update's jaxpr and the shapes of its moves, for any number of workers.

    Raises:
        Exception: whatever tracing it raises.
    """
    axes: dict[Any, int] = {}
    extra: dict[str, Any] = {}

    def run(updates: Any, state: Any, params: Any) -> Any:
        return update(updates, state, params, **extra)

    while True:
        try:
            make = jax.make_jaxpr(run, axis_env=[*axes.items()], return_shape=True)
            traced, (moves, _) = make(params, state, params)
            return traced, moves
        except UnboundAxis as unbound:
            if unbound.names <= axes.keys():
                raise
            axes |= dict.fromkeys(unbound.names, 2)
        except TypeError as error:
            if extra or "value" not in str(error):
                raise
            extra["value"] = 0.0  # of a loss, which some of optax's ask for


def _marks(program: Program) -> tuple[set[int], set[int]]:
    """Values that depend on marked moves, and those of them that are such moves."""
    marks: set[int] = set()
    kept: set[int] = set()
    truths = {i for i, aval in enumerate(program.avals) if aval.dtype == bool}
    for operation in program.operations:
        if _is_mark(operation):
            kept.update(operation.outs)
            marks.update(operation.outs)
            continue
        if operation.name in _KEPT and truths.issuperset(operation.ins):
            truths.update(operation.outs)
        if marks.intersection(operation.ins):
            marks.update(operation.outs)
            if _keeps(program, operation, kept, truths):
                kept.update(operation.outs)
    return marks, kept


def _is_mark(operation: Operation) -> bool:
    name = operation.name == "name"
    return name and operation.equation.params["name"] == MARK


def _keeps(
    program: Program, operation: Operation, kept: set[int], truths: set[int]
) -> bool:
    """Whether an operation hands on marked moves as they are, or zeros instead."""

    def is_kept(number: int) -> bool:
        known = program.values[number].known
        return number in kept or (known is not None and known == 0)

    name, ins = operation.name, operation.ins
    if name == "choose":
        return all(map(is_kept, ins[1:]))
    if name in _KEPT:
        return all(map(is_kept, ins))
    if name == "mul" and truths.intersection(ins):
        return all(i in truths or is_kept(i) for i in ins)
    if name not in NEUTRAL:
        return False
    known = [program.values[number].known for number in ins]
    is_neutral = [k is not None and k == NEUTRAL[name] for k in known]
    if name == "sub" and is_neutral[0]:
        return False
    others = [i for i, is_one in zip(ins, is_neutral, strict=True) if not is_one]
    return any(is_neutral) and all(map(is_kept, others))
