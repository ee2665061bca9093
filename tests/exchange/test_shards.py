"""Leaves that are cut over a model axis beside leaves that all its shards have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.hlo import collectives

pytestmark = pytest.mark.plainly

WORKERS, MODEL, BUCKET = ("host", "chip"), 2, 64
K = 4
SPECS = {"bias": P(), "cut": P(None, "model"), "rows": P("model"), "whole": P()}
SHAPES = {"bias": (64,), "cut": (32, 64), "rows": (64,), "whole": (32, 64)}
COPIES = ("bias", "whole")
WAYS = {
    (8, "all_gather"),
    (8, "reduce_scatter"),
    (8, "hierarchical"),
    (None, "all_gather"),
    (None, "exact"),
}


def mesh():
    auto = (AxisType.Auto,) * 3
    return jax.make_mesh((2, 2, MODEL), (*WORKERS, "model"), auto)


@functools.cache
def trees():
    """The workers' trees, leaves (K, ...); shards are 100 times copies."""
    rng = np.random.default_rng(0)
    scale = {name: 1.0 if name in COPIES else 100.0 for name in SHAPES}
    return {
        name: np.float32(scale[name] * rng.normal(size=(K, *shape)))
        for name, shape in SHAPES.items()
    }


def exchange_of(bits, collective, **settings):
    quantizer = None if bits is None else qgenx.uniform(bits, bucket_size=BUCKET)
    settings = {"exact": qgenx.small_leaves, **settings}
    return qgenx.exchange(WORKERS, quantizer, collective=collective, **settings)


REPLICATED = P()


def sent(exchange, specs=SPECS, scalar=None, rides=REPLICATED):
    """The program of an exchange, which JAX lets through only if copies stay copies."""

    def worker(tree):
        own = jax.tree.map(lambda x: x[0], tree)
        (mean, _, numbers), state = exchange.send(own, exchange.init(), scalar=scalar)
        return mean, numbers, state

    return jax.jit(
        jax.shard_map(
            worker,
            mesh=mesh(),
            in_specs=({name: P(WORKERS, *spec) for name, spec in specs.items()},),
            out_specs=(specs, rides, P()),
        )
    )


def placed_shapes(specs=SPECS):
    return {
        name: jax.ShapeDtypeStruct(
            SHAPES[name], "float32", sharding=NamedSharding(mesh(), spec)
        )
        for name, spec in specs.items()
    }


@pytest.mark.parametrize(("bits", "collective"), sorted(WAYS, key=str))
def test_the_mean_is_over_workers_and_copies_stay_copies(bits, collective):
    mean, _, _ = sent(exchange_of(bits, collective))(trees())
    for name, x in mean.items():
        off = np.abs(x - trees()[name].mean(0))
        rounds = bits is not None and name in ("cut", "whole")
        # a step of a bucket, of which hierarchical and reduce_scatter take two
        step = np.abs(trees()[name]).max() / (2 ** ((bits or 32) - 1) - 1)
        assert off.max() <= (2 * step if rounds else 1e-4), name
        assert not rounds or off.max() > step / 20, f"{name}: nothing was quantized"
        if name in COPIES:
            first, *others = [np.asarray(shard.data) for shard in x.addressable_shards]
            assert len(others) == K * MODEL - 1
            for other in others:
                np.testing.assert_array_equal(other, first, err_msg=name)


