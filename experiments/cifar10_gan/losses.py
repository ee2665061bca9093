"""WGAN-GP: the two players' losses and their joint gradient operator.

With a generator G, a discriminator D, pictures x, latents z and a uniform in [0, 1],

    loss_G = -mean D(G(z)),
    loss_D = -(mean D(x) - mean D(G(z))) + weight * mean (|grad D(m)|_2 - 1)^2,
    m      = a x + (1 - a) G(z),

where the penalty's gradient is with respect to the picture m and its norm over all the
picture's coordinates. G(z) is a constant in loss_D. Both players step at once, so a
solver sees the operator A(params) = (grad_G loss_G, grad_D loss_D).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Params = Any
Apply = Callable[[Params, jax.Array], jax.Array]
Metrics = dict[str, jax.Array]


class Batch(NamedTuple):
    """What one oracle call of one worker consumes.

    Attributes:
        pictures: real ones in [-1, 1], (n, h, w, c).
        latents: (n, latent), standard normal.
        mixing: (n,), a in the penalty, uniform in [0, 1).
        weights: (n,), of each picture in every mean, which is then a sum with them;
            None weighs all alike.
    """

    pictures: jax.Array
    latents: jax.Array
    mixing: jax.Array
    weights: jax.Array | None = None

    def mean(self, values: jax.Array) -> jax.Array:
        """The mean over pictures of (n,) values."""
        if self.weights is None:
            return jnp.mean(values)
        return jnp.sum(self.weights.astype(values.dtype) * values)


Loss = Callable[[dict[str, Params], Batch], tuple[jax.Array, Metrics]]
Operator = Callable[[dict[str, Params], Batch], tuple[dict[str, Params], Metrics]]


def draw_batch(key: jax.Array, pictures: jax.Array, *, latent: int) -> Batch:
    """Draws latents and penalty coefficients for `pictures`.

    Args:
        key: of this call alone. Workers must not share it: fold in the worker's index,
            the half-step and the iteration, or all draw the same latents.
        pictures: (n, h, w, c), floating.
        latent: size of a latent vector.
    """
    latent_key, mixing_key = jax.random.split(key)
    n, dtype = pictures.shape[0], pictures.dtype
    latents = jax.random.normal(latent_key, (n, latent), dtype)
    return Batch(pictures, latents, jax.random.uniform(mixing_key, (n,), dtype))


def draw_numbered(
    key: jax.Array,
    pictures: jax.Array,
    first: jax.Array,
    weights: jax.Array,
    *,
    latent: int,
) -> Batch:
    """A worker's part of a batch whose draws go by a picture's number in the whole.

    So they are the same however many workers share the batch.

    Args:
        key: of this call, the same on all workers.
        pictures: (n, h, w, c), floating: the worker's rows.
        first: the number of the first of them in the whole batch.
        weights: (n,), of the pictures.
        latent: size of a latent vector.
    """

    def draw(number: jax.Array) -> tuple[jax.Array, jax.Array]:
        latent_key, mixing_key = jax.random.split(jax.random.fold_in(key, number))
        latents = jax.random.normal(latent_key, (latent,), pictures.dtype)
        return latents, jax.random.uniform(mixing_key, (), pictures.dtype)

    latents, mixing = jax.vmap(draw)(first + jnp.arange(pictures.shape[0]))
    return Batch(pictures, latents, mixing, weights)


def gradient_penalty(
    params: Params,
    criticise: Apply,
    pictures: jax.Array,
    fakes: jax.Array,
    mixing: jax.Array,
    mean: Callable[[jax.Array], jax.Array] = jnp.mean,
) -> tuple[jax.Array, jax.Array]:
    """mean_n (|grad D(a_n x_n + (1 - a_n) y_n)|_2 - 1)^2 and the mean of the norms.

    A gradient that vanishes exactly has norm 0 and contributes 1 with a zero (sub-)
    gradient, where differentiating the square root would give NaN.

    Args:
        params: of the discriminator.
        criticise: (params, pictures (n, h, w, c)) to scores (n,), one example at a
            time.
        pictures: x, (n, h, w, c).
        fakes: y, (n, h, w, c).
        mixing: a, (n,).
        mean: over pictures.

    Returns:
        Two scalars of the scores' dtype.
    """
    a = mixing.reshape((-1,) + (1,) * (pictures.ndim - 1))
    mixed = a * pictures + (1 - a) * fakes
    # Scores of different examples do not interact, so one sum gives every gradient.
    slopes = jax.grad(lambda x: jnp.sum(criticise(params, x)))(mixed)
    squares = jnp.sum(jnp.square(slopes), tuple(range(1, slopes.ndim)))
    flat = squares == 0
    norms = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, squares)))
    return mean(jnp.square(norms - 1)), mean(norms)


def wgan_gp_losses(
    generate: Apply, criticise: Apply, *, penalty_weight: float = 10.0
) -> dict[str, Loss]:
    """Each player's loss as a function of the joint parameters.

    Args:
        generate: (generator's params, latents (n, latent)) to pictures (n, h, w, c).
        criticise: (discriminator's params, pictures) to scores (n,).
        penalty_weight: 10 in the paper's experiment; 0 leaves the penalty out.

    Returns:
        ``{"generator": loss, "discriminator": loss}`` with ``loss(params, batch) ->
        (scalar, metrics)`` and params keyed by player likewise.

    Raises:
        ValueError: if penalty_weight is negative.
    """
    _check_weight(penalty_weight)

    def generator_loss(
        params: dict[str, Params], batch: Batch
    ) -> tuple[jax.Array, Metrics]:
        fakes = generate(params["generator"], batch.latents)
        loss = -batch.mean(criticise(params["discriminator"], fakes))
        return loss, {"loss_generator": loss}

    def discriminator_loss(
        params: dict[str, Params], batch: Batch
    ) -> tuple[jax.Array, Metrics]:
        fakes = lax.stop_gradient(generate(params["generator"], batch.latents))
        critic = params["discriminator"]
        fake_score = batch.mean(criticise(critic, fakes))
        loss, metrics = _real_side(critic, criticise, batch, fakes, penalty_weight)
        loss = loss + fake_score
        return loss, _complete(metrics, loss, fake_score)

    return {"generator": generator_loss, "discriminator": discriminator_loss}


def wgan_gp_operator(
    generate: Apply, criticise: Apply, *, penalty_weight: float = 10.0
) -> Operator:
    """The joint operator A = (grad_G loss_G, grad_D loss_D) of `wgan_gp_losses`.

    The same vector as differentiating the two losses, with everything about the fakes
    done once: mean D(G(z)) enters loss_G and loss_D with opposite signs, so one forward
    and one backward pass of D on the fakes gives D's gradient and, negated and pulled
    back through G, the generator's.

    Returns:
        ``operator(params, batch) -> (dual vector, metrics)``; the vector has the
        structure of params, the metrics are scalars: loss_generator,
        loss_discriminator, wasserstein (mean D(x) - mean D(G(z))), penalty (not
        weighted), slope (the mean norm in the penalty; both 0 where penalty_weight is
        0).

    Raises:
        ValueError: if penalty_weight is negative.
    """
    _check_weight(penalty_weight)

    def operator(
        params: dict[str, Params], batch: Batch
    ) -> tuple[dict[str, Params], Metrics]:
        critic = params["discriminator"]
        fakes, pull_generator = jax.vjp(
            lambda p: generate(p, batch.latents), params["generator"]
        )
        fake_score, pull_critic = jax.vjp(
            lambda p, x: batch.mean(criticise(p, x)), critic, fakes
        )
        critic_gradient, fakes_gradient = pull_critic(jnp.ones_like(fake_score))
        (generator_gradient,) = pull_generator(-fakes_gradient)
        (loss, metrics), rest = jax.value_and_grad(_real_side, has_aux=True)(
            critic, criticise, batch, fakes, penalty_weight
        )
        vector = {
            "generator": generator_gradient,
            "discriminator": jax.tree.map(jnp.add, critic_gradient, rest),
        }
        metrics = _complete(metrics, loss + fake_score, fake_score)
        return vector, {"loss_generator": -fake_score, **metrics}

    return operator


def operator_of(player: str, loss: Loss) -> Operator:
    """One player's part of the operator, the other's parameters being constants.

    Args:
        player: whose gradient is taken; params are keyed by player.
        loss: of this player, from `wgan_gp_losses`.

    Returns:
        ``operator(params, batch) -> ({player: gradient}, metrics of the loss)``.
    """

    def operator(
        params: dict[str, Params], batch: Batch
    ) -> tuple[dict[str, Params], Metrics]:
        def of_own(own: dict[str, Params]) -> tuple[jax.Array, Metrics]:
            return loss({**params, **own}, batch)

        return jax.grad(of_own, has_aux=True)({player: params[player]})

    return operator


def _real_side(
    critic: Params, criticise: Apply, batch: Batch, fakes: jax.Array, weight: float
) -> tuple[jax.Array, Metrics]:
    """loss_D without mean D(G(z)), and the metrics that it knows."""
    real_score = batch.mean(criticise(critic, batch.pictures))
    if weight == 0:
        penalty = slope = jnp.zeros_like(real_score)
    else:
        penalty, slope = gradient_penalty(
            critic, criticise, batch.pictures, fakes, batch.mixing, batch.mean
        )
    metrics = {"wasserstein": real_score, "penalty": penalty, "slope": slope}
    return weight * penalty - real_score, metrics


def _complete(metrics: Metrics, loss: jax.Array, fake_score: jax.Array) -> Metrics:
    return {
        **metrics,
        "wasserstein": metrics["wasserstein"] - fake_score,
        "loss_discriminator": loss,
    }


def _check_weight(penalty_weight: float) -> None:
    if not penalty_weight >= 0:
        raise ValueError(
            f"penalty_weight must be at least 0, got {penalty_weight}; the paper's "
            "experiment uses 10"
        )
