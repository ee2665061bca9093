"""The mean in two phases: bits, sizes, padding, both variances, streams, other axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.exchanges import (
    buckets_of,
    in_pmap,
    in_shard_map,
    in_vmap,
    send_all,
    two_phases,
)
from tests.lib.helpers import AXIS, assert_trees_identical, vectors, within_5_sigma

BITS = qgenx.uniform(4, bucket_size=50)
NO_ZERO = qgenx.user_levels([0.1, 0.3, 0.5, 1.0], zero=False)
SIGNED = qgenx.user_levels([-1.0, -0.1, 0.2, 0.5, 1.0])


def variance(quantizer, x, workers):
    """Exact, summed over the coordinates of uniform's buckets: U^2 f (1 - f) each."""
    total = 0.0
    for low, high in buckets_of(x.size, workers, quantizer.bucket_size):
        bucket = x[low:high].astype(np.float64)
        step = np.abs(bucket).max() / (2 ** (quantizer.bits - 1) - 1)
        f = bucket / step
        f -= np.floor(f)
        total += step**2 * np.sum(f * (1 - f))
    return total


def tree_of(flat):
    """Two groups, and exact leaves of two dtypes."""
    return {
        "a": flat[:130].reshape(13, 10),
        "b": flat[130:193],
        "exact": flat[193:198],
        "half": flat[198:].astype(jnp.bfloat16),
    }


plainly = pytest.mark.plainly
GROUPS = {
    "quantizer": {"a": BITS, "b": qgenx.min_max(7), "none": None},
    "labels": {"a": "a", "b": "b", "exact": "none", "half": "none"},
    "second": {"a": qgenx.uniform(8)},
}


@pytest.mark.parametrize("workers", [3, 8])
def test_bits_are_identical_in_shard_map_pmap_and_vmap(workers):
    """Means, numbers, states and each worker's own vector; replicas are equal."""
    exchange = two_phases(**GROUPS) if workers == 3 else two_phases(BITS)
    flats = jnp.asarray(vectors(workers, 207))

    def run(flat):
        tree = tree_of(flat) if workers == 3 else {"b": flat}
        (mean, own, numbers), state = exchange.send(
            tree, exchange.init(), scalar=lambda own: own["b"].max()
        )
        shared = mean, numbers, jax.random.key_data(state.key)
        return shared, jax.tree.map(lambda x: x[None], own), flat[None]

    by_vmap = in_vmap(run, flats)
    assert_trees_identical(in_shard_map(run, flats), by_vmap, "shard_map against vmap")
    assert_trees_identical(in_pmap(run, flats), by_vmap, "pmap against vmap")
    (_, numbers, _), own, _ = by_vmap
    np.testing.assert_array_equal(numbers, own["b"].max(axis=1))


@pytest.mark.parametrize(
    ("quantizer", "second"),
    [
        (qgenx.uniform(1, bucket_size=None), None),
        (qgenx.uniform(5), qgenx.min_max(3)),
        (qgenx.min_max(3), qgenx.exponential(3, norm=np.inf)),
        (NO_ZERO, None),
        (SIGNED, NO_ZERO),
    ],
    ids=["1 bit", "uniform, min_max", "min_max, exponential", "no zero", "signed"],
)
@plainly
def test_padding_is_in_no_norm(quantizer, second):
    """So a bucket's extremes are the real coordinates', and are sent exactly."""
    workers, size = 5, 41  # chunks of 9, the last with 4 coordinates of padding
    flats = 3 + np.abs(
        vectors(workers, size, 1)
    )  # all above 0, which is padding's value
    exchange = two_phases(quantizer, second=second)
    (mean, _), own = send_all(exchange, jnp.asarray(flats))
    mean, own = np.asarray(mean), np.asarray(own)
    middle = own.mean(axis=0)
    for low, high in buckets_of(size, workers, quantizer.bucket_size):
        now = np.s_[low:high]
        sent = [(quantizer, own[k, now], flats[k, now]) for k in range(workers)]
        for by, found, given in [*sent, (second or quantizer, mean[now], middle[now])]:
            where = [given.argmax()]
            if by.family == "min_max":
                where.append(given.argmin())
            np.testing.assert_allclose(found[where], given[where], rtol=6e-4)
            assert found.max() <= given.max() * (1 + 1e-3), "above the largest"


