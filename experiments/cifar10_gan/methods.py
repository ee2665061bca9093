"""Optimizers by name, each around one quantized exchange of the joint dual vector."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import qgenx_jax as qgenx
from experiments.cifar10_gan.config import EXACT, Config, key_of

PLAYERS = ("generator", "discriminator")
Q_GENX = ("dual_averaging", "dual_extrapolation", "optimistic")
DualVector = Callable[..., tuple[Any, dict[str, jax.Array]]]


class Method(NamedTuple):
    """An optimizer as the training loop takes it.

    Attributes:
        optimizer: has the init of the state.
        calls: oracle calls, and fresh batches, per iteration of a worker.
        exchange: what carries the dual vectors.
        traffic: `traffic(params, workers)`, of an iteration.
        iterate: (dual_vector) to step(params, state, *batches) -> (params, state,
            metrics), a whole iteration of one worker; batches and metrics have a
            leading axis of length `calls`.
    """

    optimizer: Any
    calls: int
    exchange: qgenx.Exchange
    traffic: Callable[[Any, int], qgenx.Traffic]
    iterate: Callable[[DualVector], Callable[..., tuple]]


def create_method(config: Config, axis_name: Any) -> Method:
    """The configured optimizer, exchanging over `axis_name`."""
    quantizer = create_quantizer(config)
    settings: dict[str, Any] = {"key": key_of(config, "rounding")}
    if quantizer is not None:
        settings["collective"] = config.collective
        small = config.exact_leaves == "small"
        settings["exact"] = qgenx.small_leaves if small else None
    exchange = qgenx.exchange(axis_name, quantizer, **settings)
    if config.optimizer in Q_GENX:
        variant, gamma0 = config.optimizer, config.gamma0
        return _of_pair(
            qgenx.q_genx(exchange, variant=variant, gamma0=gamma0), axis_name
        )
    mean = qgenx.quantized_mean(exchange)
    if config.optimizer == "extra_adam":
        base = qgenx.extragradient(_per_player(config, _adam))
        return _of_pair(qgenx.chain(mean, base), axis_name)
    make = {"adam": _adam, "optimistic_adam": _optimistic_adam, "sgd": _sgd}
    return _of_transformation(
        mean, _per_player(config, make[config.optimizer]), axis_name
    )


def create_quantizer(config: Config) -> qgenx.Quantizer | None:
    """The configured quantizer; None for an exact exchange."""
    if config.bits == EXACT:
        return None
    if config.family == "min_max":
        return qgenx.min_max(config.bits, bucket_size=config.bucket_size)
    make = {"uniform": qgenx.uniform, "exponential": qgenx.exponential}[config.family]
    norm = math.inf if config.norm == "inf" else int(config.norm)
    return make(config.bits, norm=norm, bucket_size=config.bucket_size)


def _per_player(
    config: Config, make: Callable[[Config, float], optax.GradientTransformation]
) -> optax.GradientTransformationExtraArgs:
    """Each player with its own learning rate."""
    rates = {
        "generator": config.learning_rate_generator,
        "discriminator": config.learning_rate_discriminator,
    }
    return optax.partition(
        {player: make(config, rate) for player, rate in rates.items()},
        {player: player for player in PLAYERS},
    )


def _adam(config: Config, rate: float) -> optax.GradientTransformation:
    return optax.adam(rate, b1=config.b1, b2=config.b2)


def _optimistic_adam(config: Config, rate: float) -> optax.GradientTransformation:
    return optax.optimistic_adam_v2(rate, b1=config.b1, b2=config.b2)


def _sgd(config: Config, rate: float) -> optax.GradientTransformation:
    del config
    return optax.sgd(rate)


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
