"""Around all else: what a NaN or an infinity would do is undone, alike on all workers.

The exchange is inside, so all workers see one mean and decide alike, and all take part
in every exchange: results are selected, not branched on.
"""

from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._exchange.state import ExchangeState
from qgenx_jax._methods.accumulate import AccumulateState
from qgenx_jax._methods.exchanging import whole_around
from qgenx_jax._methods.inner import Whole, check_plain
from qgenx_jax._methods.pair import (
    ExtragradientPair,
    carried_by,
    make_pair,
    pick,
    step_of,
)
from qgenx_jax._types import Array, DualVector, HalfStep, Params, State
from qgenx_jax._workers import axes, reshard
from qgenx_jax._workers.collectives import on_all
from qgenx_jax._workers.failures import ExchangeError

Optimizer = TypeVar("Optimizer", bound=optax.GradientTransformation | ExtragradientPair)


class SkipNotFiniteState(NamedTuple):
    """State of `skip_not_finite`; the first four fields as in optax.apply_if_finite.

    Attributes:
        notfinite_count: skipped in a row, up to the last update, int32.
        last_finite: whether the last result was finite, bool.
        total_notfinite: results that were not finite, int32.
        inner_state: state of what is inside.
        anchor: of a pair, else None: X_t, from the extrapolation to the update.
        before: of a pair, else None: leaves of its state before the iteration.
        per_worker: as `before`, those that differ between workers.
    """

    notfinite_count: Array
    last_finite: Array
    total_notfinite: Array
    inner_state: State
    anchor: Params | None = None
    before: tuple[Array, ...] | None = None
    per_worker: tuple[Array, ...] | None = None
    of_a_whole = True
    reshard_rule = staticmethod(reshard.zeros)

    def raise_after(self, max_consecutive: int) -> None:
        """Outside of compiled functions: raises after so many bad results in a row.

        With the transformation's own number that is before one is let through. It waits
        for the update that made the state; all processes raise alike.

        Raises:
            ExchangeError: a RuntimeError, with the counts.
        """
        most = _checks.whole_number("max_consecutive", max_consecutive, 1, None)
        row = int(self.notfinite_count)
        if row >= most:
            raise ExchangeError(
                f"exchanged vectors must be finite once in {most} updates, got {row} "
                f"in a row that were not, of {int(self.total_notfinite)} in all: lower "
                "the step size, or look at what the workers compute"
            )


def skip_not_finite(optimizer: Optimizer, max_consecutive: int = 5) -> Optimizer:
    """Skips what would make parameters or state NaN or infinite, on all workers alike.

    A result is an optimizer's move and the floating-point leaves of its new state, but
    for what is this worker's own. Where an entry that was finite is not any more,

        move <- 0,    state <- the state before,

    and a count goes up; only the keys of exchanges go on, in which all workers took
    part. More than `max_consecutive` in a row are let through, as in
    optax.apply_if_finite: a compiled function cannot raise. `state.raise_after` can.

    It goes around all that moves with a vector, and the unit is what it goes around:

    - `optax.chain(quantized_mean(...), ...)`, `alternating(pair)`: a call. With
      `alternating` a bad half-step is made again with the next vector, from where the
      parameters are: at X_t an extrapolation, at X_{t+1/2} an update.
    - a pair, `q_genx`, `extragradient` or a `chain` of either with its averages: an
      iteration. After a bad extrapolation the parameters stay at X_t, and the update
      that follows moves nothing; after a bad update they go back to X_t, to rounding.
      The state holds X_t and a copy of the pair's state for that.
    - `accumulate(k, optimizer)`: an exchange; this is `accumulate(k, skip_not_finite(
      optimizer))`, which drops the sum of k vectors with a NaN in it.

    After `quantized_mean` in a chain it leaves what is before it unguarded; around a
    transformation without an exchange each worker would decide for itself.

    What hides an infinity is believed: optax.clip makes a finite number of one, and
    adam with an infinite second moment a move of 0, but its state is looked at.

    Args:
        optimizer: an optax transformation, or a pair.
        max_consecutive: results in a row that are skipped, at least 1.

    Returns:
        A transformation, or a pair of the same kind. Its state, a `SkipNotFiniteState`,
        counts; within that of a pair, `optax.tree.get(state, "total_notfinite")` reads
        it. `exchange` and `traffic` are the optimizer's, where it has them.

    Raises:
        ValueError: if the optimizer is neither, or max_consecutive no whole number
            above 0; at init, if there is an `accumulate` further inside.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.skip_not_finite(
        ...     optax.chain(qgenx.quantized_mean(None, None), optax.sgd(0.5))
        ... )
        >>> x = jnp.ones(3)
        >>> state = optimizer.init(x)
        >>> for gradient in (x, x * jnp.nan, x):
        ...     delta, state = optimizer.update(gradient, state, x)
        ...     print(delta, state.total_notfinite)
        [-0.5 -0.5 -0.5] 0
        [0. 0. 0.] 1
        [-0.5 -0.5 -0.5] 1
        >>> state.raise_after(5)
    """
    most = _checks.whole_number("max_consecutive", max_consecutive, 1, None)
    if isinstance(optimizer, ExtragradientPair):
        return cast(Optimizer, _around_pair(optimizer, most))
    way_out = "pass an optimizer or a whole pair"
    check_plain("optimizer", optimizer, way_out, may_be_whole=True)
    if isinstance(optimizer, Whole) and optimizer.around is not None:
        return cast(Optimizer, optimizer.around(lambda x: skip_not_finite(x, most)))
    return cast(Optimizer, _around_transformation(optimizer, most))


