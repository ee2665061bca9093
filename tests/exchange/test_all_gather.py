"""The mean by one all-gather: bits equal in shard_map, pmap and vmap, unbiased."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.exchanges import in_pmap, in_shard_map, in_vmap, tree_of
from tests.lib.helpers import AXIS, assert_trees_identical, vectors, within_5_sigma

plainly = pytest.mark.plainly


def one_worker(exchange, *, with_payload=False):
    """Everything a worker gets, and the bytes that it contributed if asked for."""

    def run(flat):
        state = exchange.init()
        tree = tree_of(flat)
        (mean, own, scalars), after = exchange.send(
            tree, state, scalar=lambda own: jnp.max(own["kernel"] ** 2)
        )
        payload = None
        if with_payload:
            layout = exchange.layout(tree)
            key = jax.random.split(state.key)[1]
            for part in (layout.fingerprint, 0, lax.axis_index(AXIS)):
                key = jax.random.fold_in(key, part)
            (vector,) = layout.flatten(tree)
            quantizer = exchange.quantizers["all"]
            payload = quantizer.encode(key, vector).data[None]
        # a value per worker gets a worker axis
        return (
            (mean, scalars, jax.random.key_data(after.key)),
            jax.tree.map(lambda x: x[None], own),
            payload,
        )

    return run


ALONE, TOGETHER = "independent", "correlated"
PAIRWISE = [  # any two of workers, bits, exact leaves and rounding meet
    (3, 8, None, TOGETHER),
    pytest.param(8, 8, qgenx.small_leaves, ALONE, marks=plainly),
    pytest.param(8, 4, None, ALONE, marks=plainly),
    (3, 4, qgenx.small_leaves, TOGETHER),
    pytest.param(3, 2, None, ALONE, marks=plainly),
    (8, 2, qgenx.small_leaves, TOGETHER),
]


@pytest.mark.parametrize(("workers", "bits", "exact", "rounding"), PAIRWISE)
def test_bits_are_identical_in_shard_map_pmap_and_vmap(workers, bits, exact, rounding):
    quantizer = qgenx.uniform(bits, bucket_size=100)
    settings = {"exact": exact, "rounding": rounding, "key": 4}
    exchange = qgenx.exchange(AXIS, quantizer, **settings)
    flats = jnp.asarray(vectors(workers, 2100))
    run = one_worker(exchange, with_payload=exact is None and rounding == ALONE)
    by_shard_map = in_shard_map(run, flats)
    assert_trees_identical(in_vmap(run, flats), by_shard_map, "vmap against shard_map")
    assert_trees_identical(in_pmap(run, flats), by_shard_map, "pmap against shard_map")


@pytest.mark.quick
@plainly
@pytest.mark.parametrize("workers", [1, 3])
def test_mean_own_and_scalars_are_what_they_say(workers):
    """mean = (1/K) sum of own; scalars are the workers' numbers; exact leaves exact."""
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4), exact=qgenx.small_leaves)
    flats = jnp.asarray(vectors(workers, 2100))
    shared, own, _ = in_vmap(one_worker(exchange), flats)
    mean, scalars, _ = shared
    trees = jax.vmap(tree_of)(flats)
    for name in ("bias", "half", "scalar"):
        wide = trees[name].astype(jnp.float32)
        assert_trees_identical(own[name], wide, f"exact leaf {name}")
    assert not np.array_equal(own["kernel"], trees["kernel"]), "nothing was quantized"
    for name, leaf in mean.items():
        assert leaf.dtype == jnp.float32
        expected = np.asarray(own[name], np.float64).mean(axis=0)
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        scalars, (np.asarray(own["kernel"]) ** 2).max((1, 2)), rtol=1e-5
    )


@plainly
def test_variance_of_the_mean_falls_as_one_over_workers():
    """Var(mean) = (1/K^2) sum_k U^2 f (1 - f): equal vectors catch a shared stream."""
    draws, size = 600, 256
    quantizer = qgenx.uniform(4, bucket_size=size)
    vector = jnp.asarray(vectors(1, size, seed=3)[0])
    payload = jax.jit(lambda vector: quantizer.encode(0, vector))(vector)
    ((_, scales),) = quantizer.records(payload)
    step = float(scales[0, 0]) / 4
    f = np.asarray(vector, np.float64) / step
    f -= np.floor(f)
    expected = step**2 * f * (1 - f)

    def mean_of(workers, seed):
        key = jax.random.key(seed)
        exchange = qgenx.exchange(AXIS, quantizer, rounding=ALONE, key=key)

        def run(state, _):
            (mean, _, _), state = exchange.send(vector, state)
            return state, mean

        def worker(_):
            return lax.scan(run, exchange.init(), None, length=draws)[1]

        mapped = jax.vmap(worker, axis_name=AXIS, out_axes=None)
        return np.asarray(jax.jit(mapped)(jnp.arange(workers)), np.float64)

    for workers in (1, 4, 16):
        error = (mean_of(workers, workers) - np.asarray(vector, np.float64)) ** 2
        total = error.sum(axis=1)  # over coordinates, once per draw
        within_5_sigma(
            total.mean() * workers / expected.sum(),
            1,
            total.std() * workers / expected.sum() / np.sqrt(draws),
            f"K Var(mean) / Var at K = {workers}",
        )


@pytest.mark.quick
@plainly
def test_a_nan_reaches_all_workers_but_no_other_bucket():
    exchange = qgenx.exchange(AXIS, qgenx.uniform(4, bucket_size=10))
    flats = jnp.asarray(vectors(3, 30)).at[1, 12].set(jnp.nan)
    run = lambda v: exchange.send(v, exchange.init())[0][0]  # noqa: E731
    mean = jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=None))(flats)
    assert np.isnan(mean[10:20]).all()
    assert np.isfinite(np.delete(mean, np.s_[10:20])).all()


@plainly
@pytest.mark.parametrize("shape", [(0,), ()], ids=["empty", "scalar"])
def test_empty_and_scalar_trees(shape):
    exchange = qgenx.exchange(AXIS, qgenx.uniform(8))
    x = jnp.ones((2, *shape))
    run = lambda v: exchange.send({"x": v}, exchange.init())[0][0]  # noqa: E731
    mean = jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=None))(x)
    np.testing.assert_allclose(mean["x"], np.ones(shape), rtol=1e-4)
