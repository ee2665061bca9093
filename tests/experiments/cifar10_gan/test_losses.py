"""WGAN-GP by hand: linear players, finite differences, and who gets which gradient."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.cifar10_gan import losses
from experiments.cifar10_gan.networks import models
from tests.lib.helpers import PLAIN

pytestmark = pytest.mark.plainly

SHAPE = (4, 2, 2, 3)


def linear_generate(params, z):
    """G(z) = V z, as pictures of shape (2, 2, 3)."""
    return jnp.einsum("nl,lhwc->nhwc", z, params["v"])


def linear_criticise(params, pictures):
    """D(x) = <w, x>."""
    return jnp.einsum("nhwc,hwc->n", pictures, params["w"])


def curved_generate(params, z):
    return jnp.tanh(linear_generate(params, z))


def curved_criticise(params, pictures):
    return linear_criticise(params, jnp.sin(2 * pictures)) + jnp.sum(
        jnp.square(pictures * params["w"][None]), (1, 2, 3)
    )


def game(dtype=np.float64):
    rng = np.random.default_rng(0)
    params = {
        "generator": {"v": rng.standard_normal((5, *SHAPE[1:])).astype(dtype)},
        "discriminator": {"w": rng.standard_normal(SHAPE[1:]).astype(dtype)},
    }
    pictures = rng.uniform(-1, 1, SHAPE).astype(dtype)
    latents = rng.standard_normal((4, 5)).astype(dtype)
    mixing = rng.uniform(0, 1, 4).astype(dtype)
    return jax.tree.map(jnp.asarray, (params, losses.Batch(pictures, latents, mixing)))


def both_gradients(parts, params, batch):
    def gradient(player):
        def value(own):
            return parts[player]({**params, player: own}, batch)[0]

        return jax.grad(value)(params[player])

    return {player: gradient(player) for player in parts}


def test_linear_players_in_closed_form():
    with jax.enable_x64():
        params, batch = game()
        parts = losses.wgan_gp_losses(
            linear_generate, linear_criticise, penalty_weight=7.0
        )
        w = np.asarray(params["discriminator"]["w"])
        v = np.asarray(params["generator"]["v"])
        z, x = np.asarray(batch.latents), np.asarray(batch.pictures)
        fakes = np.einsum("nl,lhwc->nhwc", z, v)
        size = np.linalg.norm(w)
        gap = np.sum(w * (x.mean(0) - fakes.mean(0)))

        generator, metrics = parts["generator"](params, batch)
        chex.assert_trees_all_close(generator, -np.sum(w * fakes.mean(0)), rtol=1e-12)
        assert metrics["loss_generator"] == generator

        critic, metrics = parts["discriminator"](params, batch)
        chex.assert_trees_all_close(critic, -gap + 7 * (size - 1) ** 2, rtol=1e-12)
        expected = {"wasserstein": gap, "penalty": (size - 1) ** 2, "slope": size}
        chex.assert_trees_all_close(
            metrics, {**expected, "loss_discriminator": critic}, rtol=1e-12
        )

        # Gradients: -z mean (x) w for V; -(x - fakes) means and 14 (|w| - 1) w / |w|.
        operator = losses.wgan_gp_operator(
            linear_generate, linear_criticise, penalty_weight=7.0
        )
        vector, _ = jax.jit(operator)(params, batch)
        chex.assert_trees_all_close(
            vector,
            {
                "generator": {"v": -np.multiply.outer(z.mean(0), w)},
                "discriminator": {
                    "w": fakes.mean(0) - x.mean(0) + 14 * (size - 1) * w / size
                },
            },
            rtol=1e-12,
        )


def test_penalty_sees_the_mixed_pictures():
    # D(x) = sum x^2 / 2 has gradient x: the norm is that of a x + (1 - a) y.
    x = jnp.zeros((2, 1, 1, 3)).at[:, 0, 0, 0].set(jnp.array([3.0, 3.0]))
    y = jnp.zeros((2, 1, 1, 3)).at[:, 0, 0, 1].set(jnp.array([4.0, 8.0]))
    penalty, slope = losses.gradient_penalty(
        None,
        lambda _, p: jnp.sum(jnp.square(p), (1, 2, 3)) / 2,
        x,
        y,
        jnp.array([0.5, 1.0]),
    )
    # First example: |(1.5, 2)| = 2.5; second: a = 1 leaves x, of norm 3.
    chex.assert_trees_all_close((penalty, slope), ((1.5**2 + 2**2) / 2, 2.75))


def test_flat_critic_has_penalty_one_and_finite_gradients():
    params, batch = game(np.float32)
    params["discriminator"]["w"] = jnp.zeros(SHAPE[1:])
    operator = losses.wgan_gp_operator(linear_generate, linear_criticise)
    vector, metrics = jax.jit(operator)(params, batch)
    chex.assert_tree_all_finite(vector)
    assert metrics["penalty"] == 1, "a zero slope is one away from one"


def test_discriminator_loss_has_no_gradient_into_the_generator():
    params, batch = game(np.float32)
    parts = losses.wgan_gp_losses(curved_generate, curved_criticise)
    gradient = jax.jit(jax.grad(lambda p: parts["discriminator"](p, batch)[0]))(params)
    assert not np.any(gradient["generator"]["v"]), "G(z) is a constant in loss_D"
    assert np.all(gradient["discriminator"]["w"] != 0)
    # And so neither the penalty nor its weight reaches the generator's part of A.
    operators = [
        losses.wgan_gp_operator(curved_generate, curved_criticise, penalty_weight=k)
        for k in (0.0, 10.0)
    ]
    vectors = [jax.jit(f)(params, batch)[0]["generator"] for f in operators]
    chex.assert_trees_all_equal(*vectors)


def test_gradients_against_finite_differences():
    with jax.enable_x64():
        params, batch = game()
        parts = losses.wgan_gp_losses(curved_generate, curved_criticise)
        operator = losses.wgan_gp_operator(curved_generate, curved_criticise)
        vector, _ = jax.jit(operator)(params, batch)
        rng = np.random.default_rng(1)
        for player, loss in parts.items():
            value = jax.jit(lambda p, f=loss: f(p, batch)[0])
            for _ in range(3):
                way = jax.tree.map(
                    lambda a: rng.standard_normal(a.shape), params[player]
                )

                def along(t, player=player, way=way, value=value):
                    moved = jax.tree.map(lambda a, b: a + t * b, params[player], way)
                    return float(value({**params, player: moved}))

                # Fourth-order differences: error about 1e-12 + (1e-3)^4.
                h = 1e-3
                slope = 8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))
                expected = sum(
                    jax.tree.leaves(jax.tree.map(np.vdot, vector[player], way))
                )
                chex.assert_trees_all_close(slope / (12 * h), expected, rtol=1e-7)


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_players_operator_is_its_part_of_the_joint_one(player):
    with jax.enable_x64():
        params, batch = game()
        parts = losses.wgan_gp_losses(curved_generate, curved_criticise)
        alone = losses.operator_of(player, parts[player])
        joint = losses.wgan_gp_operator(curved_generate, curved_criticise)
        (part, metrics), (vector, others) = (
            jax.jit(operator)(params, batch) for operator in (alone, joint)
        )
    assert part.keys() == {player}, "the other player's gradient was computed"
    chex.assert_trees_all_close(part[player], vector[player], rtol=1e-10)
    assert metrics.keys() <= others.keys()
    for name, value in metrics.items():
        chex.assert_trees_all_close(value, others[name], rtol=1e-10)


@pytest.mark.parametrize("name", models.NAMES)
def test_fast_operator_is_the_gradients_of_the_plain_pairs_losses(name):
    fast, plain = (
        models.split_pair(
            *models.create_pair(
                name, width=2, latent=3, rngs=nnx.Rngs(0), formulation=formulation
            )
        )
        for formulation in ("fast", "plain")
    )
    chex.assert_trees_all_equal(fast.params, plain.params)
    pictures = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3), minval=-1)
    batch = losses.draw_batch(jax.random.key(2), pictures, latent=3)
    parts = losses.wgan_gp_losses(plain.generate, plain.criticise)
    operator = losses.wgan_gp_operator(fast.generate, fast.criticise)

    def both(params, batch):
        return operator(params, batch), both_gradients(parts, params, batch)

    # Weights of 0.02 make gradients tiny; larger ones let every kernel matter.
    params = jax.tree.map(lambda leaf: 10 * leaf, fast.params)
    run = jax.jit(both, compiler_options=PLAIN)
    (vector, metrics), expected = run(params, batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(expected):
        where = jax.tree_util.keystr(path)
        size = float(jnp.max(jnp.abs(leaf)))
        # Biases of D may cancel between real and fake pictures, that of its dense layer
        # always does; their rounding is that of terms about as large as the gradients.
        assert size > 1e-6 or path[-1].key == "bias", f"{where} must not be idle"
        got = functools.reduce(lambda tree, step: tree[step.key], path, vector)
        chex.assert_trees_all_close(
            got, leaf, atol=1e-4 * max(size, 0.1), custom_message=where
        )
    assert set(metrics) == {
        "loss_generator",
        "loss_discriminator",
        "wasserstein",
        "penalty",
        "slope",
    }


def test_draw_batch():
    pictures = jnp.zeros((4000, 1, 1, 3))
    batch = losses.draw_batch(jax.random.key(0), pictures, latent=2)
    chex.assert_shape(batch.latents, (4000, 2))
    chex.assert_shape(batch.mixing, (4000,))
    # Five standard errors: 8000 normal draws, 4000 uniform ones (deviation 0.289).
    assert abs(float(batch.latents.mean())) < 5 / np.sqrt(8000)
    assert abs(float(batch.latents.std()) - 1) < 5 / np.sqrt(2 * 8000)
    assert abs(float(batch.mixing.mean()) - 0.5) < 5 * 0.289 / np.sqrt(4000)
    assert float(batch.mixing.min()) >= 0
    assert float(batch.mixing.max()) < 1
    assert len(np.unique(np.asarray(batch.mixing))) > 3900, "one number per example"
    other = losses.draw_batch(jax.random.key(1), pictures, latent=2)
    assert not jnp.any(other.latents == batch.latents), "another key, other latents"


@pytest.mark.parametrize("build", [losses.wgan_gp_losses, losses.wgan_gp_operator])
@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_errors(build, weight):
    with pytest.raises(ValueError, match=f"penalty_weight must be .* got {weight}"):
        build(linear_generate, linear_criticise, penalty_weight=weight)
