"""Local steps: workers go on alone, and exchange what they have moved at times."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import optax
from jax import lax

from qgenx_jax import _checks, _trees
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.quantized_mean import QuantizedMean
from qgenx_jax._exchange.state import ExchangeState
from qgenx_jax._exchange.traffic import Traffic
from qgenx_jax._methods import moves
from qgenx_jax._methods.inner import Whole, check_plain
from qgenx_jax._methods.local_steps_state import Alone, LocalStepsState, moved
from qgenx_jax._methods.pair import given
from qgenx_jax._methods.q_genx_state import QGenXState
from qgenx_jax._types import Params, State
from qgenx_jax._workers import axes

_OF_THIS = "make the state by init of this very transformation"


class LocalSteps(Whole):
    """What `local_steps` returns: a transformation that contains an exchange.

    Attributes:
        every: H, calls from one exchange to the next.
        exchange: what carries the drifts.
    """

    every: int
    exchange: Exchange

    def traffic(self, params: Any, workers: int | tuple[int, ...]) -> Traffic:
        """Bytes that one worker sends and receives in H calls, not in each.

        Args:
            params: the parameters, or their shapes and dtypes.
            workers: as in `Exchange.traffic`.

        Raises:
            ValueError: as `Exchange.traffic` does.

        Example:
            >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
            >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
            >>> optimizer = qgenx.local_steps(16, optax.adam(1e-3), exchange)
            >>> traffic = optimizer.traffic(jnp.zeros(8192), workers=3)
            >>> traffic.sent_bytes / optimizer.every  # a call
            516.0
            >>> round(qgenx.Link().seconds(traffic) / optimizer.every * 1e6)  # us
            4
        """
        return self.exchange.traffic(params, workers)


def local_steps(
    every: int,
    inner: optax.GradientTransformation,
    exchange: Exchange | QuantizedMean,
    *,
    outer: optax.GradientTransformation | None = None,
) -> LocalSteps:
    """H steps of each worker alone, then one exchange of what they have moved.

        worker k:   D_k <- D_k + inner(g_k(X + D_k))           at every call
        all:        X <- X + outer(-(1/K) sum_k Q(D_k)),  D_k <- 0    at every H-th

    The parameters X are equal on all workers, and stay where they are between
    exchanges; worker k stands at X + D_k, where its gradient has to be taken:

        here = qgenx.x_local(state, params)
        value, gradient = qgenx.value_and_grad(loss, "data")(here, batch)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)

    Without `outer` the next X is the mean of where the workers stand (local SGD). By
    `optax.sgd(0.7, momentum=0.9, nesterov=True)` with an inner AdamW this is DiLoCo,
    by `alternating(extragradient(...))` inside local extra-gradient. A worker keeps its
    inner optimizer's state over exchanges.

    Args:
        every: H, at least 1; even with an `alternating` that takes two calls an
            iteration.
        inner: of each worker, without an exchange in it.
        exchange: an `exchange` over the workers' axis, or a `quantized_mean`, of whose
            exchange is made use; drifts are rounded without bias.
        outer: of all, given minus the mean drift as a gradient; None for
            `optax.sgd(1.0)`.

    Returns:
        A transformation; its state differs between workers below `per_worker`, and is
        made by `qgenx.init` for a mesh or a number of workers. Other calls than every
        H-th return zeros, and send nothing. It has `exchange`, `every` and
        `traffic(params, workers)`, the bytes of one exchange.

    Raises:
        ValueError: if every is no whole number above 0, inner or outer no plain
            transformation, or exchange none; at `init`, if an exchange or a `q_genx`,
            which goes by its starting point, is inside; at the update, if the vector is
            not one like the parameters, or in `jax.shard_map` not a worker's own.

    Example:
        >>> import jax, jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=8))
        >>> optimizer = qgenx.local_steps(4, optax.sgd(0.1), exchange)
        >>> def step(params, state, target):
        ...     gradient = qgenx.x_local(state, params) - target
        ...     updates, state = optimizer.update(gradient, state, params)
        ...     return optax.apply_updates(params, updates), state
        >>> run = qgenx.map_workers(step, "data", workers=2)
        >>> x = jnp.zeros(2)
        >>> state = qgenx.init(optimizer, x, workers=2)
        >>> for _ in range(80):  # 20 exchanges
        ...     x, state = run(x, state, jnp.array([[1.0, 0.0], [3.0, 2.0]]))
        >>> x.round(1)
        Array([2., 1.], dtype=float32)

    References:
        Stich, Local SGD Converges Fast and Communicates Little, ICLR 2019; Douillard et
        al., DiLoCo: Distributed Low-Communication Training of Language Models, 2023;
        Beznosikov et al., Distributed Saddle-Point Problems Under Similarity, 2021.
    """
    every = _checks.whole_number("every", every, 1, None)
    check_plain(
        "inner", inner, "wrap a pair in qgenx_jax.alternating", may_be_whole=True
    )
    outer = optax.sgd(1.0) if outer is None else outer
    check_plain(
        "outer", outer, "for instance optax.sgd(0.7, momentum=0.9, nesterov=True)"
    )
    if isinstance(exchange, QuantizedMean) and exchange.mesh is not None:
        raise _checks.refuse(
            "exchange",
            "must be one for a mapped step: drifts are each worker's own",
            _checks.Text("a quantized_mean with a mesh"),
            "leave mesh= out there, and run the step by map_workers or jax.shard_map",
        )
    carrier = exchange.exchange if isinstance(exchange, QuantizedMean) else exchange
    _checks.instance_of(
        "exchange",
        carrier,
        Exchange,
        "for instance qgenx_jax.exchange('data', qgenx_jax.uniform(bits=4))",
    )
    _refuse_odd(every, inner)
    inner = optax.with_extra_args_support(inner)
    outer = optax.with_extra_args_support(outer)

    def init_fn(params: Params) -> State:
        _checks.inexact_leaves("params", params)
        axes.refuse_reserved_name(params)
        own = inner.init(params)
        _refuse_inside(own)
        kept = outer.init(params)
        if _trees.find(kept, ExchangeState):
            raise _checks.refuse(
                "outer",
                "must have no exchange in it",
                _checks.Text("one that exchanges the mean again"),
                "leave quantized_mean out: what outer is given is the mean",
            )
        drift = jax.tree.map(
            lambda x: jnp.zeros(jnp.shape(x), _trees.accumulator_dtype(x)), params
        )
        alone = jax.tree.map(lambda x: jnp.asarray(x)[None], Alone(drift, own))
        count = jnp.zeros((), jnp.int32)
        return LocalStepsState(count, alone, carrier.init(), kept)

    def update_fn(
        updates: Params, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Params, State]:
        params = given(params)
        _check(updates, state, params, carrier)
        own = jax.tree.map(lambda x: jnp.squeeze(x, 0), state.per_worker)
        here = moved(params, own.drift)
        step, inside = inner.update(updates, own.inner, here, **extra)
        drift = jax.tree.map(lambda d, m: d + m.astype(d.dtype), own.drift, step)

        def exchanged(shared: tuple) -> tuple:
            mean, remembered = carrier.mean(drift, shared[0])
            pseudo = _trees.cast_like(jax.tree.map(jnp.negative, mean), params)
            step, kept = outer.update(pseudo, shared[1], params)
            zeros = axes.vary_like(jax.tree.map(jnp.zeros_like, drift), drift)
            return _trees.cast_like(step, params), zeros, (remembered, kept)

        def alone(shared: tuple) -> tuple:
            step, _, after = jax.eval_shape(exchanged, shared)
            zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), step)
            return axes.vary_like(zeros, step), drift, axes.vary_like(shared, after)

        # one branch for all workers, as the count is the same on all
        due = state.count + 1 >= every
        shared = (state.exchange, state.outer)
        step, drift, shared = lax.cond(due, exchanged, alone, shared)
        own = jax.tree.map(lambda x: x[None], Alone(drift, inside))
        count = jnp.where(due, 0, state.count + 1)
        return moves.marked(step), LocalStepsState(count, own, *shared)

    made = LocalSteps(init_fn, update_fn)
    made.every, made.exchange = every, carrier
    made.around = _refuse_guard
    return made


def _refuse_guard(wrap: Any) -> NoReturn:
    del wrap
    raise _checks.refuse(
        "optimizer",
        "must not be local_steps, whose drifts would keep what is not finite",
        _checks.Text("skip_not_finite around local_steps"),
        "put it inside: local_steps(every, skip_not_finite(inner), exchange)",
    )


def _refuse_odd(every: int, inner: Any) -> None:
    pair = inner.pair if isinstance(inner, Whole) else None
    if every % 2 and pair is not None and not pair.is_oracle_free:
        raise _checks.refuse(
            "every",
            "must be even, where an iteration of the inner alternating is two calls",
            every,
            f"use {every + 1}: half-way, workers stand at X_(t+1/2)",
        )


def _refuse_inside(own: State) -> None:
    """Checks that a worker's optimizer can go on alone, from wherever it is put.

    Raises:
        ValueError: if it exchanges, or goes by the point where it began.
    """
    if _trees.find(own, QGenXState):
        raise _checks.refuse(
            "inner",
            "must go on from wherever the exchange has put it",
            _checks.Text("q_genx, whose points are X_1 plus a sum"),
            "use alternating(extragradient(...))",
        )
    if _trees.find(own, LocalStepsState):
        raise _checks.refuse(
            "inner",
            "must not be local_steps itself",
            _checks.Text("one in the other"),
            "for two levels of a network use collective='hierarchical'",
        )
    if _trees.find(own, ExchangeState):
        raise _checks.refuse(
            "inner",
            "must have no exchange in it",
            _checks.Text("one that exchanges at every call"),
            "leave quantized_mean out, and give its exchange as exchange=",
        )


def _check(updates: Params, state: Any, params: Params, carrier: Exchange) -> None:
    """Checks that the state is this one's, and the vector a worker's own."""
    _checks.instance_of("state", state, LocalStepsState, _OF_THIS)
    _checks.own_leaves("state.per_worker", state.per_worker)
    way_out = "pass a gradient at qgenx_jax.x_local(state, params)"
    _checks.same_structure("updates", updates, "params", params, way_out)
    _checks.inexact_leaves("updates", updates)
    axes.axis_size(carrier.axis_name)
    axes.refuse_replicated("updates", updates, carrier.axis_name)
    axes.refuse_shards(params, carrier.axis_name)
