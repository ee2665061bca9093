"""The extra-gradient pair: two optax transformations that share one state.

An extra-gradient iteration has two half-steps, each an ordinary optax update:

    extrapolation   X_t -> X_{t+1/2}      with the dual vector at X_t, or none
    update          X_{t+1/2} -> X_{t+1}  with the dual vector at X_{t+1/2}

Behind both is one function, `step(updates, state, params, *, half_step)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks
from qgenx_jax._methods import moves
from qgenx_jax._types import DualVector, HalfStep, Params, State
from qgenx_jax._workers.axes import refuse_reserved_name

EXTRAPOLATION = 0
UPDATE = 1


class Step(Protocol):
    """`step(updates, state, params, *, half_step, **extra) -> (delta, state)`."""

    def __call__(
        self,
        updates: DualVector,
        state: State,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[Params, State]:
        """Delta moves params to the next point: optax.apply_updates(params, delta)."""
        ...


class BeforeExtrapolation(NamedTuple):
    """State of a pair at X_t: the extrapolation comes next.

    Attributes:
        inner: the state that both half-steps share.
    """

    inner: State
    judge = staticmethod(moves.refuse_undriven)


class BeforeUpdate(NamedTuple):
    """State of a pair at X_{t+1/2}: the update comes next.

    Attributes:
        inner: the state that both half-steps share.
        extrapolated: empty; where a checkpoint keeps names of fields but not types,
            it tells this half-step from the other.
    """

    inner: State
    extrapolated: tuple[()] = ()


class HalfStepTransformation(optax.GradientTransformationExtraArgs):
    """One side of a pair, an optax transformation on its own.

    Calling it is a mistake that optax makes when it is given a pair.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuses.

        Raises:
            TypeError: always.
        """
        raise moves.Undriven(
            "an extra-gradient pair, or an observer as ema, is not one optax "
            "transformation: wrap the pair in qgenx_jax.alternating(pair), or compose "
            "both by qgenx_jax.chain"
        )


class OracleFree(HalfStepTransformation):
    """An extrapolation that needs no dual vector: its `update` takes None.

    Dual averaging (X_{t+1/2} = X_t) and the optimistic method (which uses its last
    vector again) extrapolate like this: one oracle call and one exchange per iteration.
    """


class ExtragradientPair(NamedTuple):
    """The two half-steps of an extra-gradient method, sharing one state.

    Attributes:
        extrapolation: X_t -> X_{t+1/2}; of type `OracleFree` if it needs no vector.
        update: X_{t+1/2} -> X_{t+1}.

    The state says in its structure which half-step is next: an update before its
    extrapolation, or a second extrapolation, raises when it is traced.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> extrapolation, update = qgenx.extra_sgd(0.5)
        >>> x = jnp.array([1.0, 0.0])
        >>> rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> state = update.init(x)
        >>> delta, state = extrapolation.update(rotation @ x, state, x)
        >>> half = optax.apply_updates(x, delta)
        >>> delta, state = update.update(rotation @ half, state, half)
        >>> optax.apply_updates(half, delta)
        Array([0.75, 0.5 ], dtype=float32)
    """

    extrapolation: optax.GradientTransformation
    update: optax.GradientTransformation

    @property
    def init(self) -> Callable[[Params], State]:
        """`init(params) -> state`, of either side."""
        return self.update.init

    @property
    def is_oracle_free(self) -> bool:
        """Whether the extrapolation needs no vector: one oracle call per iteration."""
        return isinstance(self.extrapolation, OracleFree)


Pair = TypeVar("Pair", bound=ExtragradientPair)


class Observer(ExtragradientPair):
    """A pair that changes nothing and keeps an average of the points it sees."""


class _HalfStepUpdate:
    """One side of a pair: `step` at a fixed half-step, in turn with the other side."""

    def __init__(self, step: Step, half_step: int, carried: Any = None):
        self.step = step
        self.half_step = half_step
        self.carried = carried

    def __call__(
        self,
        updates: DualVector | None,
        state: State,
        params: Params | None = None,
        **extra: Any,
    ) -> tuple[Params, State]:
        name, awaited, other, following = (
            ("extrapolation", BeforeExtrapolation, "update", BeforeUpdate),
            ("update", BeforeUpdate, "extrapolation", BeforeExtrapolation),
        )[self.half_step]
        if not isinstance(state, awaited):
            raise _checks.refuse(
                "state",
                f"must be that of a pair whose {name} comes next ({awaited.__name__})",
                _checks.Text(type(state).__name__),
                f"make it by the pair's init, and call {other}.update first: the "
                "half-steps take turns, beginning with the extrapolation",
            )
        delta, inner = self.step(
            updates, state.inner, given(params), half_step=self.half_step, **extra
        )
        return delta, following(inner)


def make_pair(
    init: Callable[[Params], State],
    step: Step,
    kind: type[Pair] = ExtragradientPair,
    *,
    oracle_free: bool = False,
    carried: Any = None,
) -> Pair:
    """The pair of one step function.

    Args:
        init: makes the shared state.
        step: both half-steps; `half_step` may be traced unless `oracle_free`.
        kind: ExtragradientPair, or a class that adds to it.
        oracle_free: whether the extrapolation takes None for updates.
        carried: what such a class reads off the pair, see `carried_by`.
    """

    def init_fn(params: Params) -> BeforeExtrapolation:
        _checks.inexact_leaves("params", params)
        refuse_reserved_name(params)
        return BeforeExtrapolation(init(params))

    side = OracleFree if oracle_free else HalfStepTransformation
    return kind(
        side(init_fn, _HalfStepUpdate(step, EXTRAPOLATION)),
        HalfStepTransformation(init_fn, _HalfStepUpdate(step, UPDATE, carried)),
    )


def carried_by(pair: ExtragradientPair) -> Any:
    """What `make_pair` was given to be carried.

    By the update, and not by an attribute of the pair, which is lost where JAX or a
    user makes a new tuple of its two sides.
    """
    return getattr(pair.update.update, "carried", None)


def refuse_vector(updates: DualVector | None) -> None:
    """Checks that an extrapolation that needs no dual vector is given none.

    Raises:
        ValueError: if it is given one.
    """
    if updates is not None:
        raise _checks.refuse(
            "updates",
            "must be None at an extrapolation that needs no dual vector",
            _checks.Text(jax.tree.structure(updates)),
            "save the oracle call, and pass None",
        )


def step_of(pair: ExtragradientPair, *, may_observe: bool = True) -> Step:
    """The step function behind both sides of a pair, an observer only if it may be.

    Raises:
        ValueError: if it is no such pair, or if the sides are not those of one step
            function, in order.
    """
    is_observer = isinstance(pair, Observer) and not may_observe
    if not isinstance(pair, ExtragradientPair) or is_observer:
        raise _checks.refuse(
            "pair",
            "must be an extra-gradient pair",
            pair,
            "build one by qgenx_jax.q_genx, extragradient or chain",
        )
    before, after = (getattr(side, "update", None) for side in pair)
    if not (
        isinstance(before, _HalfStepUpdate)
        and isinstance(after, _HalfStepUpdate)
        and before.step is after.step
        and (before.half_step, after.half_step) == (EXTRAPOLATION, UPDATE)
    ):
        raise _checks.refuse(
            "pair",
            "must be made by this library, with one step function behind both sides",
            pair,
            "build it by qgenx_jax.q_genx, extragradient or chain",
        )
    return after.step


def pick(
    half_step: HalfStep,
    on_extrapolation: Callable[[], Any],
    on_update: Callable[[], Any],
) -> Any:
    """The value for this half-step; if that is traced, both are made and one selected.

    Selected and not branched on: `lax.cond` over two exchanges compiles both of them.
    """
    if isinstance(half_step, int):
        return on_update() if half_step == UPDATE else on_extrapolation()
    return jax.tree.map(
        lambda a, b: jnp.where(half_step == UPDATE, b, a),
        on_extrapolation(),
        on_update(),
    )


def given(params: Params | None) -> Params:
    """The parameters, which the steps of an extra-gradient method need.

    Raises:
        ValueError: if they are None.
    """
    if params is None:
        raise _checks.refuse(
            "params",
            "must be given to the update of an extra-gradient method",
            None,
            "call update(updates, state, params) with the point that the dual vector "
            "was taken at",
        )
    return params
