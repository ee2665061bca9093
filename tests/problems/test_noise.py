"""Noise of oracles: enumerated where there are few draws, error bars elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from qgenx_jax.problems import noise
from tests.lib.helpers import within_5_sigma

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

X = {"b": jnp.array([1.0, -2.0]), "a": jnp.array([[3.0], [0.5], [0.0]])}
PLAYERS = noise.players_of(X)


def double(x):
    return jax.tree.map(lambda leaf: 2 * leaf, x)


def draws(name, count=2000, size=1.0, **options):
    oracle = noise.noisy(double, PLAYERS, name, size, **options)
    keys = jax.random.split(jax.random.key(7), count)
    flat = jax.vmap(lambda key: ravel_pytree(oracle(X, key))[0])
    return np.asarray(jax.jit(flat)(keys), np.float64)


A = np.asarray(ravel_pytree(double(X))[0], np.float64)


def test_players_are_numbered_as_their_leaves_are_raveled():
    np.testing.assert_array_equal(PLAYERS, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(noise.players_of(jnp.zeros((2, 2))), [0] * 4)
    np.testing.assert_array_equal(noise.players_of(jnp.zeros(4)), [0, 0, 1, 1])
    np.testing.assert_array_equal(noise.players_of(jnp.zeros(1)), [0])
    nested = {"d": {"w": np.zeros(2), "b": np.zeros(())}, "g": np.zeros(1)}
    np.testing.assert_array_equal(noise.players_of(nested), [0, 0, 0, 1])


@pytest.mark.parametrize(("name", "parts"), [("coordinates", 5), ("players", 2)])
def test_all_draws_of_a_part_are_found_and_their_mean_is_the_vector(name, parts):
    found, counts = np.unique(draws(name), axis=0, return_counts=True)
    # a coordinate of A is 0: where it is drawn the vector is 0
    assert len(found) == parts
    np.testing.assert_allclose(found.mean(axis=0), A, rtol=1e-6)
    variance = ((found - A) ** 2).sum(axis=1).mean()
    assert variance == pytest.approx((parts - 1) * (A @ A), rel=1e-6)
    expected = 2000 / parts
    within_5_sigma(counts, expected, np.sqrt(expected * (1 - 1 / parts)), name)


@pytest.mark.parametrize(
    ("name", "variance"), [("absolute", 0.3**2), ("multiplicative", 0.3 * (A @ A))]
)
def test_normal_noise_is_unbiased_with_its_variance(name, variance):
    samples = draws(name, 20_000, 0.3)
    deviation = samples.std(axis=0) / np.sqrt(len(samples)) + 1e-6
    within_5_sigma(samples.mean(axis=0), A, deviation, name)
    square = ((samples - A) ** 2).sum(axis=1)
    error = square.std() / np.sqrt(len(square))
    within_5_sigma(square.mean(), variance, error, name)


def test_constant_parts_are_apart_by_one_with_mean_zero():
    parts = noise.constant_parts(4, 3)
    np.testing.assert_allclose(parts.mean(axis=0), 0, atol=1e-15)
    assert (parts**2).sum() / 4 == pytest.approx(1)
    oracle = noise.noisy(double, PLAYERS, "none", 1.0, workers=4, spread=0.5)
    key = jax.random.key(0)
    own = np.stack([ravel_pytree(oracle(X, key, k))[0] for k in range(4)])
    expected = A + 0.5 * noise.constant_parts(4, 5)
    np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-6)


def test_parts_of_a_problem_are_scaled_by_the_spread():
    def apart(x, worker, workers):
        return jax.tree.map(lambda leaf: jnp.ones_like(leaf) * worker / workers, x)

    options = {"workers": 2, "spread": 0.5, "apart": apart}
    oracle = noise.noisy(double, PLAYERS, "none", 1.0, **options)
    found = ravel_pytree(oracle(X, jax.random.key(0), 1))[0]
    np.testing.assert_allclose(found, A + 0.25)


def test_a_worker_knows_its_number_by_its_axis():
    by_axis = make("none", 1.0, workers=3, spread=0.5, axis_name="data")
    told = make("none", 1.0, workers=3, spread=0.5)
    keys = jax.random.split(jax.random.key(0), 3)
    found = jax.vmap(lambda key: by_axis(X, key), axis_name="data")(keys)
    for worker, key in enumerate(keys):
        expected = ravel_pytree(told(X, key, worker))[0]
        mine = ravel_pytree(jax.tree.map(lambda x, k=worker: x[k], found))[0]
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("kind", noise.NOISES)
def test_float32_stays_where_there_is_float64(kind):
    x = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), X)
    with jax.enable_x64(True):
        found = make(kind, np.float64(0.5))(x, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


def make(*args, **options):
    return noise.noisy(double, PLAYERS, *args, **options)


ROWS = {
    "noise": (lambda: make("laplace", 1.0), "noise must be one of 'none', .*'laplace'"),
    "size": (lambda: make("none", -1.0), "size must be a finite number of at least 0"),
    "workers": (
        lambda: make("none", 1.0, workers=0),
        "workers must be a whole number of at least 1, got 0: pass an int",
    ),
    "spread": (
        lambda: make("none", 1.0, workers=2, spread=-0.1),
        "spread must be a finite number of at least 0, got -0.1: 0.0, the default",
    ),
    "spread of one": (
        lambda: make("none", 1.0, spread=0.5),
        "spread must be 0 for one worker, whose operator is A, got 0.5: pass workers=K",
    ),
    "worker": (
        lambda: make("none", 1.0, workers=2)(X, jax.random.key(0), 2),
        "worker must be a whole number from 0 to 1, got 2: pass an int",
    ),
    "no worker": (
        lambda: make("none", 1.0, workers=2, spread=0.5)(X, jax.random.key(0)),
        "worker must be given where the workers' operators differ, got None: make the",
    ),
    "half a worker": (
        lambda: make("none", 1.0, workers=2)(X, jax.random.key(0), 0.5),
        "worker must be a whole number from 0 to 1, got 0.5",
    ),
    "another axis": (
        lambda: jax.vmap(
            lambda key: make("none", 1.0, workers=2, axis_name="data")(X, key),
            axis_name="data",
        )(jax.random.split(jax.random.key(0), 3)),
        "workers must be as many as the axis 'data' has, 3, got 2",
    ),
    "a traced spread": (
        lambda: jax.jit(lambda s: make("none", 1.0, workers=2, spread=s))(0.5),
        "spread must be known when it is traced",
    ),
    "one player": (
        lambda: noise.noisy(double, np.zeros(5, int), "players", 1.0),
        "noise must not be 'players' where there is one player, .*: choose 'coordin",
    ),
}


@pytest.mark.parametrize(
    ("call", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
