"""Microbatches: vectors are added up on each worker, and exchanged once in k calls."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from qgenx_jax import _checks, _trees
from qgenx_jax._exchange.traffic import Traffic
from qgenx_jax._methods.exchanging import ExchangingWhole, whole_around
from qgenx_jax._methods.inner import check_plain
from qgenx_jax._types import Array, Params, State
from qgenx_jax._workers import axes, reshard

_OF_THIS = "make the state by init of this very transformation"


def refuse_schedules_around(state: State) -> None:
    """Checks that no schedule counts the calls of an `accumulate`, for its updates.

    Args:
        state: of an optimizer, or a tree with such states.

    Raises:
        ValueError: if optax.inject_hyperparams has a schedule around an accumulate.
    """
    for node in _trees.find(state, optax.InjectStatefulHyperparamsState):
        if node.hyperparams_states and _trees.find(node.inner_state, AccumulateState):
            raise _checks.refuse(
                "optimizer",
                "must have no schedule injected around accumulate, where it counts "
                "calls and not updates",
                _checks.Text(f"schedules of {sorted(node.hyperparams_states)}"),
                "put optax.inject_hyperparams inside, "
                "qgenx_jax.accumulate(k, optax.inject_hyperparams(make)(schedule)); "
                "a number may be injected around it",
            )
        refuse_schedules_around(node.inner_state)


class AccumulateState(NamedTuple):
    """State of `accumulate`.

    Attributes:
        count: calls since the last exchange, int32.
        per_worker: sum of this worker's vectors since then, with a leading worker axis,
            float32 at least.
        inner: state of the inner transformation.
        updates: exchanges until now, int32; None unless k is a schedule of it.
    """

    count: Array
    per_worker: Params
    inner: State
    updates: Array | None = None
    of_a_whole = True
    reshard_rule = staticmethod(reshard.average)
    judge_state = staticmethod(refuse_schedules_around)


class ExchangingAccumulate(ExchangingWhole):
    """An `accumulate` around what has an exchange in it."""

    def traffic(self, params: Any, workers: int | tuple[int, ...]) -> Traffic:
        """The bytes of `inner.traffic`, which one worker sends in k calls, not in each.

        Of an update of `quantized_mean` those of k calls; of an `alternating`, whose
        are those of an iteration, of k, or where half-steps take turns of 2 k calls.

        Args:
            params: the parameters, or their shapes and dtypes.
            workers: as in `Exchange.traffic`.

        Raises:
            ValueError: as `Exchange.traffic` does.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> pair = qgenx.q_genx("data", qgenx.uniform(bits=8), variant="optimistic")
            >>> optimizer = qgenx.accumulate(4, qgenx.alternating(pair))
            >>> optimizer.traffic(jnp.zeros(1024), workers=3).sent_bytes  # of 4 calls
            2064
        """
        return self.inside.traffic(params, workers)


def accumulate(
    every_k: int | optax.Schedule, inner: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Hands the mean of k vectors to an exchanging transformation, every k-th call.

    The other k - 1 calls move nothing and send nothing: updates are zeros. This is what
    goes *around* an exchange; optax.MultiSteps would call it every time and mask the
    result. An optimizer belongs inside, too: what stands after this in a chain is given
    zeros at those calls, and counts them as updates. A schedule inside counts updates;
    one that optax.inject_hyperparams puts around would count calls, and is refused by
    `init` and `lay_out`.

    Args:
        every_k: k, at least 1; or a schedule of it, a function of the number of
            exchanges until now, as optax.MultiSteps has (2.5 is 3 calls).
        inner: for instance `optax.chain(quantized_mean(...), optax.adam(...))`, or an
            `alternating`.

    Returns:
        An optax transformation. Its state differs between workers, below `per_worker`.
        Around what has `exchange` and `traffic`, a `quantized_mean` or an `alternating`
        but not an optax.chain, it has both: the bytes of one exchange, not of a call.

    Raises:
        ValueError: if every_k is no whole number above 0, nor a schedule of numbers
            of at least 1, as far as they are known, or inner no transformation; at
            the update, if the vector is not one like the parameters, or, in
            jax.shard_map, is not this worker's own.

    Example:
        >>> import optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.accumulate(
        ...     4,
        ...     optax.chain(
        ...         qgenx.quantized_mean("data", qgenx.uniform(bits=4)), optax.sgd(0.1)
        ...     ),
        ... )
    """
    if callable(every_k):
        _length(every_k, jnp.zeros((), jnp.int32))
    else:
        every_k = _checks.whole_number("every_k", every_k, 1, None)
    way_out = "wrap a pair in qgenx_jax.alternating"
    check_plain("inner", inner, way_out, may_be_whole=True)
    inside, inner = inner, optax.with_extra_args_support(inner)

    def init_fn(params: Params) -> State:
        _checks.inexact_leaves("params", params)
        axes.refuse_reserved_name(params)
        zeros = jax.tree.map(
            lambda x: jnp.zeros((1, *jnp.shape(x)), _trees.accumulator_dtype(x)), params
        )
        updates = jnp.zeros((), jnp.int32) if callable(every_k) else None
        count = jnp.zeros((), jnp.int32)
        return AccumulateState(count, zeros, inner.init(params), updates)

    def update_fn(
        updates: Params, state: State, params: Params | None = None, **extra: Any
    ) -> tuple[Params, State]:
        _checks.no_weight(extra, "accumulate")
        _check(updates, state)
        wide = _trees.cast_like(_trees.widen(updates), state.per_worker)
        total = jax.tree.map(lambda s, v: s + v[None], state.per_worker, wide)
        k = _length(every_k, state.updates)
        vectors = state.count + 1 if callable(every_k) else every_k
        mean = jax.tree.map(lambda s: s[0] / jnp.asarray(vectors, s.dtype), total)
        mean = _trees.cast_like(mean, updates)

        def exchange(inner_state: State) -> tuple[Params, State]:
            return inner.update(mean, inner_state, params, **extra)

        def wait(inner_state: State) -> tuple[Params, State]:
            moves, after = jax.eval_shape(exchange, inner_state)
            zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), moves)
            # vectors of another dtype than the parameters' may widen what is inside
            same = jax.tree.map(
                lambda x, y: x if x.dtype == y.dtype else x.astype(y.dtype),
                inner_state,
                after,
            )
            # what an exchange leaves out, a frozen leaf, varies by its type alone
            return axes.vary_like((zeros, same), (moves, after))

        # one branch for all workers, as the count is the same on all
        due = state.count + 1 >= k
        moves, inner_state = lax.cond(due, exchange, wait, state.inner)
        kept = jax.tree.map(lambda s: jnp.where(due, 0, s), total)
        count = jnp.where(due, 0, state.count + 1)
        after = AccumulateState(count, kept, inner_state)
        if callable(every_k):
            more = optax.safe_increment(state.updates)
            after = after._replace(updates=jnp.where(due, more, state.updates))
        return moves, after

    whole = whole_around(inside, init_fn, update_fn, ExchangingAccumulate)
    whole.around = lambda wrap: accumulate(every_k, wrap(inner))
    return whole


