"""The pairs: sizes, initial weights, pure functions, and norms from their formula.

That the fast and the plain formulation are one function of the same parameters is
tested with the losses, whose penalty differentiates twice.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments.cifar10_gan.networks import layers, models

pytestmark = pytest.mark.plainly

SMALL = {"width": 4, "latent": 6}


@functools.cache
def pair(name, *, seed=0, formulation=None, **sizes):
    made = models.create_pair(
        name, rngs=nnx.Rngs(seed), formulation=formulation, **(sizes or SMALL)
    )
    return models.split_pair(*made)


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [
        ("resnet", 1_548_547, 1_053_825),
        # Discriminator by hand at F = 128: 16 (3 F + 2 F F + 8 F F) + (1 + 2 + 4) F
        # for the convolutions and their biases, 64 F + 1 for the dense layer.
        ("dcgan", 3_701_891, 2_636_673),
    ],
)
def test_parameter_counts_at_the_papers_size(name, generator, discriminator):
    params = pair(name, width=128, latent=128).params
    counts = {player: models.count(tree) for player, tree in params.items()}
    assert counts == {"generator": generator, "discriminator": discriminator}


@pytest.mark.parametrize(
    ("name", "alone"),
    [("resnet", models.ResNetGenerator), ("dcgan", models.DCGANGenerator)],
)
def test_the_generator_draws_its_weights_first(name, alone):
    """A seed stands for weights: another order would give runs other ones."""
    given = {"formulation": "plain", "dtype": None, "rngs": nnx.Rngs(0)}
    expected = nnx.to_pure_dict(nnx.state(alone(4, 6, **given), nnx.Param))
    chex.assert_trees_all_equal(pair(name).params["generator"], expected)


@pytest.mark.parametrize("name", models.NAMES)
def test_shapes_ranges_and_independent_examples(name):
    made = pair(name)
    z = jax.random.normal(jax.random.key(0), (5, 6))
    generate, criticise = jax.jit(made.generate), jax.jit(made.criticise)
    pictures = generate(made.params["generator"], z)
    chex.assert_shape(pictures, (5, 32, 32, 3))
    assert jnp.all(jnp.abs(pictures) <= 1), "tanh keeps pictures in [-1, 1]"
    assert jnp.std(pictures[0] - pictures[1]) > 0, "latents must matter"
    scores = criticise(made.params["discriminator"], pictures)
    chex.assert_shape(scores, (5,))
    # No norm mixes examples and nothing is stateful: changing some examples
    # leaves the others' numbers alone.
    others = z.at[:3].set(0.0)
    chex.assert_trees_all_close(
        generate(made.params["generator"], others)[3:], pictures[3:], atol=1e-5
    )
    again = criticise(made.params["discriminator"], pictures.at[:3].set(0.0))
    chex.assert_trees_all_close(again[3:], scores[3:], rtol=1e-4, atol=1e-7)


def test_initial_weights():
    made = pair("resnet", width=32, latent=32)
    for path, leaf in jax.tree_util.tree_leaves_with_path(made.params):
        name, where = path[-1].key, jax.tree_util.keystr(path)
        if name == "kernel" and leaf.size > 1000:
            # Five standard errors of a deviation and of a mean over leaf.size draws.
            error = 5 * 0.02 / np.sqrt(leaf.size)
            assert abs(float(jnp.std(leaf)) - 0.02) < error, f"deviation of {where}"
            assert abs(float(jnp.mean(leaf))) < error, f"mean of {where}"
        elif name != "kernel":
            value = 1 if name == "scale" else 0
            assert jnp.all(leaf == value), f"{where} must start at {value}"
    other = pair("resnet", seed=1, width=32, latent=32)
    assert not jnp.array_equal(
        made.params["generator"]["dense"]["kernel"],
        other.params["generator"]["dense"]["kernel"],
    ), "another seed must give other weights"


@pytest.mark.parametrize("name", models.NAMES)
def test_discriminators_have_no_norm_and_params_are_plain_dicts(name):
    params = pair(name).params
    critic = jax.tree_util.tree_leaves_with_path(params["discriminator"])
    assert {path[-1].key for path, _ in critic} == {"kernel", "bias"}
    steps = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in steps:
        assert isinstance(leaf, jax.Array)
        assert all(isinstance(step.key, str) for step in path), path
    updates = jax.eval_shape(
        lambda p: optax.adam(1e-3).update(p, optax.adam(1e-3).init(p), p)[0], params
    )
    chex.assert_trees_all_equal_shapes(updates, params)


def test_layer_norm_by_its_formula():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4)) * 3 + 2
    norm = layers.LayerNorm(4)
    norm.scale[...] = jnp.arange(1.0, 5.0)
    norm.offset[...] = jnp.arange(4.0)
    expected = np.empty(x.shape)
    for i, example in enumerate(np.asarray(x, np.float64)):
        unit = (example - example.mean()) / np.sqrt(example.var() + 1e-5)
        expected[i] = unit * np.arange(1, 5) + np.arange(4)
    apply = nnx.jit(lambda norm, x: norm(x))
    chex.assert_trees_all_close(apply(norm, x), expected, rtol=1e-5, atol=1e-5)
    flat = apply(layers.LayerNorm(4), jnp.full(x.shape, 7.0))
    # The mean is off by rounding, which 1 / sqrt(1e-5) magnifies.
    assert jnp.all(jnp.abs(flat) < 1e-3), "constants become zero"


def test_residual_shortcut_of_an_up_block_is_bias_on_three_pixels_of_four():
    given = {"formulation": "fast", "rngs": nnx.Rngs(0)}
    block = layers.UpBlock(3, **given)
    for conv in (block.conv1, block.conv2):
        conv.kernel[...] = jnp.zeros_like(conv.kernel[...])
    block.shortcut.bias[...] = jnp.array([1.0, 2.0, 3.0])
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    y = nnx.jit(lambda block, x: block(x))(block, x)
    chex.assert_trees_all_close(
        y[:, 1::2, :], jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (2, 4, 8, 3))
    )
    chex.assert_trees_all_close(
        y[:, ::2, ::2],
        x @ block.shortcut.kernel[0, 0] + jnp.array([[[[1.0, 2.0, 3.0]]]]),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("vit", {}, r"name must be one of \('dcgan', 'resnet'\), got 'vit'"),
        ("resnet", {"width": 0}, "width must be at least 1, got 0"),
        ("dcgan", {"latent": -1}, "latent must be at least 1, got -1"),
        ("dcgan", {"formulation": "quick"}, "'fast' or 'plain', got 'quick'"),
    ],
)
def test_errors(name, changes, text):
    with pytest.raises(ValueError, match=text):
        models.create_pair(name, rngs=nnx.Rngs(0), **{**SMALL, **changes})
