"""What `local_steps` keeps between exchanges, and where a worker stands."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks, _trees
from qgenx_jax._exchange.state import ExchangeState
from qgenx_jax._methods import moves
from qgenx_jax._types import Array, Params, State
from qgenx_jax._workers import reshard


class Alone(NamedTuple):
    """What each worker has for itself between exchanges.

    Attributes:
        drift: its moves since the last exchange, float32 at least.
        inner: the state of its inner optimizer.
    """

    drift: Params
    inner: State


def _average(own: np.ndarray, workers: int) -> np.ndarray:
    """Everyone gets the mean; of counts, which are equal, the same."""
    if np.issubdtype(own.dtype, np.inexact):
        return reshard.average(own, workers)
    return np.repeat(own[:1], workers, axis=0)


_refuse_changed = functools.partial(
    moves.refuse_changed,
    of="local_steps",
    way_out="put what clips or decays into inner, or into outer",
)


class LocalStepsState(NamedTuple):
    """State of `local_steps`.

    Attributes:
        count: calls since the last exchange, int32.
        per_worker: `drift` and `inner` state of each worker, with a leading axis.
        exchange: what the exchange remembers.
        outer: state of the outer optimizer.
    """

    count: Array
    per_worker: Alone
    exchange: ExchangeState
    outer: State
    of_a_whole = True
    judge = staticmethod(_refuse_changed)
    reshard_rule = staticmethod(_average)


def x_local(state: State, params: Params) -> Params:
    """Where this worker stands, X + D_k: its gradient has to be taken there.

    Args:
        state: of a `local_steps`, also within other states; inside the mapped function,
            where it has this worker's own drift.
        params: the parameters X that go with it.

    Returns:
        In the dtypes of params; this worker's own.

    Raises:
        ValueError: unless the state contains exactly one `local_steps`, of this
            worker alone.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> exchange = qgenx.exchange(None, qgenx.uniform(bits=8))  # one worker alone
        >>> optimizer = qgenx.local_steps(4, optax.sgd(0.5), exchange)
        >>> x = jnp.array([4.0])
        >>> updates, state = optimizer.update(x, optimizer.init(x), x)
        >>> optax.apply_updates(x, updates), qgenx.x_local(state, x)
        (Array([4.], dtype=float32), Array([2.], dtype=float32))
    """
    found = _trees.find(state, LocalStepsState)
    if len(found) != 1:
        raise _checks.refuse(
            "state",
            "must contain exactly one LocalStepsState",
            _checks.Text(f"{len(found)} of them"),
            "pass the state of one qgenx_jax.local_steps",
        )
    drift = found[0].per_worker.drift
    _checks.own_leaves("state.per_worker", drift)
    return moved(params, jax.tree.map(lambda d: jnp.squeeze(d, 0), drift))


def moved(params: Params, drift: Params) -> Params:
    """Parameters and a drift, in the dtypes of the parameters."""
    return jax.tree.map(lambda p, d: (p + d).astype(jnp.result_type(p)), params, drift)
