"""Copies that are made to differ are found, and where; equal ones are left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax._workers import replicas
from tests.lib.helpers import AXIS, mesh_of
from tests.lib.hlo import collectives

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]
REPLICATED = P()


def mesh_2d():
    auto = (AxisType.Auto,) * 2
    return jax.make_mesh((2, 2), (AXIS, "model"), auto, devices=jax.devices()[:4])


def drifted(x, at, mesh, spec=REPLICATED) -> jax.Array:
    """An array that says it is replicated over "data", with another bit at a device."""

    def worker(x):
        here = sum(jax.lax.axis_index(n) * s for n, s in ((AXIS, 2), ("model", 1)))
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        first = jnp.arange(x.size).reshape(x.shape) == 0
        return jax.lax.bitcast_convert_type(
            jnp.where((here == at) & first, bits ^ 1, bits), x.dtype
        )

    mapped = jax.shard_map(
        worker, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    return jax.jit(mapped)(x)


@pytest.mark.parametrize("spec", [P(), P("model"), P(None, "model")])
def test_a_bit_on_one_device_is_found_with_the_path(spec):
    mesh = mesh_2d()
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    equal = {"a": jax.device_put(x, NamedSharding(mesh, spec)), "b": [x, 3, None]}
    assert qgenx.check_replicas(equal) is True
    tree = {**equal, "b": [x, drifted(equal["a"], 3, mesh, spec)]}
    with pytest.raises(ValueError, match=r"leaf \['b'\]\[1\] of tree must be") as error:
        qgenx.check_replicas(tree)
    # who holds the same: 3 alone, against all others that hold this shard
    others = {P(): "0.*1.*2"}.get(spec, "1")
    odd = r"; the odd one is \D*3" if spec == P() else ""
    assert error.match(rf"2 different ones, on \D*{others} \| \D*3{odd}: ")
    assert isinstance(error.value, qgenx.ExchangeError), "and a ValueError, as before"


def test_what_is_no_copy_may_differ():
    mesh = mesh_of(4)
    rows = jax.device_put(np.arange(8.0).reshape(4, 2), NamedSharding(mesh, P(AXIS)))
    key = jax.device_put(jax.random.key(3), NamedSharding(mesh, P()))
    tree = {"per_worker": rows, "key": key, "host": np.ones(3), "n": 3, "none": None}
    assert qgenx.check_replicas(tree) is True
    assert qgenx.check_replicas({}) is True


def agreement(tree, *, mesh=None, specs=REPLICATED, axis_name=AXIS):
    """What the check says inside of a mapped function, everywhere."""

    def worker(tree):
        return qgenx.check_replicas(tree, axis_name).reshape(1, 1)

    mesh = mesh_2d() if mesh is None else mesh
    mapped = jax.shard_map(
        worker,
        mesh=mesh,
        in_specs=(specs,),
        out_specs=P(AXIS, "model"),
        check_vma=False,
    )
    return np.asarray(jax.jit(mapped)(tree))


def test_inside_all_workers_hear_of_a_bit_on_one():
    x = jnp.ones((4, 6))
    assert agreement({"x": x, "y": x}).all()
    # the devices along "model" are asked apart, unless both axes are named
    tree = {"x": x, "y": drifted(x, 3, mesh_2d())}
    assert agreement(tree).tolist() == [[True, False], [True, False]]
    assert not agreement(tree, axis_name=(AXIS, "model")).any()
    assert agreement({"per_worker": tree["y"]}).all()


@pytest.mark.parametrize("values", [(1.0, 1.0, 1.0), (1.0, 1.0, 1.5), (0.0, -0.0, 0.0)])
def test_where_jax_tracks_what_varies_and_under_vmap(values):
    x = jnp.asarray(values)
    expected = len({np.float32(v).tobytes() for v in values}) == 1

    def worker(x):
        return qgenx.check_replicas({"x": x}, AXIS)

    mapped = jax.shard_map(
        lambda x: worker(x[0]), mesh=mesh_of(3), in_specs=P(AXIS), out_specs=P()
    )
    assert bool(jax.jit(mapped)(x)) is expected
    assert jax.vmap(worker, axis_name=AXIS)(x).tolist() == [expected] * 3


def test_tracked_shards_of_a_model_get_one_answer():
    def worker(x, whole):
        return qgenx.check_replicas({"x": x[0], "whole": whole}, AXIS)

    mapped = jax.shard_map(
        worker, mesh=mesh_2d(), in_specs=(P(AXIS, "model"), P()), out_specs=P()
    )
    x = np.zeros((2, 4), np.float32)
    assert bool(jax.jit(mapped)(x, np.ones(3)))
    x[1, 3] = 1  # in one shard
    assert not bool(jax.jit(mapped)(x, np.ones(3)))


def drift_by_vmap(copies):
    """Of two leaves, the second with a copy from each worker; and one of its own."""

    def worker(x):
        tree = {"a": jnp.ones(3), "per_worker": x, "z": {"x": x}}
        return qgenx.check_replicas(tree, AXIS, where=True)

    return jax.vmap(worker, axis_name=AXIS, out_axes=None)(jnp.asarray(copies))


@pytest.mark.parametrize(
    ("copies", "worker"),
    [
        ([1.0, 1.0, 1.5], 2),
        ([2.0, 1.0, 1.0], 0),
        ([1.0, 1.5, 1.0, 1.0, 1.0], 1),
        ([1.0, 3.0, 2.0, 1.0, 1.0], 1),  # the first of two
        ([1.0, 2.0], -1),
        ([1.0, 2.0, 3.0], -1),
        ([1.0, 1.0, 2.0, 2.0], -1),
    ],
)
def test_the_leaf_and_the_odd_worker_are_values(copies, worker):
    found = drift_by_vmap(copies)
    assert (int(found.leaf), int(found.worker)) == (2, worker)
    assert not bool(found.agrees)
    tree = {"a": 0, "per_worker": 0, "z": {"x": 0}}
    odd = f"different ones; the odd one is worker {worker}: "
    match = r"leaf \['z'\]\['x'\] of tree must be equal .* got " + (
        odd if worker >= 0 else "different ones: "
    )
    with pytest.raises(qgenx.ExchangeError, match=match) as error:
        found.raise_for(tree)
    assert isinstance(error.value, ValueError)
    assert error.value.collective == ""


@pytest.mark.parametrize("tracked", [True, False])
def test_the_odd_worker_of_a_mesh_and_nothing_where_all_agree(tracked):
    mesh = mesh_of(3)

    def worker(x):
        tree = {"x": jnp.ones(4), "y": x[0]}
        return qgenx.check_replicas(tree, AXIS, where=True)

    run = jax.jit(
        jax.shard_map(
            worker, mesh=mesh, in_specs=P(AXIS), out_specs=P(), check_vma=tracked
        )
    )
    found = run(jnp.array([[1.0], [1.0], [1.5]]))
    assert [int(x) for x in found] == [1, 2]
    found = run(jnp.ones((3, 1)))
    assert [int(x) for x in found] == [-1, -1]
    assert bool(found.agrees)
    found.raise_for({"x": 0, "y": 0})


def test_one_small_gather_for_all_leaves():
    def worker(x):
        tree = [x[0] * k for k in range(5)]
        return qgenx.check_replicas(tree, AXIS)

    mapped = jax.shard_map(worker, mesh=mesh_of(3), in_specs=P(AXIS), out_specs=P())
    text = jax.jit(mapped).lower(jnp.ones((3, 7))).compile().as_text()
    assert [(d, size) for _, d, size in collectives(text)] == [("u32", 3 * 5)]


def test_no_false_alarm_in_ten_thousand_trees():
    def one(key):
        tree = {"x": jax.random.normal(key, (37,)), "k": jax.random.bits(key, (5,))}
        look = lambda _: qgenx.check_replicas(tree, AXIS, where=True)  # noqa: E731
        return jax.vmap(look, axis_name=AXIS, out_axes=None)(jnp.arange(3))

    keys = jax.random.split(jax.random.key(0), 10_000)
    found = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=500))(keys)
    assert (np.asarray(found.leaf) == -1).all()


def test_the_first_leaf_of_any_shard_of_a_model():
    """Shard 0 has another copy of y, shard 1 of x and y: x, on all shards."""

    def worker(tree):
        tree = jax.tree.map(lambda x: x[0], tree)
        return qgenx.check_replicas(tree, AXIS, where=True)

    cut = P(AXIS, "model")
    mapped = jax.shard_map(worker, mesh=mesh_2d(), in_specs=(cut,), out_specs=P())
    x, y = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    x[1, 1], y[1, 0], y[0, 1] = 1, 1, 1
    found = jax.jit(mapped)({"w": np.zeros((2, 2)), "x": x, "y": y})
    assert [int(each) for each in found] == [1, -1]


def bits_changed(x, index, bit):
    raw = np.array(x).view(np.uint8).copy()
    raw.reshape(-1)[index] ^= 1 << bit
    return raw.view(np.asarray(x).dtype).reshape(np.shape(x))


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "int8", "uint16", "int32", "complex64"]
)
def test_every_bit_counts(dtype):
    x = np.asarray(jnp.arange(1, 8).astype(dtype))
    fingerprint = jax.jit(replicas.fingerprint)
    seen = {int(fingerprint(x))}
    for index in range(x.nbytes):
        for bit in range(8):
            seen.add(int(fingerprint(bits_changed(x, index, bit))))
    assert len(seen) == 1 + 8 * x.nbytes


def test_places_and_lengths_count():
    different = [[0.0], [0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0, 0.0], []]
    found = [int(replicas.fingerprint(np.float32(x))) for x in different]
    assert len(set(found)) == len(different)
    flags = [int(replicas.fingerprint(np.array(x))) for x in ([True], [False])]
    nibbles = [int(replicas.fingerprint(jnp.asarray(x, jnp.int4))) for x in ([1], [-1])]
    keys = [int(replicas.fingerprint(jax.random.key(x))) for x in range(2)]
    assert all(a != b for a, b in (flags, nibbles, keys))


def test_it_says_where_it_belongs():
    with pytest.raises(ValueError, match="axis_name must be given inside a compiled"):
        jax.jit(qgenx.check_replicas)(jnp.ones(3))
    with pytest.raises(ValueError, match="axis_name must be the name of an axis"):
        qgenx.check_replicas(jnp.ones(3), AXIS)
    with pytest.raises(ValueError, match="where must be left out without an axis_name"):
        qgenx.check_replicas(jnp.ones(3), where=True)


@pytest.mark.quick
def test_a_drift_is_told_of_the_tree_that_was_checked():
    drift = qgenx.Drift(jnp.int32(2), jnp.int32(1))
    with pytest.raises(ValueError, match=r"that was checked, .* one of 1 leaves"):
        drift.raise_for({"x": jnp.zeros(3)})
    with pytest.raises(qgenx.ExchangeError, match=r"\['c'\].*the odd one is worker 1"):
        drift.raise_for({"a": 0, "b": 1, "c": 2})
