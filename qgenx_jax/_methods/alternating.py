"""A pair as one optax transformation, which takes one dual vector per call."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.traffic import Traffic
from qgenx_jax._methods import moves
from qgenx_jax._methods.exchanging import ExchangingPair, of_iteration
from qgenx_jax._methods.inner import Whole
from qgenx_jax._methods.pair import (
    EXTRAPOLATION,
    UPDATE,
    ExtragradientPair,
    given,
    step_of,
)
from qgenx_jax._types import Array, DualVector, Params, State


class AlternatingState(NamedTuple):
    """State of `alternating`.

    Attributes:
        half_step: 0 if the next call is an extrapolation, 1 if it is an update, int32;
            always 1 for an oracle-free pair.
        inner: the pair's shared state.
    """

    half_step: Array
    inner: State
    of_a_whole = True
    judge = staticmethod(moves.refuse_changed)


class ExchangingAlternating(Whole):
    """An `alternating` with an exchange in it."""

    @property
    def exchange(self) -> Exchange:
        """What carries the dual vectors."""
        return cast(ExchangingPair, self.pair).exchange

    def traffic(self, params: Any, workers: int | tuple[int, ...]) -> Traffic:
        """Bytes that one worker sends and receives in an iteration, all exchanges.

        That is one call of an oracle-free pair, and two of the others, of which neither
        is known when it is traced: a number for the adaptive step size rides at both.

        Args:
            params: the parameters, or their shapes and dtypes.
            workers: as in `Exchange.traffic`.

        Raises:
            ValueError: as `Exchange.traffic` does.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> pair = qgenx.q_genx("data", qgenx.uniform(bits=8))
            >>> traffic = qgenx.alternating(pair).traffic(jnp.zeros(1024), workers=3)
            >>> traffic.exchanges, traffic.sent_bytes  # and two numbers, to 2 others
            (2, 4128)
        """
        rides = cast(ExchangingPair, self.pair).rides
        both = (any(rides),) * len(rides)
        return of_iteration(self.exchange, both, params, workers)


def alternating(pair: ExtragradientPair) -> optax.GradientTransformationExtraArgs:
    """One optax transformation for a pair: one dual vector in, one move out, per call.

    The parameters are always where the next vector is wanted, so this drops into any
    training loop written for optax.

    - Dual extrapolation and `extragradient`: calls take turns, X_t -> X_{t+1/2} ->
      X_{t+1}; an iteration is two calls, and parameters are X_t after an even number.
    - An oracle-free pair (dual averaging, optimistic): a call is an update and the next
      extrapolation together, X_{t+1/2} -> X_{t+3/2}; an iteration is one call.

    A schedule counts what it stands in: that of optax.inject_hyperparams around
    `alternating` calls, so half-steps for the first kind; in `extragradient`'s base or
    before the pair vectors, so half-steps as well; in `scheduled_step_size` iterations.

    Args:
        pair: from `q_genx`, `extragradient` or `chain`.

    Returns:
        The transformation. `params` must be given to its update. With an exchange in
        it, it has the pair's `exchange`, and a `traffic(params, workers)`; an
        optax.chain around it has neither, `accumulate` and `skip_not_finite` both.

    Raises:
        ValueError: if the argument is not such a pair; at the update, without params.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.alternating(qgenx.extra_sgd(0.5))
        >>> rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> x = jnp.array([1.0, 0.0])
        >>> state = optimizer.init(x)
        >>> for _ in range(2):  # two half-steps: one iteration
        ...     delta, state = optimizer.update(rotation @ x, state, x)
        ...     x = optax.apply_updates(x, delta)
        >>> x
        Array([0.75, 0.5 ], dtype=float32)
    """
    step = step_of(pair, may_observe=False)
    first = UPDATE if pair.is_oracle_free else EXTRAPOLATION

    def init_fn(params: Params) -> AlternatingState:
        inner = pair.init(params).inner
        if pair.is_oracle_free:
            # at t = 1 there is no earlier vector: X_{1+1/2} = X_1, but observers see it
            _, inner = step(None, inner, params, half_step=EXTRAPOLATION)
        return AlternatingState(jnp.asarray(first, jnp.int32), inner)

    def update_fn(
        updates: DualVector,
        state: State,
        params: Params | None = None,
        **extra: Any,
    ) -> tuple[Params, AlternatingState]:
        params = given(params)
        way_out = "make it by init of this very alternating optimizer"
        _checks.instance_of("state", state, AlternatingState, way_out)
        if not pair.is_oracle_free:
            delta, inner = step(
                updates, state.inner, params, half_step=state.half_step, **extra
            )
            return moves.marked(delta), AlternatingState(1 - state.half_step, inner)
        to_next, inner = step(updates, state.inner, params, half_step=UPDATE, **extra)
        x_next: Params = jax.tree.map(jnp.add, params, to_next)
        to_half, inner = step(None, inner, x_next, half_step=EXTRAPOLATION, **extra)
        if constraint is None:
            delta = jax.tree.map(jnp.add, to_next, to_half)
        else:
            delta = constraint.move(jax.tree.map(jnp.add, x_next, to_half), params)
        return moves.marked(delta), AlternatingState(state.half_step, inner)

    exchanges = isinstance(pair, ExchangingPair)
    constraint = pair.constraint if exchanges else None
    kind = ExchangingAlternating if exchanges else Whole
    whole = kind(init_fn, update_fn)
    whole.pair = pair
    return whole
