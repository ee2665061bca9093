"""A bit that flips on its way makes the mean NaN on all workers; nothing else does.

Bits are flipped in what a collective hands to one receiver, by a test's own wrapper.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax._exchange import checksum
from qgenx_jax._workers import collectives
from tests.lib.exchanges import (
    assert_moves_its_traffic,
    in_each_mapping,
    is_small,
    mixed_tree,
)
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors

pytestmark = pytest.mark.usefixtures("compiled_plainly")
WORKERS = 3
WAYS = ("all_gather", "reduce_scatter")
FAMILIES = {
    "uniform": qgenx.uniform(4, bucket_size=16),
    "dithered": qgenx.dithered(3, bucket_size=16, bend=0.5),
    "rotated": qgenx.rotated(qgenx.uniform(2, bucket_size=16)),
    "exact": None,
}


def exchange_of(quantizer, collective, **settings):
    settings = {"checksum": True, **settings}
    return qgenx.exchange(AXIS, quantizer, collective=collective, **settings)


@pytest.fixture
def wire(monkeypatch):
    """Collectives, each of which may be given what happens to what it hands over.

    Or to what it is handed ("sent"), where JAX tracks that all receive the same.
    """
    happens = {}

    def wrap(name):
        inner = getattr(collectives, name)

        @functools.wraps(inner)
        def wrapped(x, axis_name):
            found = inner(happens.get("sent", lambda x: x)(x), axis_name)
            # the last gather of 4 bytes is that in which workers tell each other
            is_last = name == "gather" and found.shape[1:] == (4,)
            change = happens.get("telling" if is_last else name)
            return found if change is None else change(found)

        monkeypatch.setattr(collectives, name, wrapped)

    wrap("gather")
    wrap("all_to_all")
    return happens


def flipping(receiver, place, bit):
    """One bit of (K, bytes), at one receiver."""

    def change(arrived):
        flat = arrived.reshape(-1)
        is_it = (jnp.arange(flat.size) == place) & (lax.axis_index(AXIS) == receiver)
        mask = jnp.where(is_it, jnp.uint8(1) << jnp.uint8(bit), jnp.uint8(0))
        return (flat ^ mask).reshape(arrived.shape)

    return change


def bytes_of(exchange, tree, collective):
    phases = exchange.traffic(tree, WORKERS).phases
    ours = {"gather": "all_gather", "all_to_all": "all_to_all"}[collective]
    payload = next(p.payload_bytes for p in phases if p.collective == ours)
    return payload * (1 if collective == "all_to_all" else WORKERS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("way", "collective"),
    [
        ("all_gather", "gather"),
        ("reduce_scatter", "all_to_all"),
        ("reduce_scatter", "gather"),
    ],
)
def test_every_bit_that_flips_at_one_receiver_is_seen_by_all(
    wire, way, collective, family
):
    exchange = exchange_of(FAMILIES[family], way)
    vector = jnp.asarray(vectors(WORKERS, 9))

    def run(receiver, place, bit):
        wire[collective] = flipping(receiver, place, bit)

        def worker(v):
            (mean, own, _), _ = exchange.send(v, exchange.init())
            return jnp.isnan(mean).all(), jnp.isfinite(own).all()

        return jax.vmap(worker, axis_name=AXIS)(vector)

    size = bytes_of(exchange, vector[0], collective)
    at = jnp.arange(WORKERS)[:, None, None], jnp.arange(size)[:, None], jnp.arange(8)
    places = [x.ravel() for x in jnp.broadcast_arrays(*at)]
    lost, own = jax.jit(jax.vmap(run))(*places)
    assert lost.shape == (WORKERS * size * 8, WORKERS)
    assert lost.all(), "a bit that was not seen by all"
    assert own.all(), "a worker's own vector did not travel"


@pytest.mark.parametrize("way", WAYS)
def test_what_all_tell_each_other_is_never_a_yes_by_one_bit(wire, way):
    """A bit lost there costs one worker its mean, and hides no other loss."""
    exchange, vector = exchange_of(FAMILIES["uniform"], way), vectors(WORKERS, 9)

    def run(place, bit, *, is_lost):
        wire["gather"] = flipping(1, 0, 0) if is_lost else None
        wire["telling"] = flipping(2, place, bit)
        mean = jax.vmap(lambda v: exchange.mean(v, exchange.init())[0], axis_name=AXIS)
        return jnp.isnan(mean(vector)).all(axis=1)

    at = jnp.arange(WORKERS * 4)[:, None], jnp.arange(8)
    places = [x.ravel() for x in jnp.broadcast_arrays(*at)]
    run_all = lambda lost: jax.vmap(functools.partial(run, is_lost=lost))(*places)  # noqa: E731
    assert run_all(True).all()
    alarmed = np.asarray(run_all(False))
    assert (alarmed == [False, False, True]).all()


@pytest.mark.parametrize("name", ["swapped", "zeros", "shifted", "cut short"])
def test_whole_messages_that_are_others(wire, name):
    def change(arrived):
        return {
            "swapped": arrived[jnp.array([1, 0, 2])],
            "zeros": arrived.at[1].set(0),
            "shifted": arrived.at[1].set(jnp.roll(arrived[1], 1)),
            "cut short": arrived.at[2, 6:].set(0),
        }[name]

    exchange = exchange_of(FAMILIES["uniform"], "all_gather")
    wire["gather"] = change
    mean = jax.vmap(lambda v: exchange.mean(v, exchange.init())[0], axis_name=AXIS)
    assert jnp.isnan(mean(vectors(WORKERS, 9))).all()


@pytest.mark.parametrize("way", WAYS)
def test_no_false_alarm_and_the_same_bits_in_ten_thousand_exchanges(way):
    both = [
        exchange_of(FAMILIES["uniform"], way, checksum=checked)
        for checked in (True, False)
    ]

    def run(key):
        v = jax.random.normal(key, (WORKERS, 40)) * jax.random.exponential(key)

        def worker(v):
            states = [x.init()._replace(key=jax.random.key_data(key)) for x in both]
            return [x.mean(v, s)[0] for x, s in zip(both, states, strict=True)]

        return jax.vmap(worker, axis_name=AXIS)(v)

    keys = jax.random.split(jax.random.key(7), 10_000)
    checked, plain = jax.jit(lambda keys: lax.map(run, keys, batch_size=500))(keys)
    assert jnp.isfinite(plain).all()
    np.testing.assert_array_equal(checked, plain)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_bits_are_those_without_in_every_mapping(way, family):
    """With bfloat16 leaves, leaves that stay exact, and both together."""
    exact = is_small if FAMILIES[family] else None
    flats = jnp.asarray(vectors(WORKERS, 207))
    found = [
        in_each_mapping(
            exchange_of(FAMILIES[family], way, exact=exact, checksum=x), flats
        )
        for x in (True, False)
    ]
    assert_trees_identical(*found, "with a checksum against without")


@pytest.mark.parametrize("way", WAYS)
def test_the_program_moves_what_is_counted(way):
    exchange = exchange_of(FAMILIES["uniform"], way, exact=is_small)
    mean, traffic = assert_moves_its_traffic(exchange)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(mean))
    assert [p.sent_checksum for p in traffic.phases] == [8] * len(traffic.phases)
    for p in traffic.phases:
        parts = p.sent_exact, p.sent_scalar, p.sent_checksum, *p.sent_by_group.values()
        assert sum(parts) == p.sent_bytes
    plain = exchange_of(FAMILIES["uniform"], way, exact=is_small, checksum=False)
    tree = jax.eval_shape(mixed_tree, jnp.zeros(207))
    more = traffic.sent_bytes - plain.traffic(tree, WORKERS).sent_bytes
    assert more == (WORKERS - 1) * {"all_gather": 8, "reduce_scatter": 12}[way]


def test_without_it_the_program_is_that_of_before():
    """Off by default: not one operation more."""
    texts = []
    for settings in ({}, {"checksum": False}):
        exchange = qgenx.exchange(AXIS, FAMILIES["uniform"], **settings)
        worker = lambda v, x=exchange: x.mean(v, x.init())[0]  # noqa: E731
        mapped = jax.vmap(worker, axis_name=AXIS)
        texts.append(jax.jit(mapped).lower(vectors(3, 9)).as_text())
        assert exchange.traffic(jnp.zeros(9), 3).phases[0].sent_checksum == 0
    assert texts[0] == texts[1]
    assert "85ebca6b" not in texts[0].lower()


def test_what_rides_along_is_lost_too_and_a_weighted_mean(wire):
    exchange = exchange_of(FAMILIES["uniform"], "all_gather")
    wire["gather"] = flipping(0, 3, 5)

    def worker(v):
        (mean, _, numbers), _ = exchange.send(v, exchange.init(), scalar=jnp.sum)
        weighted = exchange.mean(v, exchange.init(), weight=2.0)[0]
        return jnp.isnan(mean), jnp.isnan(numbers), jnp.isnan(weighted)

    assert all(x.all() for x in jax.vmap(worker, axis_name=AXIS)(vectors(WORKERS, 9)))


@pytest.mark.parametrize("method", ["quantized_mean", "q_genx"])
def test_a_lost_exchange_moves_nothing_on_any_worker(wire, method):
    """On a mesh, with `skip_not_finite`: all skip alike, and go on."""
    if method == "quantized_mean":
        settings = {"exact": qgenx.no_leaves, "collective": "reduce_scatter"}
        mean = qgenx.quantized_mean(
            AXIS, FAMILIES["uniform"], checksum=True, **settings
        )
        inner = optax.chain(mean, optax.adam(0.1))
    else:
        variant = {"variant": "optimistic"}
        inner = qgenx.alternating(
            qgenx.q_genx(AXIS, FAMILIES["uniform"], checksum=True, **variant)
        )
    optimizer = qgenx.skip_not_finite(inner)

    def step(params, state, v):
        moves, state = optimizer.update(v, state, params)
        return optax.apply_updates(params, moves), state

    mesh, start = mesh_of(WORKERS), jnp.ones(9)
    vs = jnp.asarray(vectors(WORKERS, 9))
    state = qgenx.init(optimizer, start, mesh, AXIS)
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    moved, state = run(start, state, vs)
    assert jnp.isfinite(moved).all()
    wire["sent"] = flipping(2, 2, 1)
    lost = qgenx.map_workers(lambda *arguments: step(*arguments), AXIS, mesh=mesh)
    still, after = lost(moved, state, vs)
    copies = [np.asarray(shard.data) for shard in still.addressable_shards]
    for copy in copies:
        np.testing.assert_array_equal(copy, np.asarray(moved))
    assert int(after.total_notfinite) == 1


def test_copies_and_shards_of_a_model_are_lost_alike(wire):
    """A bit on one device of four: copies over "model" stay copies."""
    devices = jax.devices()[:4]
    mesh = jax.make_mesh((2, 2), (AXIS, "model"), (AxisType.Auto,) * 2, devices=devices)
    exchange = exchange_of(FAMILIES["uniform"], "all_gather")

    def change(arrived):
        here = (lax.axis_index(AXIS) == 1) & (lax.axis_index("model") == 0)
        return arrived.at[0, 2].set(jnp.where(here, arrived[0, 2] ^ 4, arrived[0, 2]))

    def worker(tree):
        tree = qgenx.local_params(tree, AXIS)
        return exchange.mean(tree, exchange.init())[0]

    tree = {"copy": jnp.ones(20), "cut": jnp.arange(40.0)}
    specs = {"copy": P(), "cut": P("model")}
    for tracked in (True, False):
        wire["gather"] = change if not tracked else None
        mapped = jax.shard_map(
            worker, mesh=mesh, in_specs=(specs,), out_specs=specs, check_vma=tracked
        )
        mean = jax.jit(mapped)(tree)
        for leaf in jax.tree.leaves(mean):
            for shard in leaf.addressable_shards:
                assert np.isnan(shard.data).all() == (not tracked), shard


@pytest.mark.parametrize(
    ("collective", "quantizer", "axis"),
    [
        ("once", None, AXIS),
        ("auto", None, AXIS),
        ("exact", None, AXIS),
        ("hierarchical", FAMILIES["uniform"], ("host", "chip")),
    ],
)
def test_sums_that_are_made_on_the_way_are_refused(collective, quantizer, axis):
    with pytest.raises(ValueError, match="checksum must be False where sums are made"):
        qgenx.exchange(axis, quantizer, collective=collective, checksum=True)


def test_what_is_no_truth_value_is_refused():
    with pytest.raises(ValueError, match="checksum must be of type bool, got int"):
        qgenx.exchange(AXIS, FAMILIES["uniform"], checksum=1)  # type: ignore[arg-type]
    ready = exchange_of(FAMILIES["uniform"], "all_gather")
    with pytest.raises(ValueError, match="checksum must be left out with an exchange"):
        qgenx.quantized_mean(ready, checksum=True)


@pytest.mark.parametrize("axis", [None, AXIS])
def test_one_worker(axis):
    exchange = qgenx.exchange(axis, FAMILIES["uniform"], checksum=True)
    v = jnp.asarray(vectors(1, 9))
    worker = lambda v: exchange.mean(v, exchange.init())[0]  # noqa: E731
    mean = worker(v[0]) if axis is None else jax.vmap(worker, axis_name=axis)(v)
    assert jnp.isfinite(mean).all()
    assert exchange.traffic(v[0], 1).sent_bytes == 0


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 130])
def test_sealed_messages_open_as_they_were(size):
    rows = np.random.default_rng(size).integers(0, 256, (WORKERS, size), np.uint8)

    def worker(row):
        return checksum.opened(collectives.gather(checksum.sealed(row, AXIS), AXIS))

    opened, fits = jax.vmap(worker, axis_name=AXIS)(rows)
    assert fits.all()
    np.testing.assert_array_equal(opened[0], rows)
