"""Optimizers by name, each around one quantized exchange of the joint dual vector.

With `n_critic`, updates of the discriminator alone come first in an iteration. They are
those of the same optimizer on the tree {"discriminator": ...}, whose state is that part
of the joint one's: the generator's moments and counters rest with it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import qgenx_jax as qgenx
from experiments.cifar10_gan.bases import CRITIC, PLAYERS, create_base
from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.optimizers import EXTRAPOLATED, Q_GENX
from experiments.cifar10_gan.quantizers import create_exchange

DualVector = Callable[..., tuple[Any, dict[str, jax.Array]]]
Iterate = Callable[[DualVector], Callable[..., tuple]]


class Method(NamedTuple):
    """An optimizer as the training loop takes it.

    Attributes:
        optimizer: has the init of the state.
        calls: oracle calls, and fresh batches, per iteration of a worker.
        exchange: what carries the dual vectors.
        traffic: `traffic(params, workers)`, of an iteration.
        iterate: (dual_vector) to step(params, state, *batches) -> (params, state,
            metrics), an update of both players by one worker; batches and metrics have
            a leading axis, of the oracle calls of an update. `dual_vector(params,
            *batch)` gives the joint vector and metrics.
        ahead: what is done before it in an iteration, in this order: the same, of the
            discriminator alone. Its `dual_vector` is given players=("discriminator",),
            too, and gives their part of the vector.
    """

    optimizer: Any
    calls: int
    exchange: qgenx.Exchange
    traffic: Callable[[Any, int], qgenx.Traffic]
    iterate: Iterate
    ahead: tuple[Iterate, ...] = ()

    @property
    def calls_of_update(self) -> int:
        """Oracle calls of an update, of both players or of one."""
        return self.calls // (len(self.ahead) + 1)


def create_method(
    config: Config, axis_name: Any, plan: qgenx.Plan | None = None
) -> Method:
    """The configured optimizer, exchanging over `axis_name`, by a plan of bits or none.

    Raises:
        ValueError: for a variant of Q-GenX with n_critic above 1 or a decay.
    """
    exchange = create_exchange(config, axis_name, plan)
    if config.optimizer in Q_GENX:
        _refuse_beside_q_genx(config)
        gamma0 = {
            "generator": config.gamma0_generator,
            CRITIC: config.gamma0_discriminator,
        }
        pair = qgenx.q_genx(
            exchange,
            variant=config.optimizer,
            gamma0=gamma0,
            initial_sum=config.initial_sum,
        )
        return _of_pair(pair, axis_name)
    joint = _of_players(config, PLAYERS, exchange, axis_name)
    if config.n_critic == 1:
        return joint
    alone = _of_players(config, (CRITIC,), exchange, axis_name)
    return _critic_first(alone, config.n_critic - 1, joint, axis_name)


def exchange_state(state: Any) -> qgenx.ExchangeState:
    """The exchange's part of an optimizer's state."""

    def is_exchange(node: Any) -> bool:
        return isinstance(node, qgenx.ExchangeState)

    nodes = jax.tree.leaves(state, is_leaf=is_exchange)
    return next(node for node in nodes if is_exchange(node))


def _refuse_beside_q_genx(config: Config) -> None:
    for name, only in (("n_critic", 1), ("decay", "constant")):
        value = getattr(config, name)
        if value != only:
            raise ValueError(
                f"{name} must be {only!r} for {config.optimizer}, a variant of Q-GenX, "
                "which adapts its step sizes to the joint vectors, got "
                f"{value!r}; leave it out, or change optimizer"
            )


def _of_players(
    config: Config, players: tuple[str, ...], exchange: qgenx.Exchange, axis_name: Any
) -> Method:
    """An update of these players, on a tree of them alone."""
    mean, base = qgenx.quantized_mean(exchange), create_base(config, players)
    if config.optimizer in EXTRAPOLATED:
        return _of_pair(qgenx.chain(mean, qgenx.extragradient(base)), axis_name)
    return _of_transformation(mean, base, axis_name)


def _of_pair(pair: Any, axis_name: Any) -> Method:
    """Of a pair that contains the exchange."""

    def iterate(dual_vector: DualVector) -> Callable[..., tuple]:
        return qgenx.iterate(pair, dual_vector, axis_name=axis_name, has_aux=True)

    calls = 1 if pair.is_oracle_free else 2
    return Method(pair, calls, pair.exchange, pair.traffic, iterate)


def _of_transformation(
    mean: Any, base: optax.GradientTransformation, axis_name: Any
) -> Method:
    """Of a transformation after the mean."""
    optimizer = optax.chain(mean, base)

    def iterate(dual_vector: DualVector) -> Callable[..., tuple]:
        def step(params: Any, state: Any, *batches: Any) -> tuple:
            batch = jax.tree.map(lambda x: jnp.squeeze(x, 0), batches)
            local = qgenx.local_params(params, axis_name)
            vector, metrics = dual_vector(local, *batch)
            updates, state = optimizer.update(vector, state, params)
            params = optax.apply_updates(params, updates)
            return params, state, jax.tree.map(lambda x: x[None], metrics)

        return step

    return Method(optimizer, 1, mean.exchange, mean.traffic, iterate)


def _critic_first(alone: Method, times: int, joint: Method, axis_name: Any) -> Method:
    """`times` updates of the discriminator alone, then one of both."""

    def iterate(dual_vector: DualVector) -> Callable[..., tuple]:
        def step(params: Any, state: Any, *batches: Any) -> tuple:
            def of_critic(own: Any, *batch: Any) -> tuple:
                resting = qgenx.local_params(params, axis_name)
                return dual_vector({**resting, **own}, *batch, players=(CRITIC,))

            own = {CRITIC: params[CRITIC]}
            part = _part(state, jax.eval_shape(alone.optimizer.init, own))
            own, part, metrics = alone.iterate(of_critic)(own, part, *batches)
            return {**params, **own}, _with_part(state, part), metrics

        return step

    def traffic(params: Any, workers: int) -> qgenx.Traffic:
        of_critic = alone.traffic({CRITIC: params[CRITIC]}, workers)
        return _together([of_critic] * times + [joint.traffic(params, workers)])

    calls = times * alone.calls + joint.calls
    return joint._replace(calls=calls, traffic=traffic, ahead=(iterate,) * times)


def _part(state: Any, like: Any) -> Any:
    """The leaves of a state that another one has at the same paths, put together so."""
    leaves = dict(jax.tree_util.tree_leaves_with_path(state))
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[path], like)


def _with_part(state: Any, part: Any) -> Any:
    """A state with the leaves of a part of it in their places."""
    leaves = dict(jax.tree_util.tree_leaves_with_path(part))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaves.get(path, leaf), state
    )


def _together(several: Sequence[qgenx.Traffic]) -> qgenx.Traffic:
    """The sums over exchanges, whatever collectives they go by."""

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in several)

    payload, coordinates = total("payload_bytes"), total("coordinates")
    return several[-1]._replace(
        collective=" and ".join(sorted({each.collective for each in several})),
        coordinates=coordinates,
        payload_bytes=payload,
        sent_bytes=total("sent_bytes"),
        received_bytes=total("received_bytes"),
        bits_per_coordinate=8 * payload / coordinates,
        phases=tuple(phase for each in several for phase in each.phases),
        exchanges=total("exchanges"),
    )