def _length(every_k: int | optax.Schedule, updates: Array | None) -> Any:
    """k, after so many updates."""
    if not callable(every_k):
        return every_k
    if updates is None:
        found = _checks.Text("None")
        rule = "must count updates, for a schedule of them"
        raise _checks.refuse("state.updates", rule, found, _OF_THIS)
    return _checks.real_number(
        "every_k",
        every_k(updates),
        "must be a function to one number of at least 1",
        lambda k: k >= 1,
        "return 1 where nothing is to be added up",
    )


def _check(updates: Params, state: Any) -> None:
    """Checks that a state is an accumulator's, and what is added is a worker's own.

    A sum that varies over workers would hide from the exchange that a vector in it does
    not: jax.grad with respect to replicated parameters has summed that over workers.
    """
    _checks.instance_of("state", state, AccumulateState, _OF_THIS)
    _checks.own_leaves("state.per_worker", state.per_worker)
    like = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), state.per_worker
    )
    way_out = "pass a vector like the parameters that init got"
    _checks.same_structure("updates", updates, "state.per_worker", like, way_out)
    _checks.inexact_leaves("updates", updates)
    # where JAX tracks what varies, over these axes
    over = [axes.varying(s) for s in jax.tree.leaves(state.per_worker)]
    common = frozenset.intersection(*over) if over else frozenset()
    if common:
        names = sorted(common, key=str)
        axis_name = names[0] if len(names) == 1 else tuple(names)
        axes.refuse_replicated("updates", updates, axis_name)
