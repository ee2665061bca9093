"""Small adversarial games that are not monotone: no gap, and a norm to look at."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._types import Array, Params
from qgenx_jax.problems.data import data_problem
from qgenx_jax.problems.game_problem import GameProblem, game_problem

_PENALTY = 10.0  # of the critic's slope, as Gulrajani et al., 2017
_MODES = 8


def dirac_gan(distance: float = 1.0) -> GameProblem:
    """The Dirac-GAN: a point that learns where a point is, against a linear critic.

        min over theta, max over psi of h(psi theta) + h(0),   h(t) = -log(1 + exp(-t))

    The data is at 0. Simultaneous gradient steps circle away from the solution 0.

    Args:
        distance: of the start from the solution; both players start at the same value.

    Returns:
        The problem, of players "generator" (theta) and "discriminator" (psi), scalars.
        It is not monotone and has no gap: look at the norm of `operator(x)`.

    Raises:
        ValueError: for a negative distance.

    Example:
        >>> import qgenx_jax as qgenx
        >>> problem = qgenx.problems.dirac_gan()
        >>> float(problem.operator(problem.solution)["generator"])
        0.0

    References:
        Mescheder, Geiger and Nowozin, Which Training Methods for GANs do actually
        Converge?, ICML 2018, section 2.
    """
    _checks.at_least_zero("distance", distance, "1.0 is the default")

    def score(x: Params) -> Array:
        t = x["discriminator"] * x["generator"]
        return -jax.nn.softplus(-t) - jnp.log(2.0)

    players = ("generator", "discriminator")
    return game_problem(
        {"generator": score, "discriminator": lambda x: -score(x)},
        {player: jnp.asarray(distance / np.sqrt(2)) for player in players},
        solution={player: jnp.asarray(0.0) for player in players},
    )


def wasserstein_gan_2d(
    samples: int = 256, *, width: int = 16, seed: int = 0
) -> GameProblem:
    """A Wasserstein GAN with gradient penalty of eight Gaussians on a circle.

        loss_G = -mean D(G(z_i)),
        loss_D = mean D(G(z_i)) - mean D(x_i) + 10 mean (||grad D(m_i)|| - 1)^2

    with m_i = a_i x_i + (1 - a_i) G(z_i); G and D have a hidden layer of tanh. The
    samples x_i, z_i and a_i are drawn once: A is a function, and all noise is that of
    the oracle.

    Args:
        samples: n; with `spread` each worker has its own, see `problems.data`.
        width: of the hidden layers.
        seed: of samples and weights.

    Returns:
        The problem, of players "generator" and "discriminator", whose parameters are
        {"w1": (2, width), "b1": (width,), "w2": (width, 2 or 1), "b2"}. It is not
        monotone: it has no known solution and no gap.

    Raises:
        ValueError: for a size below 1 or a negative seed.

    Example:
        >>> import qgenx_jax as qgenx
        >>> problem = qgenx.problems.wasserstein_gan_2d(64)
        >>> problem.operator(problem.start)["generator"]["w1"].shape
        (2, 16)

    References:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017.
    """
    _checks.whole_number("samples", samples, 1, None)
    _checks.whole_number("width", width, 1, None)
    rng = np.random.default_rng(_checks.whole_number("seed", seed, 0, None))
    angles = 2 * np.pi * rng.integers(_MODES, size=samples) / _MODES
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    real = jnp.asarray(circle + 0.05 * rng.normal(size=circle.shape))
    latent = jnp.asarray(rng.normal(size=circle.shape))
    mixture = jnp.asarray(rng.uniform(size=(samples, 1)))

    def critic(x: Params, points: Array) -> Array:
        return _network(x["discriminator"], points)[:, 0]

    def generator_loss(x: Params, weights: Array) -> Array:
        return -jnp.mean(weights * critic(x, _network(x["generator"], latent)))

    def discriminator_loss(x: Params, weights: Array) -> Array:
        made = _network(x["generator"], latent)
        between = mixture * real + (1 - mixture) * made
        slopes = jax.grad(lambda points: critic(x, points).sum())(between)
        # the root has no slope at 0
        norms = jnp.sqrt(jnp.sum(slopes**2, axis=1) + 1e-12)
        of_points = critic(x, made) - critic(x, real) + _PENALTY * (norms - 1) ** 2
        return jnp.mean(weights * of_points)

    return data_problem(
        {"generator": generator_loss, "discriminator": discriminator_loss},
        {
            "generator": _weights(rng, width, 2),
            "discriminator": _weights(rng, width, 1),
        },
        samples,
    )


def _network(own: Mapping[str, Any], points: Array) -> Array:
    hidden = jnp.tanh(points @ own["w1"] + own["b1"][None])
    return hidden @ own["w2"] + own["b2"][None]


def _weights(rng: np.random.Generator, width: int, outputs: int) -> dict[str, Array]:
    return {
        "w1": jnp.asarray(rng.normal(size=(2, width)) / np.sqrt(2)),
        "b1": jnp.zeros(width),
        "w2": jnp.asarray(rng.normal(size=(width, outputs)) / np.sqrt(width)),
        "b2": jnp.zeros(outputs),
    }
