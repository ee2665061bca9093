"""Plain optax transformations within others: which may be, and whose state they get."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.pair import ExtragradientPair, HalfStepTransformation
from qgenx_jax._methods.skips import why_it_skips
from qgenx_jax._types import DualVector, Params, State


class Whole(optax.GradientTransformationExtraArgs):
    """What goes around all else: `alternating` makes moves of vectors, not vectors, and
    `accumulate` zeros at most calls. Inside a pair each would be silently wrong. Their
    states have a class attribute `of_a_whole`, by which they are known inside others.

    Attributes:
        pair: of `alternating`, the pair; else None.
        around: of `accumulate`: `around(f)` is the same with f(inner) inside; else
            None.
    """

    pair: ExtragradientPair | None = None
    around: Callable[[Callable[[Any], Any]], Any] | None = None


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
        found = _checks.Text("what alternating, accumulate or skip_not_finite returned")
    elif isinstance(value, optax.GradientTransformation):
        return
    rule = "must be an optax.GradientTransformation, of one vector to another"
    raise _checks.refuse(argument, rule, found, way_out)


class Plain:
    """A plain transformation inside a pair, whose half-steps go on with every call.

    Args:
        argument: its name in messages.
        transformation: one that `check_plain` has passed.
        trusted: whether it is known to hand on every vector.
    """

    def __init__(
        self,
        argument: str,
        transformation: optax.GradientTransformation,
        *,
        trusted: bool = False,
    ):
        self.argument = argument
        self.lifted = optax.with_extra_args_support(transformation)
        self.trusted = trusted
        self.verdicts: dict[Any, bool] = {}

    def init(self, params: Params) -> State:
        """The transformation's state.

        Raises:
            ValueError: if the transformation may skip an update.
        """
        state = self.lifted.init(params)
        whole = _trees.find_if(state, lambda node: hasattr(type(node), "of_a_whole"))
        for node in whole:
            rule = "must be of one vector to another, all that is inside it, too"
            found = _checks.Text(f"one with the state {type(node).__name__}")
            way_out = "alternating, accumulate and skip_not_finite go around the chain"
            raise _checks.refuse(self.argument, rule, found, way_out)
        if not self.trusted and jax.tree.leaves(params):
            # a leaf of one number looks like a truth about all leaves: two stand for it
            alike = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(
                    jnp.shape(x) or (2,), jnp.result_type(x)
                ),
                params,
            )
            self._judge(lambda: jax.eval_shape(self.lifted.init, alike), alike, alike)
        return state

    def update(
        self, updates: DualVector, state: State, params: Params, **extra: Any
    ) -> tuple[DualVector, State]:
        """Its update, after a look at whose state it is given.

        Raises:
            ValueError: if the state is not of its structure, or the transformation may
                skip an update and that was not to be known before.
        """
        wanted = self._structure(params)
        if wanted is not None and jax.tree.structure(state) != wanted:
            raise _checks.refuse(
                "state",
                f"must be, for a transformation inside, of the structure {wanted}",
                jax.tree.structure(state),
                "make the state by init of this very optimizer",
            )
        if not self.trusted and not self.verdicts.get(_kind(params)):
            self._judge(lambda: state, updates, params, **extra)
        return self.lifted.update(updates, state, params, **extra)

    def _structure(self, params: Params) -> Any:
        """Of a state for such parameters; None where init needs their values."""
        try:
            return jax.tree.structure(jax.eval_shape(self.lifted.init, params))
        except jax.errors.ConcretizationTypeError:
            return None

    def _judge(
        self,
        state: Callable[[], State],
        updates: DualVector,
        params: Params,
        **extra: Any,
    ) -> None:
        """Refuses a transformation that may skip; once for each kind of parameters.

        What cannot be traced at init, without extra arguments or a worker axis, is
        traced at the update.
        """
        kind = _kind(params)
        if self.verdicts.get(kind):
            return
        try:
            found = why_it_skips(
                self.lifted.init, self.lifted.update, updates, state(), params, **extra
            )
        except Exception:  # of the user's own, whatever it is: the update raises it
            self.verdicts[kind] = False
            return
        if found is not None:
            rule = "must hand on every vector, as half-steps go on with every call"
            raise _checks.refuse(
                self.argument,
                rule,
                _checks.Text(f"one that {found}"),
                "put what skips around the whole, qgenx_jax.accumulate(k, alternating("
                "pair)) or optax.MultiSteps(alternating(pair), k) after quantized_mean",
            )
        self.verdicts[kind] = True


def _kind(params: Params) -> Any:
    leaves, structure = jax.tree.flatten(params)
    shapes = tuple((jnp.shape(x) or (2,), str(jnp.result_type(x))) for x in leaves)
    return structure, shapes