def _around_transformation(optimizer: Any, most: int) -> Whole:
    inside, optimizer = optimizer, optax.with_extra_args_support(optimizer)

    def init_fn(params: Params) -> State:
        inner = optimizer.init(params)
        _refuse_accumulate(inner)
        return _start(inner)

    def update_fn(
        updates: Params, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Params, State]:
        _check(state)
        moves, inner = optimizer.update(updates, state.inner_state, params, **extra)
        finite = _is_finite(moves, inner, state.inner_state)
        keep = finite | (state.notfinite_count >= most)
        moves = _selected(keep, moves, jax.tree.map(jnp.zeros_like, moves))
        inner = _selected(keep, inner, state.inner_state)
        return moves, _counted(state, finite)._replace(inner_state=inner)

    return whole_around(inside, init_fn, update_fn)


def _around_pair(pair: ExtragradientPair, most: int) -> ExtragradientPair:
    step = step_of(pair, may_observe=False)

    def init_fn(params: Params) -> SkipNotFiniteState:
        inner = pair.init(params).inner
        return _remembering(_start(inner), params)

    def step_fn(
        updates: DualVector | None,
        state: State,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[Params, SkipNotFiniteState]:
        _check(state)
        old = state.inner_state
        moves, inner = step(updates, old, params, half_step=half_step, **extra)
        finite = _is_finite(moves, inner, old)
        give_up = state.notfinite_count >= most

        def extrapolated() -> tuple[Params, SkipNotFiniteState]:
            keep = finite | give_up
            after = _remembering(state, params)._replace(
                last_finite=finite, inner_state=_selected(keep, inner, old)
            )
            return _selected(keep, moves, jax.tree.map(jnp.zeros_like, moves)), after

        def updated() -> tuple[Params, SkipNotFiniteState]:
            both = finite & state.last_finite
            keep = both | give_up
            x_t, x_half = _trees.widen(state.anchor), _trees.widen(params)
            back = _trees.cast_like(jax.tree.map(jnp.subtract, x_t, x_half), moves)
            after = _counted(state, both)._replace(
                inner_state=_selected(keep, inner, _before(state))
            )
            return _selected(keep, moves, back), after

        return pick(half_step, extrapolated, updated)

    return make_pair(
        init_fn,
        step_fn,
        type(pair),
        oracle_free=pair.is_oracle_free,
        carried=carried_by(pair),
    )


def _start(inner: State) -> SkipNotFiniteState:
    zero = jnp.zeros((), jnp.int32)
    return SkipNotFiniteState(zero, jnp.array(True), jnp.zeros_like(zero), inner)


def _counted(state: SkipNotFiniteState, finite: Array) -> SkipNotFiniteState:
    """With one more result in the counts."""
    row = optax.safe_increment(state.notfinite_count)
    total = optax.safe_increment(state.total_notfinite)
    return state._replace(
        notfinite_count=jnp.where(finite, 0, row),
        last_finite=finite,
        total_notfinite=jnp.where(finite, state.total_notfinite, total),
    )


def _remembering(state: SkipNotFiniteState, params: Params) -> SkipNotFiniteState:
    """With X_t and the pair's state as they are now, in buffers of their own.

    As leaves alone, so that nobody who looks for a state finds two of it.
    """
    shared, own = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.inner_state):
        (own if axes.is_per_worker(path) else shared).append(_trees.copy(leaf))
    return state._replace(
        anchor=_trees.copy(params), before=tuple(shared), per_worker=tuple(own)
    )


def _before(state: SkipNotFiniteState) -> State:
    """The pair's state that is remembered."""
    assert state.before is not None
    assert state.per_worker is not None
    shared, own = iter(state.before), iter(state.per_worker)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: next(own if axes.is_per_worker(path) else shared),
        state.inner_state,
    )


def _is_finite(moves: Params, new: State, old: State) -> Array:
    """Whether no entry that all workers have became NaN or infinite; alike on all.

    What was infinite before may stay so: some states begin with an infinity.
    """
    good = [jnp.isfinite(x).all() for x in jax.tree.leaves(moves)]
    with_path = jax.tree_util.tree_leaves_with_path(new)
    for (path, x), y in zip(with_path, jax.tree.leaves(old), strict=True):
        is_number = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
        if is_number and x is not y and not axes.is_per_worker(path):
            good.append((jnp.isfinite(x) | ~jnp.isfinite(y)).all())
    return on_all(jnp.stack(good).all()) if good else jnp.array(True)


def _selected(keep: Array, new: Any, old: Any) -> Any:
    """One of two trees; of exchanges' states the new keys in any case."""

    def choose(new: Any, old: Any) -> Any:
        if isinstance(new, ExchangeState):
            return _leafwise(keep, new, old)._replace(key=new.key)
        return _leafwise(keep, new, old)

    is_exchange = lambda node: isinstance(node, ExchangeState)  # noqa: E731
    return jax.tree.map(choose, new, old, is_leaf=is_exchange)


def _leafwise(keep: Array, new: Any, old: Any) -> Any:
    def choose(x: Any, y: Any) -> Any:
        return x if x is y else jnp.where(keep, x, jnp.asarray(y, jnp.result_type(x)))

    return jax.tree.map(choose, new, old)


def _refuse_accumulate(inner: State) -> None:
    """Checks that no accumulator's own sums, NaN in one, would be put back."""
    if _trees.find(inner, AccumulateState):
        raise _checks.refuse(
            "optimizer",
            "must have no accumulate further inside, whose sums are a worker's own",
            _checks.Text("one with an AccumulateState"),
            "write qgenx_jax.accumulate(k, qgenx_jax.skip_not_finite(inner))",
        )


def _check(state: Any) -> None:
    way_out = "make the state by init of this very transformation"
    _checks.instance_of("state", state, SkipNotFiniteState, way_out)
