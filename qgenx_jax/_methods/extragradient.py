"""Any optax optimizer, extrapolated: ExtraAdam, ExtraSGD."""

from typing import Any, NamedTuple

import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.constraints import (
    Constraint,
    ProjectionLike,
    constraint_of,
    displacement,
)
from qgenx_jax._methods.inner import Plain, check_plain
from qgenx_jax._methods.pair import ExtragradientPair, make_pair, pick
from qgenx_jax._methods.step_size import not_negative
from qgenx_jax._types import DualVector, HalfStep, Params, State


class ExtragradientState(NamedTuple):
    """State of `extragradient`.

    Attributes:
        anchor: X_t, from the extrapolation to the update; the first point before
            step 1. A copy: it shares no buffer with the parameters it is made from.
        base: the base optimizer's state, which both half-steps advance.
    """

    anchor: Params
    base: State


def extragradient(
    base: optax.GradientTransformation, *, projection: ProjectionLike = None
) -> ExtragradientPair:
    """Extra-gradient with the steps of any optax optimizer.

        X_{t+1/2} = X_t + u(V_t),        X_{t+1} = X_t + u(V_{t+1/2}),

    or, with constraints, P of both right-hand sides (Korpelevich). Here u(V) is the
    base optimizer's update (which contains the minus sign). Its state advances at
    *both* half-steps: moments take in both vectors, a schedule inside it advances twice
    per iteration, so write decay in half-steps. What is done to the parameters at
    X_{t+1/2} from outside is undone by the update, which starts from X_t.

    Args:
        base: any optax transformation that hands on every vector (optax.MultiSteps,
            optax.apply_if_finite and the like go around the whole). It gets the point
            that the vector was taken at as its `params`.
        projection: P, onto the feasible set: one of optax.projections, another function
            of the parameters, `entropic`, or a prefix of the parameters of such, None
            where there is no constraint. Within `partition` or optax.masked it is given
            the leaves of its own alone: one subtree, or a list. Both half-steps end in
            the set, exactly: what optax.apply_updates makes of them is in a box to the
            last bit. A function sees what one device has, of a leaf that is cut over a
            model axis its piece.
            The theory has steps of plain SGD here; after a base that scales coordinates
            apart, as Adam does, P is the nearest point by its own metric in a box only.

    Returns:
        The pair; no exchange in it, so chain `quantized_mean` before it to train across
        workers: `qgenx_jax.chain(quantized_mean(...), extragradient(...))`.

    Raises:
        ValueError: if base is not a transformation, or the projection no function, nor
            a tree of such; at init, or at the update where it cannot be known before,
            if base may skip an update, as its trace says; at init, if the projection
            is no prefix of the parameters, or moves them; at the update, if the vector
            or the state does not have the structure and the shapes of the parameters.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> pair = qgenx.extragradient(optax.adam(2e-4, b1=0.5, b2=0.9))
        >>> positive = optax.projections.projection_non_negative
        >>> pair = qgenx.extragradient(optax.sgd(1.0), projection=positive)
        >>> x = jnp.array([0.1, 0.1])
        >>> delta, _ = pair.extrapolation.update(jnp.array([1.0, 0]), pair.init(x), x)
        >>> x + delta
        Array([0. , 0.1], dtype=float32)

    References:
        Korpelevich, The extragradient method, 1976; Gidel et al., A Variational
        Inequality Perspective on Generative Adversarial Networks, ICLR 2019,
        algorithm 4 (ExtraAdam).
    """
    way_out = "pass what a factory returns, for instance optax.adam(1e-3)"
    check_plain("base", base, way_out)
    return _extrapolated(Plain("base", base), constraint_of(projection))