@pytest.mark.quick
@plainly
def test_padding_of_one_bit_is_in_no_sum():
    """One bit has no zero: decoded, padding is something, and must be made 0 again."""
    workers, size = 5, 41
    quantizer = qgenx.uniform(1, norm=2, bucket_size=None)
    (mean, _), own = send_all(
        two_phases(quantizer), jnp.asarray(vectors(workers, size))
    )
    mean, middle = np.abs(mean), np.mean(own, axis=0)
    for low, high in buckets_of(size, workers, None):
        norm = np.linalg.norm(middle[low:high])
        np.testing.assert_allclose(mean[low:high], norm, rtol=1e-5)


@pytest.mark.parametrize("workers", [2, 3])
@plainly
def test_mean_is_unbiased_with_both_variances(workers):
    """Var = (1/K^2) sum_k var(v_k) + E var(M), of exact variances U^2 f (1 - f)."""
    draws, size = 500, 100
    flats = vectors(workers, size, seed=3)
    second = qgenx.uniform(3, bucket_size=64)
    exchange = two_phases(BITS, second=second, rounding="independent")

    def run(flat):
        def again(state, _):
            (mean, own, _), state = exchange.send(flat, state)
            return state, (mean, own)

        return lax.scan(again, exchange.init(), None, length=draws)[1]

    mapped = jax.vmap(run, axis_name=AXIS, out_axes=(None, 0))
    mean, own = jax.jit(mapped)(jnp.asarray(flats))
    mean = np.asarray(mean, np.float64)
    middle = np.asarray(own, np.float64).mean(axis=0)
    truth = np.asarray(flats, np.float64).mean(axis=0)
    root = np.sqrt(draws)
    # a maximum never moves, and is decoded up to 2^-16 of itself too large, twice
    within_5_sigma(mean.mean(0), truth, mean.std(0) / root + 2e-5, "mean")
    first = sum(variance(BITS, flat, workers) for flat in flats) / workers**2
    of_means = [variance(second, m.astype(np.float32), workers) for m in middle]
    for name, error, expected in (
        ("first phase", middle - truth, first),
        ("second phase", mean - middle, of_means),
        ("both", mean - truth, first + np.mean(of_means)),
    ):
        off = np.sum(error**2, axis=1) - expected  # of independent draws, mean 0
        within_5_sigma(off.mean(), 0, off.std() / root, f"variance of the {name}")


@pytest.mark.parametrize("workers", [1, 2])
@plainly
def test_the_two_phases_share_no_stream(workers):
    """Else the roundings of a coordinate in both phases would go the same way."""
    size = 6000
    flats = np.random.default_rng(1).uniform(-1, 1, (workers, size)).astype("f4")
    flats[:, ::100] = 1
    exchange = two_phases(qgenx.uniform(6), second=qgenx.uniform(3))
    (mean, _), own = send_all(exchange, jnp.asarray(flats))
    middle = np.asarray(own).mean(axis=0)
    second = (mean - middle) * 3
    for worker in range(workers):
        first = (own[worker] - flats[worker]) * 31
        product = first * second
        within_5_sigma(
            product.mean(), 0, product.std() / np.sqrt(size), "correlation of phases"
        )
    chunk = size // workers
    assert (np.abs(np.diff(np.asarray(mean))) > 1e-6).mean() > 0.3
    if workers > 1:  # the chunks' owners round with streams of their own
        product = second[:chunk] * second[chunk:]
        error = product.std() / np.sqrt(chunk)
        within_5_sigma(product.mean(), 0, error, "correlation of two owners")


def test_exact_leaves_have_the_bits_of_an_all_gather():
    """They are averaged in chunks, too, and the mean is not rounded to their dtype."""
    with jax.enable_x64(True):
        flats = jnp.asarray(vectors(3, 1024, dtype=np.float64))
        trees = {
            "kernel": flats[:, :100],
            "wide": flats[:, 100:111],
            "single": flats[:, 111:120].astype(jnp.float32),
            "half": flats[:, 120:127].astype(jnp.bfloat16),
            "scalar": flats[:, 127],
            "empty": flats[:, :0],
        }
        is_exact = lambda path, leaf: "kernel" not in path  # noqa: E731
        for exact, quantizer in ((is_exact, BITS), (None, None)):
            found, expected = (
                send_all(
                    qgenx.exchange(AXIS, quantizer, collective=c, exact=exact), trees
                )
                for c in ("reduce_scatter", "all_gather")
            )
            (mean, _), own = found
            (other, _), other_own = expected
            if quantizer is not None:
                assert mean["kernel"].dtype == np.float64
                kernel = np.asarray(mean.pop("kernel")), np.asarray(other.pop("kernel"))
                np.testing.assert_allclose(*kernel, atol=1)
                del own["kernel"], other_own["kernel"]
            assert_trees_identical(mean, other, "means of exact leaves")
            assert_trees_identical(own, other_own, "own exact leaves")


