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
        exchange: what carries the dual vectors, to count their bytes on.
        scalar_bytes: per iteration, of numbers that ride along.
        iterate: (dual_vector) to step(params, state, *batches) -> (params, state,
            metrics), a whole iteration of one worker; batches and metrics have a
            leading axis of length `calls`.
    """

    optimizer: Any
    calls: int
    exchange: qgenx.Exchange
    scalar_bytes: int
    iterate: Callable[[DualVector], Callable[..., tuple]]

    def sent_bytes(self, params: Any, workers: int) -> int:
        """Bytes that a worker sends in an iteration."""
        traffic = self.exchange.traffic
        first = (self.calls - 1) * traffic(params, workers).sent_bytes
        last = traffic(params, workers, scalar_bytes=self.scalar_bytes).sent_bytes
        return first + last


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
        pair = qgenx.q_genx(
            axis_name,
            quantizer,
            variant=config.optimizer,  # pyright: ignore[reportArgumentType]
            gamma0=config.gamma0,
            **settings,
        )
        return _of_pair(pair, exchange, axis_name, scalar_bytes=4)
    mean = qgenx.quantized_mean(axis_name, quantizer, **settings)
    if config.optimizer == "extra_adam":
        pair = qgenx.chain(mean, qgenx.extragradient(_per_player(config, _adam)))
        return _of_pair(pair, exchange, axis_name, scalar_bytes=0)
    make = {"adam": _adam, "optimistic_adam": _optimistic_adam, "sgd": _sgd}
    base = _per_player(config, make[config.optimizer])
    return _of_transformation(optax.chain(mean, base), exchange, axis_name)


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


def _of_pair(
    pair: qgenx.ExtragradientPair,
    exchange: qgenx.Exchange,
    axis_name: Any,
    *,
    scalar_bytes: int,
) -> Method:
    def iterate(dual_vector: DualVector) -> Callable[..., tuple]:
        return qgenx.iterate(pair, dual_vector, axis_name=axis_name, has_aux=True)

    calls = 1 if pair.is_oracle_free else 2
    return Method(pair, calls, exchange, scalar_bytes, iterate)


def _of_transformation(
    optimizer: optax.GradientTransformationExtraArgs,
    exchange: qgenx.Exchange,
    axis_name: Any,
) -> Method:
    def iterate(dual_vector: DualVector) -> Callable[..., tuple]:
        def step(params: Any, state: Any, *batches: Any) -> tuple:
            batch = jax.tree.map(lambda x: jnp.squeeze(x, 0), batches)
            local = qgenx.local_params(params, axis_name)
            vector, metrics = dual_vector(local, *batch)
            updates, state = optimizer.update(vector, state, params)
            params = optax.apply_updates(params, updates)
            return params, state, jax.tree.map(lambda x: x[None], metrics)

        return step

    return Method(optimizer, 1, exchange, 0, iterate)
