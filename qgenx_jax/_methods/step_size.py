"""Step sizes gamma_t of Q-GenX: the adaptive rule, a constant, a schedule.

One interface, `StepSize(init, value, update)`: `value(state, K)` is gamma_t, and
`update(state, sum_of_squares)` takes in iteration t, after which the value is
gamma_{t+1}.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import chex
import jax.numpy as jnp
import optax

from qgenx_jax import _checks
from qgenx_jax._types import Array, State


class StepSize(NamedTuple):
    """A rule for gamma_t, three pure functions.

    Attributes:
        init: `init() -> state`, before the first iteration.
        value: `value(state, workers) -> gamma_t`, a scalar.
        update: `update(state, sum_of_squares) -> state`, with the sum over workers of
            ||V_{k,t} - V_{k,t+1/2}||^2 of the iteration that ends.
        needs_sum: whether the rule reads that sum. Without it nothing is sent for it,
            and `update` gets 0.
    """

    init: Callable[[], State]
    value: Callable[[State, int], Array]
    update: Callable[[State, Array], State]
    needs_sum: bool = True


class AdaptiveStepSizeState(NamedTuple):
    """State of `adaptive_step_size`.

    Attributes:
        sum_of_squares: scalar, sum_{i<t} sum_k ||V_{k,i} - V_{k,i+1/2}||^2; 0 before
            the first iteration. float64 where JAX is set to it (jax_enable_x64), else
            float32.
    """

    sum_of_squares: Array


class ScheduledStepSizeState(NamedTuple):
    """State of a step size that is a constant or a schedule.

    Attributes:
        count: iterations completed, t - 1, int32.
    """

    count: Array


def adaptive_step_size(
    gamma0: chex.Numeric = 1.0, initial_sum: chex.Numeric = 1.0
) -> StepSize:
    """The rule of Q-GenX, which needs no Lipschitz constant, noise level or horizon.

        gamma_t = gamma0 K (c + sum_{i<t} sum_k ||V_{k,i} - V_{k,i+1/2}||^2)^(-1/2)

    with each worker's own quantized dual vectors V_k, and c = 1 in the paper. So
    gamma_1 = gamma0 K c^(-1/2), and the first extrapolation is that times ||A(X_1)||.
    Another c is the paper's rule for the operator A c^(-1/2): its guarantees hold. It
    is for vectors much longer than 1, where a gamma0 that fits the later steps makes
    the first ones far too long.

    Args:
        gamma0: positive factor; the paper's is 1.
        initial_sum: c, positive, in the units of ||V||^2.

    Returns:
        A `StepSize`. Its values are NaN once the sum of squares has overflowed, which
        in float32 takes vectors of norm 1.8e19: gamma would be 0 for ever.

    Raises:
        ValueError: if a number is not positive and finite.

    Example:
        >>> import qgenx_jax as qgenx
        >>> rule = qgenx.adaptive_step_size(0.5)
        >>> state = rule.update(rule.init(), 15.0)
        >>> float(rule.value(state, 4))  # 0.5 * 4 / sqrt(1 + 15)
        0.5

    References:
        Ramezani-Kebrya et al., Distributed Extra-gradient with Optimal Complexity and
        Communication Guarantees, ICLR 2023, theorem 3.
    """
    _checks.positive(
        "gamma0", gamma0, "the paper uses 1.0; one for each player goes to q_genx"
    )
    _checks.positive("initial_sum", initial_sum, "the paper uses 1.0")
    numbers = initial_sum, gamma0

    def init_fn() -> AdaptiveStepSizeState:
        return AdaptiveStepSizeState(jnp.zeros(()))

    def value_fn(state: AdaptiveStepSizeState, workers: int) -> Array:
        # a whole number beyond 2^31 is no int32
        first, scale = (x if hasattr(x, "dtype") else float(x) for x in numbers)
        squares = jnp.asarray(first) + state.sum_of_squares
        gamma = jnp.asarray(scale) * workers / jnp.sqrt(squares)
        return jnp.where(jnp.isinf(state.sum_of_squares), jnp.nan, gamma)

    def update_fn(
        state: AdaptiveStepSizeState, sum_of_squares: Array
    ) -> AdaptiveStepSizeState:
        total = state.sum_of_squares + sum_of_squares
        return AdaptiveStepSizeState(total.astype(state.sum_of_squares.dtype))

    return StepSize(init_fn, value_fn, update_fn)


def scheduled_step_size(schedule: chex.Numeric | optax.Schedule) -> StepSize:
    """gamma_t = schedule(t - 1), or a constant; the workers are not counted in.

    Args:
        schedule: a positive number, or an optax schedule of the completed iterations;
            where that is negative in a compiled program, parameters become NaN.

    Returns:
        A `StepSize`.

    Raises:
        ValueError: if a number is not positive and finite.

    Example:
        >>> import qgenx_jax as qgenx
        >>> rule = qgenx.scheduled_step_size(lambda count: 1 / (count + 1.0))
        >>> state = rule.update(rule.init(), 0.0)
        >>> float(rule.value(state, 4))
        0.5
    """
    if not callable(schedule):
        way_out = "or pass an optax schedule or a StepSize; None is the adaptive rule"
        _checks.positive("step_size", schedule, way_out)

    def init_fn() -> ScheduledStepSizeState:
        return ScheduledStepSizeState(jnp.zeros((), jnp.int32))

    def value_fn(state: ScheduledStepSizeState, workers: int) -> Array:
        del workers
        return jnp.asarray(schedule(state.count) if callable(schedule) else schedule)

    def update_fn(
        state: ScheduledStepSizeState, sum_of_squares: Array
    ) -> ScheduledStepSizeState:
        del sum_of_squares
        return ScheduledStepSizeState(jnp.asarray(optax.safe_increment(state.count)))

    return StepSize(init_fn, value_fn, update_fn, needs_sum=False)


def gamma(rule: StepSize, state: State, workers: int) -> Array:
    """gamma_t by a rule: one number; NaN where a compiled program finds it negative.

    Raises:
        ValueError: if it is not one real number, or known to be negative.
    """
    return not_negative("step_size", rule.value(state, workers))


def not_negative(argument: str, value: Any) -> Array:
    """What a rule or a schedule gave; NaN where a compiled program finds it negative.

    Raises:
        ValueError: if it is not one real number, or known to be negative.
    """
    _checks.real_number(
        argument,
        value,
        "must give one real number that is not negative",
        lambda x: not x < 0,
        "a positive one is a step against the vector",
    )
    value = jnp.asarray(value)
    return jnp.where(value < 0, jnp.nan, value)


StepSizeLike: TypeAlias = StepSize | chex.Numeric | optax.Schedule | None


def lift(step_size: StepSizeLike, gamma0: Any, initial_sum: Any = None) -> StepSize:
    """The rule for what a user gave: None is the adaptive rule with these numbers.

    Raises:
        ValueError: if it is no rule, or a number is given with one.
    """
    if step_size is None:
        return adaptive_step_size(
            1.0 if gamma0 is None else gamma0,
            1.0 if initial_sum is None else initial_sum,
        )
    for name, value in (("gamma0", gamma0), ("initial_sum", initial_sum)):
        if value is not None:
            raise _checks.refuse(
                name,
                "must be left out where step_size is given, which has its own scale",
                value,
                "pass step_size=qgenx_jax.adaptive_step_size(gamma0, initial_sum), or "
                "scale step_size; for a number for each player leave step_size out",
            )
    if any(step_size is x for x in (StepSize, adaptive_step_size, scheduled_step_size)):
        rule, way_out = "must be a number, a schedule or a StepSize", "call the factory"
        raise _checks.refuse("step_size", rule, step_size, way_out)
    if not isinstance(step_size, StepSize):
        return scheduled_step_size(step_size)
    for name in ("init", "value", "update"):
        what = "as the documentation of StepSize says"
        value = getattr(step_size, name)
        _checks.function(f"step_size.{name}", value, what, "give all three")
    _checks.instance_of("step_size.needs_sum", step_size.needs_sum, bool, "pass a bool")
    return step_size