def _extrapolated(base: Plain, constraint: Constraint | None) -> ExtragradientPair:
    """`extragradient` of a base that has been checked."""

    def init_fn(params: Params) -> ExtragradientState:
        if constraint is not None:
            constraint.check_start(params)
        return ExtragradientState(_trees.copy(params), base.init(params))

    def step_fn(
        updates: DualVector,
        state: State,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[Params, ExtragradientState]:
        way_out = "make the state by init of this very pair"
        _checks.instance_of("state", state, ExtragradientState, way_out)
        _checks.same_structure("params", params, "state.anchor", state.anchor, way_out)
        way_out = "pass the dual vector at these params"
        _checks.same_structure("updates", updates, "params", params, way_out)
        _checks.inexact_leaves("updates", updates)
        moves, base_state = base.update(updates, state.base, params, **extra)
        anchor = pick(half_step, lambda: _trees.copy(params), lambda: state.anchor)

        def from_point(x_t: Params) -> Params:
            # in float32 at least, where params and moves may have few bits
            delta = displacement(constraint, x_t, moves, params)
            # what ends in a set does so in the dtypes of the parameters
            return _trees.cast_like(delta, moves if constraint is None else params)

        delta = pick(
            half_step, lambda: from_point(params), lambda: from_point(state.anchor)
        )
        return delta, ExtragradientState(anchor, base_state)

    return make_pair(init_fn, step_fn)


def extra_adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    *,
    projection: ProjectionLike = None,
) -> ExtragradientPair:
    """ExtraAdam: Adam whose every half-step updates its moments and its counter.

    Args:
        learning_rate: of both half-steps; a schedule counts half-steps, two per
            iteration.
        b1: decay of the first moment, per half-step; 0.5 is usual for GANs.
        b2: decay of the second moment, per half-step.
        eps: added to the square root of the corrected second moment, as in optax.adam.
        projection: as in `extragradient`.

    Returns:
        `extragradient(optax.adam(learning_rate, b1, b2, eps), projection=projection)`.

    Raises:
        ValueError: if a number is negative or not finite, or a decay not below 1.

    Example:
        >>> import qgenx_jax as qgenx
        >>> pair = qgenx.extra_adam(2e-4, b1=0.5, b2=0.9)

    References:
        Gidel et al., A Variational Inequality Perspective on Generative Adversarial
        Networks, ICLR 2019, algorithm 4.
    """
    learning_rate = _rate(learning_rate)
    _check_decay("b1", b1)
    _check_decay("b2", b2)
    _checks.at_least_zero("eps", eps, "optax.adam has 1e-8")
    adam = optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)
    return _extrapolated(Plain("base", adam, trusted=True), constraint_of(projection))


def extra_sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float | None = None,
    *,
    projection: ProjectionLike = None,
) -> ExtragradientPair:
    """Extra-gradient with steps of SGD; without momentum, Korpelevich's method.

    Args:
        learning_rate: of both half-steps; a schedule counts half-steps.
        momentum: decay of the trace, which takes in both vectors; None for none.
        projection: as in `extragradient`.

    Returns:
        `extragradient(optax.sgd(learning_rate, momentum), projection=projection)`.

    Raises:
        ValueError: if a number is negative or not finite, or the momentum not below 1.

    Example:
        >>> import qgenx_jax as qgenx
        >>> pair = qgenx.extra_sgd(0.1)

    References:
        Korpelevich, The extragradient method, 1976.
    """
    learning_rate = _rate(learning_rate)
    if momentum is not None:
        _check_decay("momentum", momentum)
    sgd = optax.sgd(learning_rate, momentum)
    return _extrapolated(Plain("base", sgd, trusted=True), constraint_of(projection))


def _rate(learning_rate: optax.ScalarOrSchedule) -> optax.ScalarOrSchedule:
    """A number, checked, or a schedule that is checked when it is called."""
    if callable(learning_rate):
        return lambda count: not_negative("learning_rate", learning_rate(count))
    way_out = "or pass an optax schedule; to go up, negate the vector"
    return _checks.at_least_zero("learning_rate", learning_rate, way_out)


def _check_decay(argument: str, value: Any) -> None:
    rule, way_out = "must be in [0, 1)", "0.9 for instance"
    _checks.real_number(argument, value, rule, lambda x: 0 <= x < 1, way_out)
