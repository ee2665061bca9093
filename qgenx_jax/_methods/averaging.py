"""Averages of the iterates, kept by pairs that only observe, chained after a pair."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.known_leaves import filled, hidden_like, overlaid
from qgenx_jax._methods.pair import EXTRAPOLATION, UPDATE, Observer, make_pair, pick
from qgenx_jax._types import Array, DualVector, HalfStep, Params, State


class ErgodicAverageState(NamedTuple):
    """State of `ergodic_average`.

    Attributes:
        count: T, the number of points averaged, int32.
        average: (1/T) sum_{t<=T} X_{t+1/2}, float32 at least; the first point if T = 0.
        rest: what rounding left out of the average, to be added to the next increment.
    """

    count: Array
    average: Params
    rest: Params

    @classmethod
    def start(cls, point: Params) -> "ErgodicAverageState":
        """Before anything is averaged, for trees like this one.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> average = qgenx.ErgodicAverageState.start(jnp.zeros(2))
            >>> for x in (1.0, 2.0, 6.0):
            ...     average = average.add(jnp.full(2, x))
            >>> average.average
            Array([3., 3.], dtype=float32)
        """
        average = _trees.copy(_trees.widen(point))
        zeros = jax.tree.map(jnp.zeros_like, average)
        return cls(jnp.zeros((), jnp.int32), average, zeros)

    def add(self, point: Params) -> "ErgodicAverageState":
        """With one more point.

        In float32 the increments, 1/T of what is averaged, drown in rounding from
        T = 10^4 on: what an addition leaves out waits in `rest` (Kahan's summation).
        """
        count = jnp.asarray(optax.safe_increment(self.count))

        def increment(mean: Array, rest: Array, x: Array) -> Array:
            return (x - mean - rest) / count.astype(mean.dtype) + rest

        point = _trees.widen(point)
        steps = jax.tree.map(increment, self.average, self.rest, point)
        average = jax.tree.map(jnp.add, self.average, steps)
        rest = jax.tree.map(
            lambda step, new, old: step - (new - old), steps, average, self.average
        )
        return ErgodicAverageState(count, average, rest)


class EmaState(NamedTuple):
    """State of `ema`.

    Attributes:
        average: exponential moving average of X_1, X_2, ..., float32 at least; first
            X_1.
        count: points averaged after X_1, int32; None unless the decay is a schedule.
    """

    average: Params
    count: Array | None = None

    @classmethod
    def start(cls, point: Params) -> "EmaState":
        """The average of the first point alone.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> average = qgenx.EmaState.start(jnp.zeros(2)).add(jnp.ones(2), 0.75)
            >>> average.average
            Array([0.25, 0.25], dtype=float32)
        """
        return cls(_trees.copy(_trees.widen(point)))

    def add(self, point: Params, decay: chex.Numeric) -> "EmaState":
        """With the next point: e <- decay e + (1 - decay) point."""

        # not decay * e + (1 - decay) * x: in float32 the two weights do not add up to 1
        def moved(average: Array, x: Array) -> Array:
            weight: Any = 1 - decay
            if isinstance(weight, jax.Array):
                weight = weight.astype(average.dtype)
            return average + weight * (x - average)

        average = jax.tree.map(moved, self.average, _trees.widen(point))
        if self.count is None:
            return EmaState(average)
        return EmaState(average, jnp.asarray(optax.safe_increment(self.count)))


def ergodic_average() -> Observer:
    """The uniform average of the leading states, for which Q-GenX's rates hold.

        X-bar_T = (1/T) sum_{t=1..T} X_{t+1/2}

    Returns:
        An observer, to be chained after a pair; read by `ergodic_average_params`.

    Example:
        >>> import qgenx_jax as qgenx
        >>> pair = qgenx.chain(qgenx.q_genx("data", None), qgenx.ergodic_average())

    References:
        Ramezani-Kebrya et al., Distributed Extra-gradient with Optimal Complexity and
        Communication Guarantees, ICLR 2023, theorems 3 and 4.
    """

    return _observer(
        ErgodicAverageState.start, lambda point, state: state.add(point), EXTRAPOLATION
    )


def ema(decay: float | optax.Schedule = 0.9999) -> Observer:
    """Exponential moving average of the iterates: e <- decay e + (1 - decay) X_{t+1}.

    It starts at X_1, without bias correction, as GAN training code does.

    Args:
        decay: in [0, 1); or a schedule of it, a function of the number of points
            averaged after X_1: decay(0) for X_2.

    Returns:
        An observer, to be chained after a pair; read by `ema_params`.

    Raises:
        ValueError: if decay is outside [0, 1), as far as it is known.

    Example:
        >>> import qgenx_jax as qgenx
        >>> pair = qgenx.chain(qgenx.extra_adam(2e-4), qgenx.ema(0.999))
    """
    if not callable(decay):
        constant = _checked_decay(decay)
        return _observer(
            EmaState.start, lambda point, state: state.add(point, constant), UPDATE
        )

    def start(point: Params) -> EmaState:
        return EmaState.start(point)._replace(count=jnp.zeros((), jnp.int32))

    def add(point: Params, state: EmaState) -> EmaState:
        if state.count is None:
            found = _checks.Text("None")
            rule = "must count points, for a schedule of them"
            way_out = "make the state by init of this very optimizer"
            raise _checks.refuse("state.count", rule, found, way_out)
        return state.add(point, _checked_decay(decay(state.count)))

    _checked_decay(decay(jnp.zeros((), jnp.int32)))
    return _observer(start, add, UPDATE)


def _checked_decay(decay: Any) -> Any:
    return _checks.real_number(
        "decay", decay, "must be in [0, 1)", lambda x: 0 <= x < 1, "0.9999 is usual"
    )


def ergodic_average_params(state: State, params: Params | None = None) -> Params:
    """Reads X-bar_T from the state of anything that contains `ergodic_average`.

    Args:
        state: a pair's, a chain's or an alternating optimizer's state.
        params: gives the dtypes of the result, and the leaves that optax.masked or
            optax.partition hide from the average, which are not averaged; without it,
            as accumulated, with optax.MaskedNode in their place.

    Raises:
        ValueError: unless the state contains exactly one such average of a leaf.
    """
    return _read(state, ErgodicAverageState, params)


def ema_params(state: State, params: Params | None = None) -> Params:
    """Reads the moving average from the state of anything that contains `ema`.

    Args:
        state: a pair's, a chain's or an alternating optimizer's state.
        params: gives the dtypes of the result, and the leaves that optax.masked or
            optax.partition hide from the average, which are not averaged; without it,
            as accumulated, with optax.MaskedNode in their place.

    Raises:
        ValueError: unless the state contains exactly one such average of a leaf.
    """
    return _read(state, EmaState, params)


def _observer(init_fn: Any, observe: Any, when: int) -> Observer:
    """Looks at params + updates at one of the half-steps, and passes updates on."""

    def step_fn(
        updates: DualVector,
        state: State,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[DualVector, State]:
        del extra

        def seen() -> State:
            point = jax.tree.map(jnp.add, _trees.widen(params), _trees.widen(updates))
            return observe(point, state)

        def unseen() -> State:
            return state

        sides = (seen, unseen) if when == EXTRAPOLATION else (unseen, seen)
        return updates, pick(half_step, *sides)

    return make_pair(init_fn, step_fn, Observer)


def _read(state: State, kind: type, params: Params | None) -> Any:
    found = [node.average for node in _trees.find(state, kind)]
    name = kind.__name__
    way_out = "chain the average after the pair, once, and pass that optimizer's state"
    if not found:
        rule = f"must contain exactly one {name}"
        raise _checks.refuse("state", rule, _checks.Text("0 of them"), way_out)
    average = overlaid(found, name, way_out)
    if params is None:
        return average
    way_out = "pass the parameters that go with this state, or none"
    seen = hidden_like(params, average, way_out)
    return filled(_trees.cast_like(average, seen), params)
