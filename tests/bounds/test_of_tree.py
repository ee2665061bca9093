"""The error of a quantizer on a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

TREE = {
    "kernel": np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32),
    "bias": np.random.default_rng(1).normal(size=64).astype(np.float32),
}


@pytest.mark.parametrize("exact", [None, qgenx.small_leaves])
def test_it_is_that_of_what_an_exchange_sends(exact):
    """Sampled: 5 sigma over 2,000 keys."""
    quantizer = qgenx.uniform(3, bucket_size=256)
    exchange = qgenx.exchange(None, quantizer, exact=exact)
    squares = sum(float(np.square(x).sum()) for x in TREE.values())

    def one(key):
        state = exchange.init()._replace(key=jax.random.key_data(key))
        own = exchange.quantize(TREE, state)
        off = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), own, TREE)
        return sum(jax.tree.leaves(off)) / squares

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2000))
    expected = float(qgenx.bounds.error(TREE, quantizer, exact=exact))
    assert abs(found.mean() - expected) <= 5 * found.std() / np.sqrt(2000)


def test_in_jit_and_in_bfloat16_and_at_any_scale():
    quantizer = qgenx.user_levels([0.0, 0.1, 0.3, 1.0])
    tree = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), TREE)
    outside = qgenx.bounds.error(tree, quantizer)
    inside = jax.jit(lambda t: qgenx.bounds.error(t, quantizer))(tree)
    np.testing.assert_allclose(inside, outside, rtol=1e-4)
    for scale in (1e-30, 1e30):
        scaled = jax.tree.map(lambda x, scale=scale: x * np.float32(scale), TREE)
        found = qgenx.bounds.error(scaled, quantizer)
        np.testing.assert_allclose(
            found, qgenx.bounds.error(TREE, quantizer), rtol=1e-3
        )


@pytest.mark.parametrize("quantizer", [qgenx.adaptive(3), qgenx.best(3)])
def test_levels_that_are_fitted_are_given(quantizer):
    exchange = qgenx.exchange(None, quantizer)
    _, state = jax.jit(exchange.mean)(TREE, exchange.init())
    levels = state.levels["all"]
    expected = float(qgenx.bounds.error(TREE, quantizer, levels=levels))

    def one(key):
        own = exchange.quantize(TREE, state._replace(key=jax.random.key_data(key)))
        off = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), own, TREE)
        return sum(jax.tree.leaves(off))

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 500))
    found /= sum(float(np.square(x).sum()) for x in TREE.values())
    assert abs(found.mean() - expected) <= 5 * found.std() / np.sqrt(500) + 1e-3
    with pytest.raises(ValueError, match="levels must be given for a quantizer"):
        qgenx.bounds.error(TREE, quantizer)


@pytest.mark.quick
def test_bad_input():
    with pytest.raises(ValueError, match="at least one leaf to quantize"):
        qgenx.bounds.error(TREE, qgenx.uniform(4), exact=lambda path, leaf: True)
    with pytest.raises(ValueError, match="quantizer must be of type Quantizer"):
        qgenx.bounds.error(TREE, 4)
    with pytest.raises(ValueError, match="tree"):
        qgenx.bounds.error({"x": np.arange(4)}, qgenx.uniform(4))
