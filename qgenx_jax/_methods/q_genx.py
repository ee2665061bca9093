"""Q-GenX: quantized generalized extra-gradient, one recursion with three variants.

    X_{t+1/2} = X_t - (gamma_t / K) sum_k V_{k,t}        extrapolation
    Y_{t+1}   = Y_t - (1 / K) sum_k V_{k,t+1/2}          dual accumulation, Y_1 = 0
    X_{t+1}   = X_1 + gamma_{t+1} Y_{t+1}                update

All V are quantized. V_{k,t+1/2} is worker k's dual vector at X_{t+1/2}; V_{k,t} is
0 (dual averaging), its vector at X_t (dual extrapolation), or V_{k,t-1/2} (optimistic).
"""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.factory import NOT_GIVEN, ready_or_new
from qgenx_jax._exchange.groups import Labels
from qgenx_jax._exchange.layout import no_leaves
from qgenx_jax._exchange.traffic import Link
from qgenx_jax._methods import step_size as step_sizes
from qgenx_jax._methods.constraints import (
    ProjectionLike,
    constraint_of,
    displacement,
)
from qgenx_jax._methods.exchanging import Carried, ExchangingPair
from qgenx_jax._methods.metric import metric_of
from qgenx_jax._methods.pair import UPDATE, make_pair, pick, refuse_vector
from qgenx_jax._methods.q_genx_state import QGenXState, check_state, like_of
from qgenx_jax._random import KeyOrSeed
from qgenx_jax._types import (
    Array,
    AxisName,
    DualVector,
    HalfStep,
    LeafPredicate,
    Params,
)
from qgenx_jax._workers import axes

VARIANTS = ("dual_averaging", "dual_extrapolation", "optimistic")


