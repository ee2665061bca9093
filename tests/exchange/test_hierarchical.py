"""Exact means over a fast axis, quantized ones over the slow axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import (
    AXIS,
    assert_trees_identical,
    mesh_of,
    vectors,
    within_5_sigma,
)

plainly = pytest.mark.plainly

AXES = ("host", "chip")
BITS = qgenx.uniform(4, bucket_size=50)
TREE = {"a": (41, 5), "b": (30,), "half": (7,), "empty": (0,)}


BYTES_ONLY = qgenx.Link(0, 1e9, 0, 0)
"""By it there are two phases between 3 hosts also for small trees."""


def trees_of(workers, seed=0):
    """A tree per worker: integers, so that sums over the fast axis are exact."""
    flats = np.round(100 * vectors(workers, 242, seed))
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in TREE.values())])
    tree = {
        name: jnp.asarray(flats[:, low:high].reshape(workers, *shape))
        for (name, shape), low, high in zip(TREE.items(), ends, ends[1:], strict=False)
    }
    return tree | {"half": tree["half"].astype(jnp.bfloat16)}


def exchange_of(quantizer=BITS, axes=AXES, **settings):
    settings |= {"collective": "hierarchical", "link": BYTES_ONLY}
    return qgenx.exchange(axes, quantizer, **settings)


def on_mesh(exchange, trees, slow, fast, check_vma=True):
    devices = jax.devices()[: slow * fast]
    mesh = jax.make_mesh((slow, fast), AXES, (AxisType.Auto,) * 2, devices=devices)

    def run(trees):
        tree = jax.tree.map(lambda x: x[0], trees)
        return exchange.send(tree, exchange.init())[0][0]

    mapped = jax.shard_map(
        run, mesh=mesh, in_specs=P(AXES), out_specs=P(), check_vma=check_vma
    )
    return jax.jit(mapped)(trees)


@pytest.mark.parametrize(("slow", "fast"), [pytest.param(2, 2, marks=plainly), (3, 2)])
def test_bits_are_those_of_vmap_and_every_replica(slow, fast):
    """N = 2, so that a sum over the fast axis has one order."""
    exchange = exchange_of(exact=lambda path, _: path in ("['half']", "['empty']"))
    trees = trees_of(slow * fast)
    expected = on_mesh(exchange, trees, slow, fast)
    for leaf in jax.tree.leaves(expected):
        first, *others = [np.asarray(s.data) for s in leaf.addressable_shards]
        assert all(np.array_equal(other, first) for other in others), "replicas differ"
    untracked = on_mesh(exchange, trees, slow, fast, check_vma=False)
    assert_trees_identical(untracked, expected, "without tracking")
    run = lambda tree: exchange.send(tree, exchange.init())[0][0]  # noqa: E731
    lanes = jax.vmap(run, axis_name="chip", out_axes=None)
    nested = jax.vmap(lanes, axis_name="host", out_axes=None)
    split = jax.tree.map(lambda x: x.reshape(slow, fast, *x.shape[1:]), trees)
    assert_trees_identical(jax.jit(nested)(split), expected, "nested vmap")
    middle = jax.tree.map(lambda x: np.asarray(x, np.float64).mean(axis=0), trees)
    np.testing.assert_allclose(expected["half"], middle["half"], rtol=1e-6)
    for name in ("a", "b"):
        largest = np.abs(np.asarray(trees[name])).max()
        error = np.abs(expected[name] - middle[name]).max()
        assert 0 < error < 2 * largest / 7, f"{name} is {error} off"


@plainly
def test_only_the_slow_axis_quantizes():
    """Values on levels pass unchanged: a fast axis that rounded would move them."""
    rng = np.random.default_rng(0)
    level = rng.integers(-7, 8, 90).astype(np.float32)
    level[::3] = 7  # the norm of every bucket
    off = rng.integers(-50, 50, 90).astype(np.float32)
    flats = jnp.asarray(np.tile([level + off, level - off], (3, 1)))
    mean = on_mesh(exchange_of(), {"x": flats}, 3, 2)["x"]
    np.testing.assert_allclose(mean, level, rtol=2**-14)


@plainly
@pytest.mark.parametrize("slow", [2, 3])
def test_mean_is_unbiased_and_pieces_round_independently(slow):
    """Equal pieces on the devices of a fast axis show a shared stream."""
    draws, size = 400, 64
    piece = vectors(slow, size, seed=2)
    flats = np.tile(piece[:, None], (1, 2, 2)).reshape(slow * 2, 2 * size)
    exchange = exchange_of(qgenx.uniform(3))

    def run(flat):
        def again(state, _):
            (mean, _, _), state = exchange.send(flat, state)
            return state, mean

        return jax.lax.scan(again, exchange.init(), None, length=draws)[1]

    lanes = jax.vmap(run, axis_name="chip", out_axes=None)
    nested = jax.vmap(lanes, axis_name="host", out_axes=None)
    found = jax.jit(nested)(jnp.asarray(flats).reshape(slow, 2, 2 * size))
    error = np.asarray(found, np.float64) - flats.mean(axis=0, dtype=np.float64)
    root = np.sqrt(draws)
    within_5_sigma(error.mean(0), 0, error.std(0) / root + 2e-5, "mean")
    product = error[:, :size] * error[:, size:]
    within_5_sigma(product.mean(), 0, product.std() / np.sqrt(product.size), "pieces")


@plainly
def test_workers_that_share_a_device_are_the_fast_axis():
    """Exact on a device, quantized between devices; by the doors of the library."""
    axes = (AXIS, "local")
    optimizer = optax.chain(
        qgenx.quantized_mean(axes, BITS, collective="hierarchical", exact=None),
        optax.sgd(1.0),
    )

    def step(params, state, target):
        gradient = qgenx.local_params(params, axes) - target
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    targets = jnp.asarray(vectors(6, 200))
    run = qgenx.map_workers(step, axes, mesh=mesh_of(3), workers=6)
    params, _ = run(jnp.zeros(200), optimizer.init(None), targets)
    np.testing.assert_allclose(params, targets.mean(axis=0), atol=1.2)
    assert np.abs(params - targets.mean(axis=0)).max() > 1e-3, "nothing was quantized"


@plainly
@pytest.mark.parametrize(
    ("quantizer", "second"),
    [
        (qgenx.exponential(3, norm=np.inf), qgenx.min_max(1)),
        (qgenx.min_max(1), None),
        (qgenx.user_levels([0.5, 1], zero=False), None),
        (qgenx.user_levels([-1, 0.5, 1.0]), None),
    ],
    ids=["exponential, min_max", "min_max", "no zero", "signed"],
)
def test_padding_is_in_no_norm(quantizer, second):
    """Of pieces nor of their chunks: padding's 0 is no bucket's minimum."""
    flats = np.ones((6, 431), np.float32)  # pieces of 216, chunks of 72; 1 of padding
    flats[:, -1] = 2  # both are levels, but for a minimum of 0
    exchange = exchange_of(quantizer, second=second)
    phases = exchange.traffic({"x": flats[0]}, (3, 2)).phases
    assert [phase.collective for phase in phases][1] == "all_to_all"
    mean = on_mesh(exchange, {"x": jnp.asarray(flats)}, 3, 2)["x"]
    np.testing.assert_allclose(mean, flats[0], rtol=1e-4)


@pytest.mark.quick
@plainly
def test_a_nan_reaches_all():
    flats = jnp.asarray(vectors(4, 100)).at[3, 60].set(jnp.nan)
    exchange = exchange_of(qgenx.uniform(4, bucket_size=10))
    mean = on_mesh(exchange, {"x": flats}, 2, 2)["x"]
    assert np.isnan(mean[60:70]).all()
    assert np.isfinite(np.delete(mean, np.s_[60:70])).all()


@plainly
def test_q_genx_runs_with_a_given_step_size():
    problem = qgenx.problems.bilinear(8)
    pair = qgenx.q_genx(
        (AXIS, "local"),
        qgenx.uniform(8),
        variant="optimistic",
        step_size=0.3,
        collective="hierarchical",
    )
    step = qgenx.iterate(pair, problem.operator, axis_name=(AXIS, "local"))
    run = qgenx.map_workers(step, (AXIS, "local"), mesh=mesh_of(2), workers=4)
    x = jnp.ones(8)
    state = qgenx.init(pair, x, mesh_of(2), (AXIS, "local"), workers=4)
    before = float(jnp.linalg.norm(problem.operator(x)))
    for _ in range(300):
        x, state = run(x, state)
    after = float(jnp.linalg.norm(problem.operator(qgenx.x_t(state, x))))
    assert after < 0.2 * before, f"||A(x)|| went from {before} to {after}"


REFUSED = {
    "one axis": (
        lambda: exchange_of(axes=AXIS),
        r"axis_name must be a tuple, .* got 'data': pass",
    ),
    "the adaptive step size": (
        lambda: qgenx.q_genx(AXES, BITS, collective="hierarchical"),
        r"collective must not be 'hierarchical' with the adaptive .* step_size",
    ),
    "bytes without the sizes of axes": (
        lambda: exchange_of().traffic(jnp.zeros(3), 4),
        r"workers must be the sizes .* got \(4,\): pass for instance",
    ),
    "a number": (
        lambda: on_mesh_with_number(),
        r"collective must not be 'hierarchical' for scalar=, .*choose 'reduce_scatter'",
    ),
    "second, where nothing is encoded again": (
        lambda: qgenx.exchange(AXIS, BITS, collective="all_gather", second=BITS),
        r"second must be left out with 'all_gather', .* got Quantizer",
    ),
    "second by default": (
        lambda: qgenx.exchange(AXIS, BITS, second=BITS),
        r"second must be left out with 'once', .*collective='reduce_scatter'",
    ),
    "second, where nothing is quantized": (
        lambda: qgenx.exchange(AXIS, None, collective="reduce_scatter", second=BITS),
        r"second must be left out where nothing is quantized, got Quantizer.*: give",
    ),
    "a second that is none": (
        lambda: qgenx.quantized_mean(AXIS, BITS, second=4),
        r"second must be a quantizer, or None .* got 4: make one",
    ),
    "a second of an unknown group": (
        lambda: qgenx.quantized_mean(AXIS, BITS, second={"other": BITS}),
        r"the labels of second must be one of 'all', got 'other'",
    ),
}


def on_mesh_with_number():
    exchange = exchange_of()
    run = lambda x: exchange.send(x, exchange.init(), scalar=jnp.max)  # noqa: E731
    lanes = jax.vmap(run, axis_name="chip")
    return jax.vmap(lanes, axis_name="host")(jnp.ones((2, 2, 5)))


@pytest.mark.quick
@pytest.mark.parametrize("case", REFUSED)
def test_is_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make()
