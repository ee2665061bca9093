"""Dynamic programming beside all tables there are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import distributions, tables
from qgenx_jax._adapt.optimum import optimum

pytestmark = [pytest.mark.plainly, pytest.mark.quick]
variance = jax.jit(tables.variance)


@pytest.mark.parametrize("zero", [False, True])
def test_it_is_the_best_of_all_tables_on_the_edges(zero):
    edges = np.linspace(-1, 1, 11)
    masses = np.random.default_rng(1).random(10).astype(np.float32)
    law = distributions.histogram(jnp.asarray(edges, jnp.float32), jnp.asarray(masses))
    tried = [
        np.array([-1, *inner, 1])
        for inner in itertools.combinations(edges[1:-1], 3)
        if not zero or 0 in inner
    ]
    values = [variance(law, jnp.asarray(t, jnp.float32)) for t in tried]
    found = optimum(law, 4, zero=zero)
    np.testing.assert_allclose(found, tried[int(np.argmin(values))], atol=1e-6)


def test_one_step_is_the_ends():
    law = distributions.histogram(jnp.linspace(0, 1, 5), jnp.ones(4))
    np.testing.assert_array_equal(optimum(law, 1), [0, 1])


def test_mirrored_it_is_the_best_of_all_magnitudes_on_the_edges():
    edges, masses = np.linspace(0, 1, 11), np.random.default_rng(3).random(10)
    law = distributions.histogram(jnp.asarray(edges, jnp.float32), jnp.asarray(masses))
    both = np.concatenate([-edges[:0:-1], edges])
    folded = np.concatenate([masses[::-1], masses])
    mirror = distributions.histogram(jnp.asarray(both), jnp.asarray(folded))
    tried = [[*x, 1] for x in itertools.combinations(edges[1:-1], 3)]
    signed = [jnp.asarray([-x for x in t[::-1]] + t, jnp.float32) for t in tried]
    values = [variance(mirror, t) for t in signed]
    found = optimum(law, 4, mirrored=True)
    np.testing.assert_allclose(found, tried[int(np.argmin(values))], atol=1e-6)