def q_genx(
    axis_name: AxisName | Exchange,
    quantizer: Quantizer | Mapping[str, Quantizer | None] | None = NOT_GIVEN,
    *,
    labels: Labels | None = None,
    variant: str = "dual_extrapolation",
    step_size: step_sizes.StepSizeLike = None,
    gamma0: chex.Numeric | Params | None = None,
    initial_sum: chex.Numeric | None = None,
    projection: ProjectionLike = None,
    collective: str | Link = "once",
    link: Link | None = None,
    second: Quantizer | Mapping[str, Quantizer | None] | None = None,
    exact: LeafPredicate | None = no_leaves,
    rounding: str = "correlated",
    checksum: bool = False,
    key: KeyOrSeed = 0,
) -> ExchangingPair:
    """Q-GenX: extra-gradient across K workers with quantized exchange of dual vectors.

    For monotone operators, and with the adaptive step size, the ergodic average of the
    leading states X_{t+1/2} has a gap of O(1/sqrt(TK)) under noise of bounded variance,
    and of O(1/T) without noise (dual averaging: O(1/sqrt T)).

    A gamma0 for each player, as {"generator": 1e-4, "discriminator": 1e-3}, is a vector
    d, alike in all coordinates of a player. With g = max(d), W = diag(d / g) and
    D_{k,i} = V_{k,i} - V_{k,i+1/2},

        X_{t+1/2} = X_t - (gamma_t / K) W sum_k V_{k,t}
        X_{t+1}   = X_1 + gamma_{t+1} W Y_{t+1}
        gamma_t   = g K (c + sum_{i<t} sum_k ||W^(1/2) D_{k,i}||^2)^(-1/2)

    with c = 1 or `initial_sum`, which is the method with the one number g on
    W^(-1/2) X, whose dual vectors are W^(1/2) V: its guarantees hold with distances
    ||W^(-1/2) (x - x')||, and of a quantizer, where no bucket holds coordinates of two
    players (`labels`). The first extrapolation of player p has length
    d_p K ||A_p(X_1)||. Equal numbers are one number for all, to the bit.

    On a convex set C with its projection P the method is projected dual averaging,

        X_{t+1/2} = P(X_t - (gamma_t / K) sum_k V_{k,t})
        X_{t+1}   = P(X_1 + gamma_{t+1} Y_{t+1})

    with the dual sum Y left as it is. P has to be in the update: of a projection after
    it nothing would stay, as the next one restarts from X_1. The rates are those for
    bounded C; relative noise does not vanish at a solution on its border.

    Args:
        axis_name: the axis over workers, bound by jax.shard_map, jax.pmap or jax.vmap;
            None for one worker without a collective; or a ready `Exchange`, in place of
            this and of all that describes one.
        quantizer: what each worker's dual vectors are rounded to; None for exact. A
            mapping from labels for groups of leaves.
        labels: of the leaves, with a mapping, as in `exchange`.
        variant: "dual_extrapolation": two oracle calls and two exchanges per iteration;
            "optimistic": one of each, the last vector is used again to extrapolate;
            "dual_averaging": one of each, no extrapolation.
        step_size: a `StepSize`, a positive number or an optax schedule of the completed
            iterations; None for `adaptive_step_size(gamma0)`.
        gamma0: factor of the adaptive rule, 1 by default. The first extrapolation has
            length gamma0 K ||A(X_1)||: lower it where that overshoots. Or a number for
            each player, a tree that is a prefix of the parameters, see below.
        initial_sum: in place of the 1 under the root, as in `adaptive_step_size`.
        projection: P, as in `extragradient`: one of optax.projections, another function
            of the parameters, `entropic`, or a prefix of the parameters of such and
            None. With a gamma0 for each player, one for each of them, too.
        collective: as in `exchange`. "once" quantizes each vector once, as algorithm 1;
            "auto" may quantize the mean, too: fewer bytes, a variance not falling in K.
            "hierarchical" needs a given step size: the adaptive rule's own vectors.
        link, second, checksum: as in `exchange`.
        exact: leaves that travel exactly, as in `exchange`; by default `no_leaves`.
        rounding: "correlated" or "independent" between workers, as in `exchange`.
        key: PRNG key or seed of the rounding; the same on all workers.

    Returns:
        The pair. It contains the exchange: no `quantized_mean` belongs before it. Its
        `traffic(params, workers)` counts the bytes of an iteration. The
        update restarts from X_1: parameters edited between calls are not seen. The
        state's `per_worker` field differs between workers; `state_specs`, `init` and
        `map_workers` lay it out.

    Raises:
        ValueError: for an unknown variant or collective, a gamma0, initial_sum or step
            size that is not positive, one of the first two where step_size is given, or
            a gamma0 for each player that is traced, a key that is none; at init, where
            gamma0 or projection is a tree but no prefix of the parameters, or the
            projection moves them; at the update, where the
            axis is not bound, the vector's structure is not that of the parameters, or
            it does not vary over the workers, or the parameters do.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> pair = qgenx.q_genx("data", qgenx.uniform(bits=8), variant="optimistic")
        >>> rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> step = qgenx.iterate(pair, lambda x: rotation @ x)
        >>> x = jnp.array([1.0, 0.0])
        >>> state = qgenx.init(pair, x, workers=3)
        >>> run = qgenx.map_workers(step, "data", workers=3)
        >>> for _ in range(200):
        ...     x, state = run(x, state)
        >>> bool(jnp.linalg.norm(x) < 0.5)
        True
        >>> players = {"slow": jnp.array([2.0]), "fast": jnp.array([2.0])}
        >>> pair = qgenx.q_genx(None, None, gamma0={"slow": 0.1, "fast": 0.2})
        >>> delta, _ = pair.extrapolation.update(players, pair.init(players), players)
        >>> delta
        {'fast': Array([-0.4], dtype=float32), 'slow': Array([-0.2], dtype=float32)}

    References:
        Ramezani-Kebrya, Antonakopoulos, Krawczuk, Deschenaux, Cevher, Distributed
        Extra-gradient with Optimal Complexity and Communication Guarantees, ICLR 2023,
        algorithm 1 and theorems 3 and 4.
    """
    _checks.one_of("variant", variant, VARIANTS)
    metric = metric_of(gamma0)
    largest = metric.largest if step_size is None else gamma0
    rule = step_sizes.lift(step_size, largest, initial_sum)
    constraint = constraint_of(projection)
    worker_mean = ready_or_new(
        axis_name,
        quantizer,
        q_genx,
        labels=labels,
        collective=collective,
        link=link,
        second=second,
        rounding=rounding,
        exact=exact,
        checksum=checksum,
        key=key,
    )
    if worker_mean.collective == "hierarchical" and rule.needs_sum:
        raise _checks.refuse(
            "collective",
            "must not be 'hierarchical' with the adaptive step size, which needs each "
            "worker's own quantized vector",
            "hierarchical",
            "pass a number or a schedule as step_size, or choose 'reduce_scatter'",
        )
    optimistic = variant == "optimistic"
    keeps_own = rule.needs_sum and variant != "dual_averaging"

    def init_fn(params: Params) -> QGenXState:
        worker_mean.layout(params)  # raises where there is no leaf to quantize
        metric.check(params)
        if constraint is not None:
            constraint.check_start(params)
            if metric.relative is not None:
                constraint.same_within_parts(metric.of_leaves(params))
        dual = jax.tree.map(jnp.zeros_like, _trees.widen(params))
        own = jax.tree.map(lambda y: jnp.zeros_like(y)[None], dual)
        return QGenXState(
            anchor=_trees.copy(params),
            dual=dual,
            gamma=jnp.zeros(()),
            extrapolation=jax.tree.map(jnp.zeros_like, dual) if optimistic else None,
            per_worker=own if keeps_own else None,
            step_size=rule.init(),
            exchange=worker_mean.init(),
            point=None if constraint is None else _trees.copy(params),
        )

    def step_fn(
        updates: DualVector | None,
        state: QGenXState,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[Params, QGenXState]:
        _checks.no_weight(extra, "q_genx")
        check_state(state, params, like)
        if variant != "dual_extrapolation" and half_step != UPDATE:
            refuse_vector(updates)
            if not optimistic:
                return jax.tree.map(jnp.zeros_like, params), state
            moved = displacement(constraint, params, state.extrapolation, params)
            return _trees.cast_like(moved, params), state
        way_out = "pass the dual vector at these params"
        _checks.same_structure("updates", updates, "params", params, way_out)
        workers = axes.axis_size(worker_mean.axis_name)
        static_extrapolation = isinstance(half_step, int) and half_step != UPDATE
        sends_number = rule.needs_sum and not static_extrapolation

        def squared_distance(own: DualVector) -> Array:
            """||V_{k,t} - V||^2 of a worker's own vector, where None stands for 0."""
            if state.per_worker is not None:
                own = _trees.cast_like(own, state.per_worker)
                own = jax.tree.map(lambda a, b: a[0] - b, state.per_worker, own)
            return worker_mean.sum_of_squares(metric.root_times(own))

        (mean, own, numbers), exchange_state = worker_mean.send(
            updates,
            state.exchange,
            scalar=squared_distance if sends_number else None,
        )
        axes.refuse_shards(params, worker_mean.axis_name)
        mean = metric.times(_trees.cast_like(mean, state.dual))

        def extrapolated() -> tuple[Params, QGenXState]:
            gamma = step_sizes.gamma(rule, state.step_size, workers)
            moved = displacement(constraint, params, _times(-gamma, mean), params)
            return _trees.cast_like(moved, params), state

        def updated() -> tuple[Params, QGenXState]:
            total = jnp.zeros(()) if numbers is None else _sum_in_order(numbers)
            rule_state = rule.update(state.step_size, total)
            dual = jax.tree.map(jnp.subtract, state.dual, mean)
            gamma = step_sizes.gamma(rule, rule_state, workers)
            moved = _times(gamma, dual)
            delta = displacement(constraint, state.anchor, moved, params)
            delta = _trees.cast_like(delta, params)
            keeps = constraint is not None
            return delta, state._replace(
                point=optax.apply_updates(params, delta) if keeps else None,
                dual=dual,
                gamma=jnp.asarray(gamma, state.gamma.dtype),
                extrapolation=_times(-gamma, mean) if optimistic else None,
                step_size=rule_state,
            )

        delta, state = pick(half_step, extrapolated, updated)
        state = state._replace(exchange=exchange_state)
        if keeps_own:
            own = jax.tree.map(lambda v: v[None], _trees.cast_like(own, state.dual))
            state = state._replace(per_worker=own)
        return delta, state

    like = like_of(
        optimistic=optimistic,
        keeps_own=keeps_own,
        is_constrained=constraint is not None,
        step_size=jax.eval_shape(rule.init),
        exchange=jax.eval_shape(worker_mean.init),
    )
    oracle_free = variant != "dual_extrapolation"
    rides = (rule.needs_sum,) if oracle_free else (False, rule.needs_sum)
    carried = Carried(worker_mean, rides, constraint)
    made = {"oracle_free": oracle_free, "carried": carried}
    return make_pair(init_fn, step_fn, ExchangingPair, **made)


def _times(gamma: chex.Numeric, tree: Params) -> Params:
    """gamma * tree in the tree's dtypes."""
    return jax.tree.map(lambda x: jnp.asarray(gamma, x.dtype) * x, tree)


def _sum_in_order(numbers: Array) -> Array:
    """Sum in the order of the workers: the same bits however the program is mapped."""
    return _trees.add_up(numbers.shape[0], lambda worker: numbers[worker])
