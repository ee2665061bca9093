"""Plain optax transformations within others: which may be, and whose state they get."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from qgenx_jax import _checks
from qgenx_jax._methods.pair import HalfStepTransformation
from qgenx_jax._types import DualVector, Params, State


class Whole(optax.GradientTransformationExtraArgs):
    """What goes around all else: `alternating` makes moves of vectors, not vectors, and
    `accumulate` zeros at most calls. Inside a pair each would be silently wrong.
    """


def check_plain(
    argument: str, value: Any, way_out: str, *, may_be_whole: bool = False
) -> None:
    """Checks for an optax transformation that is no pair, nor one side of a pair.

    Args:
        argument: its name.
        value: what was received.
        way_out: what to write instead.
        may_be_whole: whether an `alternating` or an `accumulate` will do.

    Raises:
        ValueError: if it is anything else.
    """
    found = value
    if isinstance(value, HalfStepTransformation):
        found = _checks.Text("one side of a pair")
    elif isinstance(value, Whole) and not may_be_whole:
        found = _checks.Text("what alternating or accumulate returned")
    elif isinstance(value, optax.GradientTransformation):
        return
    rule = "must be an optax.GradientTransformation, of one vector to another"
    raise _checks.refuse(argument, rule, found, way_out)


def plain_update(
    transformation: optax.GradientTransformation,
) -> Callable[..., tuple[DualVector, State]]:
    """The update of a plain transformation, after a look at whose state it is given."""
    lifted = optax.with_extra_args_support(transformation)

    def structure_of(params: Params) -> Any:
        """Of a state for such parameters; None where init needs their values."""
        try:
            return jax.tree.structure(jax.eval_shape(lifted.init, params))
        except jax.errors.ConcretizationTypeError:
            return None

    def update(
        updates: DualVector, state: State, params: Params, **extra: Any
    ) -> tuple[DualVector, State]:
        wanted = structure_of(params)
        if wanted is not None and jax.tree.structure(state) != wanted:
            raise _checks.refuse(
                "state",
                f"must be, for a transformation inside, of the structure {wanted}",
                jax.tree.structure(state),
                "make the state by init of this very optimizer",
            )
        return lifted.update(updates, state, params, **extra)

    return update