@plainly
def test_levels_in_the_state_serve_both_phases():
    quantizer = qgenx.user_levels([0.2, 0.5, 1.0], bucket_size=16)
    exchange = two_phases(quantizer)
    levels = jnp.array([0.25, 0.75, 1.0])

    def run(vector):
        state = exchange.init()._replace(levels={"all": levels})
        return exchange.send(vector, state)[0][0]

    flats = jnp.asarray(vectors(1, 64))
    mean = jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=None))(flats)
    for bucket in np.abs(np.asarray(mean)).reshape(4, 16):
        found = bucket / bucket.max()
        distance = np.abs(found[:, None] - np.array([0, 0.25, 0.75, 1])).min(axis=1)
        assert distance.max() < 2e-3, "a value between the state's levels"


@pytest.mark.quick
@plainly
def test_a_nan_reaches_all_workers_but_no_other_bucket():
    flats = jnp.asarray(vectors(3, 90)).at[1, 42].set(jnp.nan).at[2, 89].set(jnp.inf)
    exchange = two_phases(qgenx.uniform(4, bucket_size=10))
    (mean, _), _ = send_all(exchange, flats)
    hidden = np.r_[40:50, 80:90]
    assert np.isnan(mean[hidden]).all()
    assert np.isfinite(np.delete(mean, hidden)).all()


@plainly
def test_own_vector_without_a_collective():
    exchange = two_phases(BITS)
    run = lambda flat: exchange.quantize(flat, exchange.init())  # noqa: E731
    flats = jnp.asarray(vectors(3, 200))
    own = jax.jit(jax.vmap(run, axis_name=AXIS))(flats)
    assert_trees_identical(own, send_all(exchange, flats)[1], "quantize against send")


@functools.cache
def of_six():
    """Vectors of six workers, and what one axis of vmap makes of them."""
    flats = jnp.asarray(vectors(6, 301))
    return flats, *send_all(two_phases(BITS), flats, scalar=jnp.max)


@pytest.mark.parametrize(
    ("shape", "names", "lanes"),
    [((2, 3), ("host", AXIS), 1), ((2,), (AXIS,), 3), ((2, 1), ("host", AXIS), 3)],
)
def test_bits_over_a_tuple_of_axes_and_on_shared_devices(shape, names, lanes):
    """As those of one axis of vmap, K = 6."""
    axes = (AxisType.Auto,) * len(shape)
    devices = jax.devices()[: np.prod(shape)]
    mesh = jax.make_mesh(shape, names, axes, devices=devices)
    flats, (expected, numbers), own = of_six()
    over = (*names, "local") if lanes > 1 else names
    exchange = qgenx.exchange(over, BITS, collective="reduce_scatter")

    def step(_, state, flat):
        (mean, own, numbers), state = exchange.send(flat, state, scalar=jnp.max)
        return (mean, numbers), state, own

    run = qgenx.map_workers(step, over, mesh=mesh, workers=6)
    result = run((jnp.zeros(301), jnp.zeros(6)), exchange.init(), flats)
    assert_trees_identical(result[0], (expected, numbers), "means")
    assert_trees_identical(result[2], own, "own vectors")


@plainly
def test_a_further_mesh_axis_is_untouched():
    """Shards of a model round by themselves; what is replicated stays so."""
    mesh = jax.make_mesh((2, 4), ("model", AXIS), (AxisType.Auto,) * 2)
    exchange = two_phases(qgenx.uniform(2))
    vector = jnp.asarray(vectors(1, 400)[0])

    def send(shards):
        local = qgenx.local_params(shards[0], AXIS)
        return exchange.send(local, exchange.init())[0][0][None]

    run = jax.shard_map(send, mesh=mesh, in_specs=P("model"), out_specs=P("model"))
    first, second = jax.jit(run)(jnp.stack([vector, vector]))
    assert (first != second).mean() > 0.1, "shards share one stream"
    whole = jax.shard_map(send, mesh=mesh, in_specs=P(), out_specs=P())
    assert jax.jit(whole)(vector[None]).shape == (1, 400)