@pytest.mark.parametrize(("bits", "collective"), sorted(WAYS, key=str))
def test_the_program_moves_what_traffic_counts(bits, collective):
    """One buffer for each set of axes and phase, of the size of a shard."""
    exchange = exchange_of(bits, collective)
    program = sent(exchange).lower(trees()).compile().as_text()
    moved = [(op, dtype, n) for op, dtype, n in collectives(program) if n > 1]
    sizes = (2, 2) if collective == "hierarchical" else K
    traffic = exchange.traffic(placed_shapes(), sizes)
    # a reduce-scatter's result is a share of what is counted, a gather's all of it
    width = {"u8": 1, "f32": 4}
    found = sorted(
        width[dtype] * n * (2 if op == "reduce-scatter" else 1)
        for op, dtype, n in moved
    )
    expected = []
    for phase in traffic.phases:
        every = phase.workers if phase.collective == "all_gather" else 1
        split = phase.workers if phase.collective == "all_to_all" else 1
        expected += [every * phase.payload_bytes // split] * split
    assert found == sorted(expected), (moved, traffic.phases)
    assert traffic.coordinates == 32 * 32 + 32 + 32 * 64 + 64
    fast = qgenx.Link(latency=1.0, bytes_per_second=1e30, encode=0, decode=0)
    slow = qgenx.Link(latency=0.0, bytes_per_second=1e30, encode=0, decode=0)
    inside = slow.seconds(traffic, fast)
    # hierarchical: two phases within a host for each of two sets of axes
    assert round(inside) == (4 if collective == "hierarchical" else 0)


@pytest.mark.parametrize("collective", ["all_gather", "exact"])
def test_numbers_ride_with_what_varies_as_they_do(collective):
    bits = 8 if collective == "all_gather" else None
    exchange = exchange_of(bits, collective)

    def whole(own):
        return lax.psum(jnp.sum(own["rows"]), "model")

    def of_a_shard(own):
        return jnp.sum(own["rows"])

    expected = trees()["rows"].reshape(K, MODEL, -1).sum(-1)
    _, numbers, _ = sent(exchange, scalar=whole)(trees())
    np.testing.assert_allclose(numbers, expected.sum(-1), rtol=1e-5)
    _, numbers, _ = sent(exchange, scalar=of_a_shard, rides=P("model"))(trees())
    np.testing.assert_allclose(numbers, expected.T.reshape(-1), rtol=1e-5)


def test_a_number_equal_on_all_shards_stays_so_where_all_leaves_are_cut():
    exchange = exchange_of(None, "all_gather")
    specs = {name: spec for name, spec in SPECS.items() if name not in COPIES}
    tree = {name: trees()[name] for name in specs}

    def norm(own):
        return exchange.sum_of_squares(own)

    run = sent(exchange, specs, norm)
    _, numbers, _ = run(tree)  # P(): JAX has seen that they do not vary
    expected = sum((np.float64(x) ** 2).reshape(K, -1).sum(-1) for x in tree.values())
    np.testing.assert_allclose(numbers, expected, rtol=1e-6)
    traffic = exchange.traffic(placed_shapes(specs), K, scalar_bytes=4)
    assert [phase.payload_bytes for phase in traffic.phases] == [4 * (32 * 32 + 32), 4]


def test_squares_are_counted_once_however_a_tree_is_cut():
    exchange = exchange_of(8, "all_gather")

    def worker(tree):
        own = jax.tree.map(lambda x: x[0], tree)
        return exchange.sum_of_squares(own)[None]

    in_specs = ({name: P(WORKERS, *spec) for name, spec in SPECS.items()},)
    mapped = jax.shard_map(worker, mesh=mesh(), in_specs=in_specs, out_specs=P(WORKERS))
    expected = [
        sum(float((np.float64(x[k]) ** 2).sum()) for x in trees().values())
        for k in range(K)
    ]
    np.testing.assert_allclose(jax.jit(mapped)(trees()), expected, rtol=1e-6)


def test_untracked_shards_keep_their_copies_by_labels():
    """With check_vma=False JAX says nothing: labels keep buckets apart."""
    labels = {name: "copy" if name in COPIES else "cut" for name in SPECS}
    quantizers = {
        label: qgenx.uniform(4, bucket_size=BUCKET) for label in ("copy", "cut")
    }
    apart = qgenx.exchange(WORKERS, quantizers, labels=labels)
    together = qgenx.exchange(WORKERS, qgenx.uniform(4, bucket_size=4 * BUCKET))

    def copies_of(exchange):
        def worker(tree):
            own = jax.tree.map(lambda x: x[0], tree)
            mean, _ = exchange.mean(own, exchange.init())
            return mean["bias"][None]

        mapped = jax.shard_map(
            worker,
            mesh=mesh(),
            in_specs=({name: P(WORKERS, *spec) for name, spec in SPECS.items()},),
            out_specs=P((*WORKERS, "model")),
            check_vma=False,
        )
        return np.asarray(jax.jit(mapped)(trees()))

    found = copies_of(apart)
    assert (found == found[0]).all()
    found = copies_of(together)  # what the labels are for
    assert not (found == found[0]).all()
