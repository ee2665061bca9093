"""A quantizer's levels: what is counted for them, and that they are the best ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._adapt import refit

plainly = pytest.mark.plainly
SHAPES = {"zero": {"zero": True}, "without": {}, "signed": {"signed": True}}
SHAPES["range"] = {"norm": "range"}
BY_HAND = {**SHAPES, "without": {"zero": False}}
WITHIN = {"zero": 1.005, "without": 1.005, "signed": 1.02, "range": 1.005}
"""Of the optimum: signed tables have more local ones, by which side zeros are on."""


def error(vector, quantizer, levels):
    """E||Q(v) - v||^2 / ||v||^2, exactly."""
    found = qgenx.bounds.exact_variance(vector, quantizer, levels=levels)
    return float(np.sum(found) / np.sum(np.square(vector)))


@pytest.mark.quick
@plainly
@pytest.mark.parametrize("law", ["histogram", "normal"])
@pytest.mark.parametrize("shape", SHAPES)
def test_levels_are_as_good_as_the_optimum_of_the_host(shape, law):
    """By histogram, zeros among the coordinates; normals fit normal vectors to 2 %."""
    rng = np.random.default_rng(1)
    vector = rng.normal(size=30_000).astype(np.float32)
    vector[::7] = 0
    if law == "normal":
        vector = rng.normal(size=30_000).astype(np.float32)
    buckets = {"bucket_size": 500, "norm": np.inf}
    quantizer = qgenx.adaptive(3, law=law, **{**buckets, **SHAPES[shape]})

    @jax.jit
    def fitted(vector, levels):
        total = refit.statistics(quantizer, vector)
        return refit.refitted(quantizer, total, levels, jnp.zeros(()))

    levels, predicted = fitted(vector, jnp.asarray(quantizer.levels, jnp.float32))
    by_hand = {**buckets, **BY_HAND[shape]}
    best = qgenx.fit_levels(vector, 3, method="optimal", **by_hand)
    found, least = (error(vector, quantizer, x) for x in (levels, best))
    within = WITHIN[shape] if law == "histogram" else 1.02
    assert found <= within * least, f"{found:.5f}, the optimum has {least:.5f}"
    assert float(predicted) == pytest.approx(
        found, rel=0.01 if law == "histogram" else 0.1
    )


@plainly
def test_nothing_learned_keeps_levels_and_what_is_known_of_them():
    quantizer = qgenx.adaptive(4)
    levels = jnp.asarray(quantizer.levels, jnp.float32)

    @jax.jit
    def fitted(vector, known):
        total = refit.statistics(quantizer, vector)
        return refit.refitted(quantizer, total, levels, known)

    found, known = fitted(jnp.full(2000, jnp.nan), jnp.float32(0.25))
    np.testing.assert_array_equal(found, levels)
    assert float(known) == 0.25
    assert found.dtype == jnp.float32