@pytest.mark.parametrize("variant", ["dual_extrapolation", "optimistic"])
@plainly
def test_q_genx_converges(variant):
    problem = qgenx.problems.bilinear(8)
    pair = qgenx.q_genx(
        AXIS, qgenx.uniform(8), variant=variant, gamma0=0.2, collective="reduce_scatter"
    )
    run = qgenx.map_workers(qgenx.iterate(pair, problem.operator), AXIS, workers=4)
    x = jnp.ones(8)
    state = qgenx.init(pair, x, workers=4)
    before = float(jnp.linalg.norm(problem.operator(x)))
    for _ in range(400):
        x, state = run(x, state)
    after = float(jnp.linalg.norm(problem.operator(qgenx.x_t(state, x))))
    assert after < 0.2 * before, f"||A(x)|| went from {before} to {after}"


@plainly
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_sizes_around_every_multiple(workers):
    """No coordinate is lost or moved; the mean is one step from the mean of `own`."""
    sizes = {0, 1, workers - 1, workers, 50 * workers - 1, 50 * workers + 1}
    cases = [(size, 50) for size in sorted(sizes)] + [(601 * workers, 4)]
    flats = {case: jnp.asarray(vectors(workers, case[0])) for case in cases}
    bits = {length: qgenx.uniform(4, bucket_size=length) for _, length in cases}
    exchanges = {length: two_phases(quantizer) for length, quantizer in bits.items()}

    def run(flats):
        return {
            (size, length): exchanges[length].send(flat, exchanges[length].init())[0]
            for (size, length), flat in flats.items()
        }

    found = jax.jit(jax.vmap(run, axis_name=AXIS))(flats)
    for (size, length), (mean, own, _) in found.items():
        flat, where = np.asarray(flats[size, length]), f"d = {size}"
        mean, own = np.asarray(mean), np.asarray(own)
        assert mean.shape == own.shape == flat.shape
        assert (mean == mean[:1]).all(), f"workers differ at {where}"
        middle = own.mean(axis=0)
        for low, high in buckets_of(size, workers, length):
            now = np.s_[..., low:high]
            step = np.abs(flat[now]).max(axis=1, keepdims=True) / 7 * (1 + 1e-4)
            assert (np.abs(own[now] - flat[now]) <= step).all(), f"own at {where}"
            step = np.abs(middle[now]).max() / 7 * (1 + 1e-4)
            assert (np.abs(mean[0][now] - middle[now]) <= step).all(), where


EVERY_PAIR = {
    "min_max": (qgenx.min_max(1, bucket_size=4), None),
    "exponential, min_max": (
        qgenx.exponential(3, norm=np.inf, bucket_size=4),
        qgenx.min_max(1),
    ),
    "other buckets": (qgenx.min_max(1, bucket_size=4), qgenx.min_max(1, bucket_size=6)),
    "no zero": (qgenx.user_levels([0.5, 1], zero=False, bucket_size=4), None),
    "signed": (qgenx.user_levels([-1, 0.5, 1.0], bucket_size=4), qgenx.min_max(1)),
    "range": (qgenx.user_levels([0.5, 1], norm="range", bucket_size=4), None),
}


@plainly
@pytest.mark.parametrize(
    ("pair", "size"),
    [
        *(("min_max", size) for size in (1799, 1800, 1802)),
        ("exponential, min_max", 1799),
        ("other buckets", 1802),
        ("no zero", 1799),
        ("signed", 1802),
        ("range", 1799),
    ],
)
def test_padding_of_chunks_of_whole_buckets_is_in_no_norm(pair, size):
    """Chunks of 601 coordinates, or of less, are padded to whole buckets of 4."""
    quantizer, second = EVERY_PAIR[pair]
    flats = np.where(np.arange(size) % 2, 1.0, 2.0).astype(np.float32)
    exchange = two_phases(quantizer, second=second)
    (mean, _), own = send_all(exchange, jnp.asarray(np.tile(flats, (3, 1))))
    np.testing.assert_allclose(own, np.tile(flats, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(mean, flats, rtol=1e-6)


@plainly
def test_what_follows_the_last_full_bucket_has_a_stream_of_its_own():
    """Else its roundings would repeat those of the first bucket."""
    length, size = 128, 2 * 129 * 128 - 60
    flat = np.full(size, 0.3, np.float32)
    flat[::length] = 1
    exchange = two_phases(qgenx.uniform(2, bucket_size=length))
    _, own = send_all(exchange, jnp.asarray(np.tile(flat, (2, 1))))
    tail = own[:, size // length * length :]
    assert tail.shape == (2, 68)
    share = (tail == own[:, : tail.shape[1]])[:, 1:].mean()
    # two independent roundings agree with probability 0.3^2 + 0.7^2
    within_5_sigma(share, 0.58, np.sqrt(0.58 * 0.42 / 134), "equal roundings")
