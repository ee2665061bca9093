"""Any optax optimizer, made optimistic: optimistic mirror descent, optimistic Adam."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._methods.constraints import ProjectionLike, constraint_of
from qgenx_jax._methods.inner import Plain, check_plain
from qgenx_jax._methods.pair import given
from qgenx_jax._types import DualVector, Params, State


class OptimisticState(NamedTuple):
    """State of `optimistic`.

    Attributes:
        base: the base optimizer's state.
        last: u_{t-1}, the last update of base, float32 at least; 0 at t = 1.
        anchor: W_t, float32 at least, where there are constraints; else None.
    """

    base: State
    last: Params
    anchor: Params = None


def optimistic(
    base: optax.GradientTransformation, *, projection: ProjectionLike = None
) -> optax.GradientTransformationExtraArgs:
    """Extrapolation from the past with the steps of any optax optimizer.

        X_{t+1} = X_t + 2 u_t - u_{t-1},        u_0 = 0,

    where u_t is the base optimizer's update at X_t (which contains the minus sign). In
    other words W_{t+1} = W_t + u_t and X_{t+1} = W_{t+1} + u_t from X_1 = W_1: the last
    vector is used again to extrapolate, so an iteration needs one oracle call and one
    exchange where `extragradient` needs two. The first step is a double one; that of
    optax.optimistic_gradient_descent, which takes u_1 for u_0, is not. With constraints

        W_{t+1} = P(W_t + u_t),        X_{t+1} = P(W_{t+1} + u_t),        W_1 = X_1,

    which is Popov's method: P of the one line above would not be.

    Args:
        base: any optax transformation that hands on every vector (optax.MultiSteps,
            optax.apply_if_finite and the like go around the whole). optax.sgd makes
            optimistic mirror descent of it, optax.adam optimistic Adam.
        projection: P, as in `extragradient`.

    Returns:
        An optax transformation; no exchange in it, so chain `quantized_mean` before it
        to train across workers: `optax.chain(quantized_mean(...), optimistic(...))`.

    Raises:
        ValueError: if base is not a transformation, or the projection none; at init, or
            at the update where it cannot be known before, if base may skip an update,
            as its trace says; at init, if the projection is no prefix of the
            parameters, or moves them; at the update, without parameters, or if the
            vector or the state does not have the structure and the shapes of the
            parameters, or the state is one of a method with other constraints.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> optimizer = qgenx.optimistic(optax.sgd(0.5))
        >>> x = jnp.array([1.0, 0.0])
        >>> rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> state = optimizer.init(x)
        >>> for _ in range(2):
        ...     move, state = optimizer.update(rotation @ x, state, x)
        ...     x = optax.apply_updates(x, move)
        >>> x
        Array([0. , 1.5], dtype=float32)

    References:
        Daskalakis, Ilyas, Syrgkanis, Zeng, Training GANs with Optimism, ICLR 2018;
        Gidel et al., A Variational Inequality Perspective on Generative Adversarial
        Networks, ICLR 2019, section 3.3; Popov, A modification of the Arrow-Hurwicz
        method for search of saddle points, 1980.
    """
    way_out = "pass what a factory returns, for instance optax.adam(1e-3)"
    check_plain("base", base, way_out)
    plain = Plain("base", base)
    constraint = constraint_of(projection)

    def init_fn(params: Params) -> OptimisticState:
        _checks.inexact_leaves("params", params)
        last = jax.tree.map(jnp.zeros_like, _trees.widen(params))
        anchor = None
        if constraint is not None:
            constraint.check_start(params)
            anchor = _trees.widen(_trees.copy(params))
        return OptimisticState(plain.init(params), last, anchor)

    def update_fn(
        updates: DualVector,
        state: State,
        params: Params | None = None,
        **extra: Any,
    ) -> tuple[Params, OptimisticState]:
        params = given(params)
        way_out = "make the state by init of this very optimizer"
        _checks.instance_of("state", state, OptimisticState, way_out)
        _checks.same_structure("params", params, "state.last", state.last, way_out)
        if (state.anchor is None) != (constraint is None):
            rule = "must be None exactly where there is no projection"
            found = _checks.Text("None" if state.anchor is None else "a tree")
            raise _checks.refuse("state.anchor", rule, found, way_out)
        way_out = "pass the dual vector at these params"
        _checks.same_structure("updates", updates, "params", params, way_out)
        _checks.inexact_leaves("updates", updates)
        moves, base_state = plain.update(updates, state.base, params, **extra)
        u = _trees.cast_like(moves, state.last)
        if constraint is None:
            delta = jax.tree.map(lambda u, last: 2 * u - last, u, state.last)
            return _trees.cast_like(delta, moves), OptimisticState(base_state, u)
        anchor = constraint.point(state.anchor, u)
        delta = constraint.move(constraint.point(anchor, u), params)
        return delta, OptimisticState(base_state, u, anchor)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
