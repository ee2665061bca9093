"""Leaves that NamedShardings cut over an axis left to jit: each shard where it lies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical
from tests.lib.hlo import collectives

pytestmark = pytest.mark.plainly

WORKERS, MODEL = 2, 2
SPECS = {"bias": P(), "down": P("model", None), "up": P(None, "model")}
SHAPES = {"bias": (40,), "down": (48, 32), "up": (32, 48)}
SIZE = sum(np.prod(shape) for shape in SHAPES.values())
BY_JIT, BY_HAND = {AXIS}, {AXIS, "model"}
WAYS = [(8, "all_gather"), (8, "reduce_scatter"), (None, "exact")]


def mesh(kind=AxisType.Auto):
    return jax.make_mesh(
        (WORKERS, MODEL), (AXIS, "model"), (kind, kind), devices=jax.devices()[:4]
    )


@functools.cache
def trees():
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=(WORKERS, *shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def exchange_of(bits, collective, specs=SPECS):
    quantizer = None if bits is None else qgenx.uniform(bits, bucket_size=64)
    return qgenx.exchange(AXIS, quantizer, collective=collective, specs=specs)


def program(exchange, axis_names, scalar=None, kind=AxisType.Auto):
    """An exchange of rows that lie over both axes, and its placed argument."""

    def worker(tree):
        own = jax.tree.map(lambda x: x[0], tree)
        (mean, own, numbers), state = exchange.send(own, exchange.init(), scalar=scalar)
        return mean, jax.tree.map(lambda x: x[None], own), numbers, state

    rows = {name: P(AXIS, *spec) for name, spec in SPECS.items()}
    by_hand = axis_names == BY_HAND
    mapped = jax.shard_map(
        worker,
        mesh=mesh(kind),
        in_specs=(rows if by_hand else P(AXIS),),
        out_specs=(SPECS, rows, P(), P()) if by_hand else (P(), P(AXIS), P(), P()),
        axis_names=axis_names,
    )
    placed = {
        name: jax.device_put(x, NamedSharding(mesh(kind), rows[name]))
        for name, x in trees().items()
    }
    return jax.jit(mapped), placed


def test_levels_are_fitted_to_shards_and_are_alike_on_all():
    """By jit and by hand the same bits, and those of the shards' vectors together.

    Leaves that are cut have a vector on each device, copies one on each worker, which
    counts once.
    """
    quantizer = qgenx.adaptive(3, bucket_size=64)
    exchange = qgenx.exchange(AXIS, quantizer, specs=SPECS)

    def scalar(own):
        return jnp.sum(own["up"] ** 2)

    run, placed = program(exchange, BY_JIT, scalar)
    by_hand, _ = program(exchange, BY_HAND)
    _, own, numbers, state = run(placed)
    _, expected, _, known = by_hand(placed)
    assert_trees_identical((own, state), (expected, known), "by jit against by hand")
    np.testing.assert_allclose(numbers, jnp.sum(own["up"] ** 2, axis=(1, 2)), rtol=1e-5)
    shards = []
    for worker in range(WORKERS):
        tree = {name: x[worker] for name, x in trees().items()}
        shards.append(tree["bias"])
        for down, up in zip(
            np.split(tree["down"], MODEL), np.split(tree["up"], MODEL, 1), strict=True
        ):
            shards.append(np.concatenate([down.ravel(), up.ravel()]))
    by_host = qgenx.fit_levels(
        shards, 3, bucket_size=64, norm=np.inf, zero=False, method="newton"
    )
    np.testing.assert_allclose(state.levels["all"], by_host, rtol=2e-3)


@pytest.mark.parametrize(("bits", "collective"), WAYS)
def test_the_bits_are_those_of_shards_by_hand_and_nothing_wide_moves(bits, collective):
    exchange = exchange_of(bits, collective)
    run, placed = program(exchange, BY_JIT)
    by_hand, _ = program(exchange, BY_HAND)  # where there is nothing left to map over
    found = run(placed)
    assert_trees_identical(found, by_hand(placed), "by jit against by hand")
    for name, x in found[0].items():
        np.testing.assert_allclose(x, trees()[name].mean(0), atol=0.1 if bits else 1e-6)
        placing = NamedSharding(mesh(), SPECS[name])
        assert x.sharding.is_equivalent_to(placing, x.ndim), name
    moved = collectives(run.lower(placed).compile().as_text())
    if bits is None:
        assert {op for op, _, _ in moved} == {"all-reduce"}
        assert sum(n for *_, n in moved) == SIZE - (48 * 32)  # half of two leaves
    else:
        assert {dtype for _, dtype, _ in moved} == {"u8"}
        traffic = exchange.traffic(
            jax.tree.map(lambda x, s: shape_of(x[0], s), trees(), SPECS), WORKERS
        )
        assert len(traffic.phases) == 2 * (1 if collective == "all_gather" else 2)
        gathered = sum(n for op, _, n in moved if op == "all-gather")
        phases = [x for x in traffic.phases if x.collective == "all_gather"]
        assert gathered == WORKERS * sum(x.payload_bytes for x in phases)


def by_size():
    """A limit that leaves are above, and their shards below."""
    each = {"small": qgenx.uniform(8, bucket_size=64)}
    each["large"] = qgenx.uniform(2, bucket_size=64)
    return qgenx.exchange(AXIS, each, labels=qgenx.by_size(1000), specs=SPECS)


def planned():
    tree = {name: scale * trees()[name][0] for name, scale in SCALES.items()}
    each = [qgenx.uniform(bits, bucket_size=64) for bits in (2, 4, 8)]
    plan = qgenx.plan_bits(tree, bits_per_coordinate=4, candidates=each)
    assert len(set(plan.leaves.values())) == 3, "a plan that tells no leaves apart"
    return plan.exchange(AXIS, specs=SPECS)


SCALES = {"bias": 100.0, "down": 8.0, "up": 1.0}


@pytest.mark.parametrize("make", [by_size, planned])
def test_labels_are_those_of_whole_leaves_and_bytes_those_of_traffic(make):
    exchange = make()
    run, placed = program(exchange, BY_JIT, lambda own: jnp.sum(own["up"]))
    shapes = jax.tree.map(lambda x, s: shape_of(x[0], s), trees(), SPECS)
    known = exchange.labels(shapes)
    assert known["bias"] not in (known["down"], known["up"])
    # by hand there are shards alone, so that labels have to be spelled out
    spelled = qgenx.exchange(AXIS, exchange.quantizers, labels=known, specs=SPECS)
    by_hand, _ = program(spelled, BY_HAND)
    found, expected = run(placed), by_hand(placed)
    assert_trees_identical(found[:2], expected[:2], "by jit against by hand")
    for name, x in found[1].items():
        bits = exchange.quantizers[known[name]].bits
        step = np.abs(trees()[name]).max() / (2 ** (bits - 1) - 1)
        assert np.abs(x.reshape(trees()[name].shape) - trees()[name]).max() <= step
    traffic = exchange.traffic(shapes, WORKERS, scalar_bytes=4)
    moved = collectives(run.lower(placed).compile().as_text())
    gathered = sum(n for op, dtype, n in moved if (op, dtype) == ("all-gather", "u8"))
    assert gathered == WORKERS * traffic.payload_bytes
    sent = {}
    for phase in traffic.phases:
        for label, n in phase.sent_by_group.items():
            sent[label] = sent.get(label, 0) + n
    for label, quantizer in exchange.quantizers.items():
        mine = [n for n in SHAPES if known[n] == label]
        shards = [np.prod(SHAPES[n]) // (1 if n == "bias" else MODEL) for n in mine]
        assert sent[label] == quantizer.n_bytes(sum(shards)), label


def shape_of(x, spec):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh(), spec))


def test_without_specs_leaves_are_put_together_in_full_precision():
    """What the documents warn of; numbers are right."""
    exchange = exchange_of(8, "all_gather", specs=None)
    run, placed = program(exchange, BY_JIT)
    mean, *_ = run(placed)
    for name, x in mean.items():
        np.testing.assert_allclose(x, trees()[name].mean(0), atol=0.1)
    moved = collectives(run.lower(placed).compile().as_text())
    assert sum(4 * n for _, dtype, n in moved if dtype == "f32") > 4 * 48 * 32, moved


def test_two_leaves_of_64_kib_move_what_the_documents_say():
    shapes = {"down": (256, 64), "up": (64, 256)}
    specs = {name: SPECS[name] for name in shapes}
    rows = {
        name: jax.device_put(
            np.zeros((WORKERS, *shape), np.float32),
            NamedSharding(mesh(), P(AXIS, *specs[name])),
        )
        for name, shape in shapes.items()
    }

    def kib(specs):
        exchange = qgenx.exchange(AXIS, qgenx.uniform(8), specs=specs)

        def worker(tree):
            own = jax.tree.map(lambda x: x[0], tree)
            return exchange.mean(own, exchange.init())[0]

        mapped = jax.shard_map(
            worker, mesh=mesh(), in_specs=P(AXIS), out_specs=P(), axis_names=BY_JIT
        )
        found = {"f32": 0.0, "u8": 0.0}
        text = jax.jit(mapped).lower(rows).compile().as_text()
        for _, dtype, n in collectives(text):
            found[dtype] += n * {"f32": 4, "u8": 1}[dtype] / 1024
        return found

    without, within = kib(None), kib(specs)
    assert without["f32"] > 128
    assert without["u8"] == pytest.approx(96, rel=0.01)
    assert within == {"f32": 0, "u8": pytest.approx(32, rel=0.01)}


def test_numbers_are_of_the_whole_vector():
    def squares(own):
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(own))

    run, placed = program(exchange_of(8, "all_gather"), BY_JIT, squares)
    _, own, numbers, _ = run(placed)
    own = jax.tree.map(lambda x: np.float64(x).reshape(WORKERS, -1), own)
    expected = sum((x**2).sum(-1) for x in jax.tree.leaves(own))
    np.testing.assert_allclose(numbers, expected, rtol=1e-6)
    moved = collectives(run.lower(placed).compile().as_text())
    assert all(n <= 2 for _, dtype, n in moved if dtype == "f32"), moved


def on_one_device(exchange):
    def run(tree):
        mean, state = exchange.mean(tree, exchange.init())
        return mean, exchange.quantize(tree, exchange.init()), state

    return jax.vmap(run, axis_name=AXIS)(trees())


def test_on_one_device_there_is_nothing_to_map_over():
    plain, copies = (
        exchange_of(4, "all_gather", None),
        exchange_of(4, "all_gather", P()),
    )
    assert_trees_identical(on_one_device(copies), on_one_device(plain), "all copies")
    mean, own, _ = on_one_device(exchange_of(8, "all_gather"))
    for name, x in mean.items():
        np.testing.assert_allclose(x[0], own[name].mean(0), atol=1e-6)
        np.testing.assert_allclose(own[name], trees()[name], atol=0.1)


def untracked(exchange, axis_names):
    rows = {name: P(AXIS, *spec) for name, spec in SPECS.items()}
    by_hand = axis_names == BY_HAND

    def worker(tree):
        own = jax.tree.map(lambda x: x[0], tree)
        return exchange.send(own, exchange.init())[0][0]

    mapped = jax.shard_map(
        worker,
        mesh=mesh(),
        in_specs=(rows if by_hand else P(AXIS),),
        out_specs=SPECS if by_hand else P(),
        axis_names=axis_names,
        check_vma=False,
    )
    _, placed = program(exchange, BY_JIT)
    return jax.jit(mapped)(placed)


@pytest.mark.parametrize("axis_names", [BY_JIT, BY_HAND], ids=["by jit", "by hand"])
def test_copies_stay_copies_where_jax_does_not_track_what_varies(axis_names):
    """With check_vma=False specs say what JAX does not."""
    mean = untracked(exchange_of(4, "all_gather"), axis_names)
    for name, x in mean.items():
        np.testing.assert_allclose(x, trees()[name].mean(0), atol=1.0)
    assert qgenx.check_replicas(mean)


def test_untracked_copies_drift_without_specs():
    with pytest.raises(ValueError, match=r"leaf \['bias'\] of tree must be equal"):
        qgenx.check_replicas(untracked(exchange_of(4, "all_gather", None), BY_HAND))


@pytest.mark.parametrize(
    ("variant", "axis_names"),
    [("dual_extrapolation", BY_JIT), ("optimistic", BY_JIT), ("optimistic", BY_HAND)],
    ids=["dual_extrapolation", "optimistic", "optimistic, by hand, untracked"],
)
def test_q_genx_steps_as_on_one_device(variant, axis_names):
    """The adaptive step size, too, which counts the whole vector."""
    exchange = exchange_of(None, "exact")
    start = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}

    def step_of(pair):
        def step(params, state, target):
            vector = jax.tree.map(
                lambda p, t: p - t, qgenx.local_params(params, AXIS), target
            )
            delta, state = pair.update(vector, state, params)
            return jax.tree.map(jnp.add, params, delta), state

        return step

    pair = qgenx.alternating(qgenx.q_genx(exchange, variant=variant, gamma0=0.01))
    placed = {
        name: jax.device_put(x, NamedSharding(mesh(), SPECS[name]))
        for name, x in start.items()
    }
    state = qgenx.init(pair, placed, mesh(), AXIS)
    by_hand = axis_names == BY_HAND
    specs = qgenx.state_specs(state, AXIS, placed if by_hand else None)
    both = (SPECS if by_hand else P(), specs)
    rows = {name: P(AXIS, *spec) for name, spec in SPECS.items()}
    step = step_of(pair)
    mapped = jax.jit(
        jax.shard_map(
            lambda p, s, t: step(p, s, jax.tree.map(lambda x: x[0], t)),
            mesh=mesh(),
            in_specs=(*both, rows if by_hand else P(AXIS)),
            out_specs=both,
            axis_names=axis_names,
            check_vma=not by_hand,
        )
    )
    plain = qgenx.map_workers(step, AXIS, workers=WORKERS)
    found, expected = (placed, state), (start, qgenx.init(pair, start, workers=WORKERS))
    for _ in range(3):
        found, expected = mapped(*found, trees()), plain(*expected, trees())
        jax.block_until_ready(found)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_hierarchical_moves_shards_within_a_host_too():
    workers = ("host", "chip")
    auto = (AxisType.Auto,) * 3
    mesh = jax.make_mesh((2, 2, MODEL), (*workers, "model"), auto)
    quantizer = qgenx.uniform(8, bucket_size=64)
    way = {"collective": "hierarchical", "specs": SPECS}
    exchange = qgenx.exchange(workers, quantizer, **way)
    trees_of_4 = {name: np.concatenate([x, 2 * x]) for name, x in trees().items()}

    def worker(tree):
        own = jax.tree.map(lambda x: x[0], tree)
        (mean, own, _), _ = exchange.send(own, exchange.init())
        assert own is None
        return mean

    mapped = jax.shard_map(
        worker,
        mesh=mesh,
        in_specs=(P(workers),),
        out_specs=P(),
        axis_names=set(workers),
    )
    placed = {
        name: jax.device_put(x, NamedSharding(mesh, P(workers, *SPECS[name])))
        for name, x in trees_of_4.items()
    }
    run = jax.jit(mapped)
    for name, x in run(placed).items():
        np.testing.assert_allclose(x, trees_of_4[name].mean(0), atol=0.1)
    moved = collectives(run.lower(placed).compile().as_text())
    # two halves of leaves, once for each direction within a host
    wide = [n for op, dtype, n in moved if dtype == "f32" and op == "all-gather"]
    assert sorted(wide) == [40, 2 * 32 * 48 // MODEL], moved


@pytest.mark.quick
def test_specs_that_are_none_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="specs must be a tree of PartitionSpecs, or"):
        exchange_of(8, "all_gather", {"bias": None, "up": "model"})
    with pytest.raises(ValueError, match="specs must be a tree of PartitionSpecs, or"):
        exchange_of(8, "all_gather", ("model",))
    exchange = exchange_of(8, "all_gather", {"up": P()})
    with pytest.raises(ValueError, match="specs must be a prefix of the tree"):
        jax.vmap(lambda x: exchange.mean(x, exchange.init()), axis_name=AXIS)(trees())


def test_explicit_axes_want_specs_and_get_the_same_bits():
    exchange = exchange_of(8, "all_gather")
    run, placed = program(exchange, BY_JIT)
    expected = run(placed)
    with jax.set_mesh(mesh(AxisType.Explicit)):
        run, placed = program(exchange, BY_JIT, kind=AxisType.Explicit)
        assert_trees_identical(run(placed), expected, "Explicit against Auto")
        plain = exchange_of(8, "all_gather", None)
        run, placed = program(plain, BY_JIT, kind=AxisType.Explicit)
        with pytest.raises(ValueError, match=r"\['down'\] of .* type Explicit.*specs="):
            run(placed)
