"""Networks in bfloat16 with parameters, gradients and losses in float32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.cifar10_gan import run
from experiments.cifar10_gan.networks import layers, models
from tests.lib.tiny_runs import TINY

pytestmark = pytest.mark.usefixtures("compiled_plainly")

SMALL = dataclasses.replace(TINY, optimizer="adam", workers=2, devices="vmap")
ROUNDING = 2.0**-8
"""Of bfloat16, which has 8 significant bits: the most that a value is off by."""


def first_iteration(dtype):
    ready = run.Run(dataclasses.replace(SMALL, dtype=dtype))
    inputs = next(ready.batches), np.full(2, 1), np.full(2, True)
    return ready.step(ready.training, *map(ready.place.place_batch, inputs))


def dtypes_of(tree):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


def test_a_first_iteration_is_near_float32():
    """Everything that is kept or exchanged is float32, and 5 % off at most.

    Over 8 seeds and both pairs the slope and the norms of vectors were off by up to
    1.2 %, and the discriminator's loss, of about 10, by up to 0.002. The generator's
    vector is the norm of a mean of two workers.
    """
    (plain, expected), (training, metrics) = map(
        first_iteration, ("float32", "bfloat16")
    )
    assert dtypes_of(training.params) == {"float32"}
    kinds = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (plain, training))
    assert kinds[0] == kinds[1]
    assert dtypes_of(metrics) == {"float32"}
    for name in ("slope", "vector_norm_generator", "vector_norm_discriminator"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=0.05)
        assert (metrics[name] != expected[name]).any(), "nothing was rounded"
    for name in ("loss_generator", "loss_discriminator", "wasserstein"):
        np.testing.assert_allclose(metrics[name], expected[name], atol=0.01)


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize("formulation", ["fast", "plain"])
def test_convolutions_are_of_the_dtype_and_scores_are_not(name, formulation):
    """Also those of gradients, and of a penalty's; what goes in and out is float32."""
    made = models.create_pair(
        name,
        width=2,
        latent=3,
        rngs=nnx.Rngs(0),
        formulation=formulation,
        dtype="bfloat16",
    )
    pair = models.split_pair(*made)
    assert dtypes_of(pair.params) == {"float32"}

    def penalty(params, latents):
        pictures = pair.generate(params["generator"], latents)
        assert pictures.dtype == jnp.float32

        def score(pictures):
            scores = pair.criticise(params["discriminator"], pictures)
            assert scores.dtype == jnp.float32
            return jnp.sum(scores)

        return jnp.sum(jnp.square(jax.grad(score)(pictures)))

    gradient = jax.make_jaxpr(jax.grad(penalty))(pair.params, jnp.zeros((2, 3)))
    assert {str(aval.dtype) for aval in gradient.out_avals} == {"float32"}
    of_convolutions = {
        line.split(":")[1].split("[")[0]
        for line in str(gradient).splitlines()
        if "= conv_general_dilated" in line
    }
    assert of_convolutions == {"bf16"}


def test_a_gradient_of_a_bias_counts_all_pixels():
    """2 x 32 x 32 ones; a sum in bfloat16 would end at 256."""
    conv = layers.Convolution(
        3, 4, 3, formulation="fast", dtype="bfloat16", rngs=nnx.Rngs(0)
    )
    x = jnp.zeros((2, 32, 32, 3))
    assert conv(x).dtype == jnp.bfloat16
    graph, params = nnx.split(conv)
    gradient = jax.grad(
        lambda params: jnp.sum(nnx.merge(graph, params)(x).astype(jnp.float32))
    )(params)
    np.testing.assert_array_equal(gradient["bias"][...], np.full(4, 2048.0))


def test_a_norm_is_rounded_once():
    """Computed in float64 from the rounded picture, then off by one rounding."""
    x = 3 * jax.random.normal(jax.random.key(0), (2, 8, 8, 4)) + 20
    x = x.astype(jnp.bfloat16)
    y = layers.LayerNorm(4, dtype="bfloat16")(x)
    assert y.dtype == jnp.bfloat16
    for found, example in zip(y, np.asarray(x, np.float64), strict=True):
        unit = (example - example.mean()) / np.sqrt(example.var() + 1e-5)
        np.testing.assert_allclose(
            np.asarray(found, np.float64), unit, rtol=ROUNDING, atol=1e-5
        )
