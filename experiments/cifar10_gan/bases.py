"""Base optimizers, one for each player: what moves by a mean vector, in optax.

They have the laws of the reference's own optimizers (Gidel et al.), except that Adam's
eps is added to the root of the corrected second moment, where the reference adds it to
that of the moment itself; with `amsgrad` it is the reference's eps, too.
"""

from typing import Any

import jax.numpy as jnp
import optax

import qgenx_jax as qgenx
from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.optimizers import (
    ADAMS,
    EXTRAPOLATED,
    OPTIMISTIC,
    WITH_MOMENTUM,
)

CRITIC = "discriminator"
PLAYERS = ("generator", CRITIC)


def create_base(
    config: Config, players: tuple[str, ...]
) -> optax.GradientTransformationExtraArgs:
    """The configured optimizer of these players, each with its own learning rate.

    An extrapolated one is the base of both half-steps.
    """
    return optax.partition(
        {player: _of_player(config, _rate(config, player)) for player in players},
        {player: player for player in players},
    )


def _of_player(
    config: Config, rate: optax.ScalarOrSchedule
) -> optax.GradientTransformation:
    make = _adam if config.optimizer in ADAMS else _sgd
    base = make(config, rate)
    if config.weight_decay:
        # of the vector, before all moments: an L2 penalty, not that of AdamW
        decayed = optax.add_decayed_weights(config.weight_decay)
        base = optax.chain(decayed, base)
    return qgenx.optimistic(base) if config.optimizer in OPTIMISTIC else base


def _adam(config: Config, rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    if not config.amsgrad:
        return optax.adam(rate, b1=config.b1, b2=config.b2)

    def corrected(count: Any) -> Any:
        return jnp.sqrt(1 - config.b2 ** (jnp.asarray(count, jnp.float32) + 1))

    # the maximum is that of the moments themselves, and corrected afterwards: that of
    # optax.amsgrad is of corrected ones, of which the first, over-corrected, stays
    return optax.chain(
        optax.scale_by_amsgrad(config.b1, config.b2, bias_correction_nu=False),
        optax.scale_by_schedule(corrected),
        optax.scale_by_learning_rate(rate),
    )


def _sgd(config: Config, rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    if config.optimizer in WITH_MOMENTUM and config.momentum:
        return optax.sgd(rate, config.momentum, config.nesterov)
    return optax.sgd(rate)


def _rate(config: Config, player: str) -> optax.ScalarOrSchedule:
    """A player's learning rate: a number, or by the count of its oracle calls.

    What decays does so with iterations, all of whose calls have one rate; optimizers
    count the vectors that they are given.
    """
    rate, calls = config.learning_rate_generator, 1
    if player == CRITIC:
        rate, calls = config.learning_rate_discriminator, config.n_critic
    if config.optimizer in EXTRAPOLATED:
        calls *= 2
    length, end = config.decay_iterations, config.decay_to
    if config.decay == "constant":
        return rate
    if config.decay == "linear":
        decayed = optax.linear_schedule(rate, end * rate, length)
    else:
        decayed = optax.cosine_decay_schedule(rate, length, alpha=end)
    return lambda count: decayed(jnp.asarray(count) // calls)
