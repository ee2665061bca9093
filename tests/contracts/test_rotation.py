"""What an exchange promises, for quantizers whose buckets are turned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from qgenx_jax._adapt import refit
from qgenx_jax._codec import rotation
from qgenx_jax.bounds.given_vector import coordinate_variances
from tests.lib.exchanges import (
    assert_alike_over_hosts,
    assert_moves_its_traffic,
    assert_same_bits_optimized,
    in_each_mapping,
    is_small,
    mixed_tree,
)
from tests.lib.helpers import (
    AXIS,
    assert_trees_identical,
    vectors,
    within_5_sigma,
)

plainly = pytest.mark.plainly
BITS = qgenx.rotated(qgenx.uniform(3, bucket_size=32))
DITHER = qgenx.rotated(qgenx.dithered(3, bend=0.8, bucket_size=32))


CASES = {
    "all_gather": {"quantizer": BITS},
    "dither": {"quantizer": DITHER},
    "reduce_scatter": {"quantizer": BITS, "collective": "reduce_scatter"},
    "levels": {
        "quantizer": qgenx.rotated(
            qgenx.user_levels([0.1, 0.3, 0.6, 1.0], zero=False, bucket_size=32)
        ),
        "collective": "reduce_scatter",
    },
    "other second": {
        "quantizer": DITHER,
        "second": qgenx.rotated(qgenx.uniform(8, bucket_size=64)),
        "collective": "reduce_scatter",
    },
    "plain second": {
        "quantizer": BITS,
        "second": qgenx.min_max(8, bucket_size=32),
        "collective": "reduce_scatter",
        "rounding": "independent",
    },
    "turned second": {
        "quantizer": qgenx.uniform(3, bucket_size=32),
        "second": qgenx.rotated(qgenx.min_max(8, bucket_size=32)),
        "collective": "reduce_scatter",
    },
}
WORKERS = {"all_gather": 4, "reduce_scatter": 3}


@plainly
@pytest.mark.parametrize("name", CASES)
def test_bits_are_identical_in_shard_map_pmap_and_vmap(name):
    settings = {"collective": "all_gather", **CASES[name]}
    exchange = qgenx.exchange(AXIS, exact=is_small, key=7, **settings)
    flats = jnp.asarray(vectors(WORKERS.get(name, 3), 207))
    mean, own = in_each_mapping(exchange, flats, pmap=name in WORKERS)
    exact = jax.tree.map(lambda *x: jnp.stack(x).mean(axis=0), *map(mixed_tree, flats))
    for key, leaf in mean.items():
        near = own[key].mean(axis=0)
        bar = 1e-5 if settings["collective"] == "all_gather" else 0.4
        assert jnp.linalg.norm(leaf - near) <= bar * jnp.linalg.norm(near), key
        error = jnp.linalg.norm(leaf - exact[key].astype(jnp.float32))
        assert error < 0.7 * jnp.linalg.norm(exact[key].astype(jnp.float32)), key


def test_optimized_programs_have_the_same_bits_too():
    exchange = qgenx.exchange(AXIS, BITS, key=3)
    assert_same_bits_optimized(exchange, jnp.asarray(vectors(3, 500)))


@plainly
@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
def test_traffic_is_what_the_program_moves(collective):
    """And no byte more than without a rotation: nothing is padded for it."""
    settings = {"exact": is_small, "collective": collective}
    of_zeros, traffic = assert_moves_its_traffic(qgenx.exchange(AXIS, BITS, **settings))
    plain = dataclasses.replace(BITS, rotate=False)
    shapes = jax.eval_shape(mixed_tree, jnp.zeros(207))
    assert qgenx.exchange(AXIS, plain, **settings).traffic(shapes, 3) == traffic
    assert not of_zeros["a"].any(), "zeros alone stay zeros"


def over_keys(quantizer, flats, count, **settings):
    """Means of the rows, for each of so many keys: float64 (count, d)."""

    def one(key):
        exchange = qgenx.exchange(AXIS, quantizer, **settings)
        state = exchange.init()._replace(key=jax.random.key_data(key))

        def run(flat):
            return exchange.mean(flat, state)[0]

        return jax.vmap(run, axis_name=AXIS, out_axes=None)(flats)

    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(one))(keys), np.float64)


@plainly
@pytest.mark.parametrize("rounding", ["correlated", "independent"])
@pytest.mark.parametrize("quantizer", [BITS, DITHER], ids=["uniform", "dithered"])
def test_the_mean_has_the_variance_that_bounds_say(quantizer, rounding):
    flats = np.random.default_rng(3).standard_t(3, (3, 77)).astype(np.float32)
    flats[1] = flats[0]
    found = over_keys(quantizer, flats, 2000, rounding=rounding)
    errors = found - flats.astype(np.float64).mean(axis=0)
    bars = errors.std(axis=0) / np.sqrt(2000) + 1e-6
    within_5_sigma(errors.mean(axis=0), np.zeros(77), bars, "bias")
    total = (errors**2).sum(axis=1)
    expected = qgenx.bounds.mean_variance(flats, quantizer, rounding=rounding).sum()
    bar = total.std() / np.sqrt(2000)
    within_5_sigma(total.mean(), expected, bar, "variance of the mean")


@plainly
@pytest.mark.parametrize("name", ["reduce_scatter", "other second", "plain second"])
def test_two_phases_are_unbiased_with_padding(name):
    """Chunks of 26 for 77 coordinates: padding is turned with others, and left out."""
    flats = np.random.default_rng(3).standard_t(3, (3, 77)).astype(np.float32)
    found = over_keys(flats=flats, count=2000, **CASES[name])
    errors = found - flats.astype(np.float64).mean(axis=0)
    bars = errors.std(axis=0) / np.sqrt(2000) + 1e-6
    within_5_sigma(errors.mean(axis=0), np.zeros(77), bars, name)


@plainly
def test_hierarchical_and_one_worker():
    exchange = qgenx.exchange(("host", "chip"), BITS, collective="hierarchical")
    flats = jnp.asarray(vectors(4, 300)).reshape(2, 2, 300)
    assert_alike_over_hosts(exchange, flats, 0.5)
    alone = qgenx.exchange(None, BITS)
    flat = flats[0, 0]
    found, _ = jax.jit(alone.mean)(flat, alone.init())
    assert 0 < jnp.linalg.norm(found - flat) < 0.5 * jnp.linalg.norm(flat)


@plainly
def test_in_a_chain_with_weights_and_accumulation():
    flats = jnp.asarray(vectors(3, 2048)).reshape(3, 32, 64)
    mean = qgenx.quantized_mean(AXIS, BITS)

    def weighted(flat, weight):
        state = mean.init(None)
        return mean.update({"w": flat}, state, None, weight=weight)[0]["w"]

    weights = jnp.array([1.0, 0.0, 3.0])
    found = jax.jit(jax.vmap(weighted, axis_name=AXIS, out_axes=None))(flats, weights)
    expected = jnp.tensordot(weights / 4, flats, 1)
    assert jnp.linalg.norm(found - expected) < 0.4 * jnp.linalg.norm(expected)
    optimizer = optax.chain(qgenx.quantized_mean(AXIS, BITS), optax.sgd(1.0))
    pair = qgenx.accumulate(2, optimizer)

    def run(flat):
        state, total = pair.init({"w": jnp.zeros((32, 64))}), jnp.zeros((32, 64))
        for _ in range(2):
            updates, state = pair.update({"w": flat}, state, {"w": total})
            total += updates["w"]
        return total

    found = jax.jit(jax.vmap(run, axis_name=AXIS))(flats)
    exact = -flats.mean(axis=0)
    assert jnp.linalg.norm(found[0] - exact) < 0.5 * jnp.linalg.norm(exact)


@plainly
def test_what_is_fitted_is_fitted_to_turned_buckets():
    """Sums of turned buckets; a bend by them, and the error that is foretold."""
    x = np.random.default_rng(5).standard_t(3, 4096 + 100).astype(np.float32)
    turned = rotation.turned(jnp.asarray(x), 64)
    for plain in (qgenx.adaptive(3, bucket_size=64), qgenx.dithered(3, bucket_size=64)):
        own = qgenx.rotated(plain)
        found = jax.jit(lambda x, q=own: refit.statistics(q, x))(x)
        known = jax.jit(lambda x, q=plain: refit.statistics(q, x))(turned)
        assert_trees_identical(found, known, plain.family)
    quantizer = qgenx.rotated(qgenx.dithered(3, bucket_size=64))
    exchange = qgenx.exchange(None, quantizer)
    _, state = jax.jit(exchange.mean)(x, exchange.init())
    bend = state.levels["all"]
    np.testing.assert_allclose(bend, qgenx.fit_bend(turned, 3, bucket_size=64))
    found = qgenx.bounds.exact_variance(x, quantizer, levels=np.asarray(bend)).sum()
    foretold = state.adaptation.predicted["all"]
    energy = np.sum(x.astype(np.float64) ** 2)
    np.testing.assert_allclose(foretold, found / energy, rtol=0.01)


@pytest.mark.quick
def test_plans_know_of_it():
    """Variances by coordinate, sums, and text."""
    x = np.random.default_rng(5).standard_t(3, 77).astype(np.float32)
    each = coordinate_variances(x, BITS)
    total = qgenx.bounds.exact_variance(x, BITS, ideal=True)
    np.testing.assert_allclose(each[:32].sum(), total[0], rtol=1e-5)
    np.testing.assert_allclose(each[64:].sum(), total[2], rtol=1e-5)
    plan = qgenx.plan_bits(
        {"a": x, "b": 9 * x},
        bits_per_coordinate=5,
        candidates=[qgenx.rotated(qgenx.uniform(b, bucket_size=32)) for b in (2, 4, 6)],
    )
    assert all(of.rotate for of in plan.quantizers.values())
    assert qgenx.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("size", [32, 1024, 65_536])
def test_large_numbers_that_a_mean_has_are_not_lost_on_the_way(size):
    """Sums on the way are no larger than the norm of K workers' sum."""
    quantizer = qgenx.rotated(qgenx.uniform(8, bucket_size=size))
    one = jnp.zeros(size).at[0].set(2e38)
    back = quantizer.decode(quantizer.encode(0, one))
    assert jnp.all(jnp.isfinite(back))
    np.testing.assert_allclose(back[0], 2e38, rtol=0.05)
    exchange = qgenx.exchange(AXIS, quantizer)
    state = exchange.init()
    flats = jnp.zeros((3, size)).at[:, 0].set(7e37)
    mean = jax.vmap(lambda x: exchange.mean(x, state)[0], axis_name=AXIS)(flats)[0]
    assert jnp.all(jnp.isfinite(mean))
    np.testing.assert_allclose(mean[0], 7e37, rtol=0.05)


@pytest.mark.parametrize(
    "quantizer", [qgenx.uniform(4), qgenx.best(4), qgenx.adaptive(4)], ids=str
)
def test_nothing_is_turned_to_nothing(quantizer):
    exchange = qgenx.exchange(None, qgenx.rotated(quantizer))
    mean, _ = exchange.mean(jnp.zeros(0), exchange.init())
    assert mean.shape == (0,)
