"""The decoder: causal, of the size that is said, with the loss of its logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.transformer.model import Decoder, next_byte_loss

SMALL = Decoder(layers=1, width=64, heads=1, length=8)


@pytest.fixture(scope="module")
def params():
    return SMALL.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]


def test_no_byte_is_seen_before_it_is_due(params):
    tokens = jnp.arange(8)[None]
    changed = tokens.at[0, 5].set(99)
    logits = [SMALL.apply({"params": params}, x) for x in (tokens, changed)]
    same = np.isclose(*logits, atol=1e-5).all(axis=-1)[0]
    np.testing.assert_array_equal(same, np.arange(8) < 5)


def test_the_loss_is_the_mean_of_minus_log_probabilities(params):
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 9)))
    found = next_byte_loss(SMALL, params, tokens)
    logits = np.asarray(SMALL.apply({"params": params}, tokens[:, :-1]), np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    each = np.take_along_axis(p, np.asarray(tokens)[:, 1:, None], axis=-1)
    np.testing.assert_allclose(found, -np.log(each).mean(), rtol=1e-5)


def test_the_default_has_about_ten_million_parameters():
    shapes = jax.eval_shape(
        Decoder().init, jax.random.key(0), jnp.zeros((1, 64), jnp.int32)
    )
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert 10e6 < count < 12e6
