"""What an exchange promises, for quantizers whose bits the receivers draw again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.exchanges import (
    assert_alike_over_hosts,
    assert_moves_its_traffic,
    assert_same_bits_optimized,
    in_each_mapping,
    is_small,
)
from tests.lib.helpers import AXIS, assert_trees_identical, vectors

plainly = pytest.mark.plainly
BITS = qgenx.dithered(3, bend=0.8, bucket_size=32)


CASES = {
    "all_gather": {"quantizer": BITS},
    "reduce_scatter": {"quantizer": BITS, "collective": "reduce_scatter"},
    "independent": {"quantizer": BITS, "rounding": "independent"},
    "fitted, narrow": {"quantizer": qgenx.best(2), "collective": "reduce_scatter"},
    "second alone": {
        "quantizer": qgenx.uniform(8, bucket_size=32),
        "second": BITS,
        "collective": "reduce_scatter",
        "rounding": "independent",
    },
}


@plainly
@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("all_gather", 4),
        ("reduce_scatter", 3),
        ("independent", 3),
        ("fitted, narrow", 4),
        ("second alone", 3),
    ],
)
def test_bits_are_identical_in_shard_map_pmap_and_vmap(name, workers):
    settings = {"collective": "all_gather", **CASES[name]}
    exchange = qgenx.exchange(AXIS, exact=is_small, key=7, **settings)
    mean, own = in_each_mapping(exchange, jnp.asarray(vectors(workers, 207)))
    if settings["collective"] == "all_gather":
        for key, leaf in mean.items():
            np.testing.assert_allclose(leaf, own[key].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("bits", "bend"), [(2, 2.1), (3, 5.0)])
def test_bits_do_not_hang_on_what_a_compiler_knows(bits, bend):
    """Of the bend, a constant or an input; outside jit, and inside, optimized."""
    quantizer = qgenx.dithered(bits, bend=bend, bucket_size=256)
    flats = jnp.asarray(vectors(3, 1100))
    levels = jnp.asarray(quantizer.levels, jnp.float32)
    payload = quantizer.encode(0, flats[0])
    values = quantizer.decode(payload, key=0)
    given = jax.jit(lambda x, table: quantizer.encode(0, x, table))(flats[0], levels)
    np.testing.assert_array_equal(given.data, payload.data)
    for decoded in (
        jax.jit(lambda x: quantizer.decode(x, key=0))(payload),
        jax.jit(lambda x, table: quantizer.decode(x, table, key=0))(given, levels),
    ):
        np.testing.assert_array_equal(decoded, values)
    exchange = qgenx.exchange(AXIS, quantizer)
    state = exchange.init()
    known = jax.vmap(
        lambda x: exchange.mean(x, state)[0], axis_name=AXIS, out_axes=None
    )
    late = jax.vmap(exchange.mean, in_axes=(0, None), out_axes=None, axis_name=AXIS)
    means = [jax.jit(known)(flats), jax.jit(late)(flats, state)[0], known(flats)]
    for mean in means[1:]:
        np.testing.assert_array_equal(mean, means[0])


@plainly
@pytest.mark.parametrize("rounding", ["correlated", "independent"])
def test_more_workers_than_are_unrolled(rounding):
    """Nine, whose payloads are added up in a loop, with a short bucket."""
    exchange = qgenx.exchange(AXIS, BITS, rounding=rounding)
    flats = jnp.asarray(vectors(9, 333))

    def run(flat):
        (mean, own, _), _ = exchange.send(flat, exchange.init())
        return mean, own

    mean, own = jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=(None, 0)))(flats)
    np.testing.assert_allclose(mean, own.mean(axis=0), atol=1e-6)
    expected = qgenx.bounds.mean_variance(np.asarray(flats), BITS, rounding=rounding)
    error = float(((mean - flats.mean(axis=0)) ** 2).sum())
    assert 0.6 < error / expected.sum() < 1.6


@plainly
def test_nothing_to_send():
    x = jnp.asarray(vectors(3, 40))
    labels = {"a": "a", "b": "b"}
    exchange = qgenx.exchange(AXIS, {"a": BITS, "b": qgenx.best(4)}, labels=labels)
    run = jax.vmap(
        lambda x: exchange.mean({"a": x, "b": x[:0]}, exchange.init())[0],
        axis_name=AXIS,
    )
    assert run(x)["b"].shape == (3, 0)
    empty = jnp.zeros((2, 0))
    assert BITS.decode(BITS.encode(0, empty), key=0).shape == (2, 0)


@pytest.mark.quick
def test_quantizers_are_made_inside_traced_functions_too():
    made = jax.jit(lambda x: qgenx.dithered(4, bend=0.3).encode(0, x).data)
    x = jnp.ones(40)
    outside = qgenx.dithered(4, bend=0.3)
    np.testing.assert_array_equal(made(x), outside.encode(0, x).data)
    assert jax.eval_shape(lambda x: qgenx.best(4).encode(0, x).data, x).dtype == "uint8"


def test_optimized_programs_have_the_same_bits_too():
    exchange = qgenx.exchange(AXIS, BITS, key=3)
    assert_same_bits_optimized(exchange, jnp.asarray(vectors(3, 500)))


@plainly
@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
def test_traffic_is_what_the_program_moves(collective):
    settings = {"exact": is_small, "collective": collective}
    assert_moves_its_traffic(qgenx.exchange(AXIS, BITS, **settings))


@plainly
def test_hierarchical_and_a_model_axis():
    """Means within hosts; shards and copies, each with bits of its own."""
    exchange = qgenx.exchange(("host", "chip"), BITS, collective="hierarchical")
    flats = jnp.asarray(vectors(4, 300)).reshape(2, 2, 300)
    assert_alike_over_hosts(exchange, flats, 0.3)

    names = (AXIS, "model")
    mesh = jax.make_mesh((3, 2), names, (AxisType.Auto,) * 2, devices=jax.devices()[:6])
    exchange = qgenx.exchange(AXIS, BITS)
    both = {"cut": jnp.asarray(vectors(3, 128)), "copy": jnp.asarray(vectors(3, 64, 1))}

    def shard(tree):
        tree = jax.tree.map(lambda x: x[0], tree)
        return exchange.mean(tree, exchange.init())[0]

    specs = {"cut": P(AXIS, "model"), "copy": P(AXIS)}
    out = {"cut": P("model"), "copy": P()}
    found = jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=(specs,), out_specs=out))(
        both
    )
    for name, x in both.items():
        error = np.asarray(found[name] - x.mean(axis=0))
        assert 0 < np.linalg.norm(error) < 0.5 * np.linalg.norm(x.mean(axis=0)), name
    halves = np.split(np.asarray(found["cut"] - both["cut"].mean(axis=0)), 2)
    assert not np.array_equal(*halves)


@plainly
@pytest.mark.parametrize("axis", [None, AXIS])
def test_one_worker_takes_its_own_bits_off(axis):
    exchange = qgenx.exchange(axis, BITS)
    flat = jnp.asarray(vectors(1, 320))

    def run(flat):
        return exchange.mean(flat, exchange.init())[0]

    mean = jax.jit(run if axis is None else jax.vmap(run, axis_name=axis))(
        flat[0] if axis is None else flat
    )
    error = jnp.linalg.norm(mean.ravel() - flat[0]) / jnp.linalg.norm(flat[0])
    assert 0 < error < 0.3


@plainly
def test_in_a_chain_with_weights_and_accumulation():
    """The weighted mean, and sums that are exchanged at every other update."""
    flats = jnp.asarray(vectors(3, 2048)).reshape(3, 32, 64)
    mean = qgenx.quantized_mean(AXIS, BITS)

    def weighted(flat, weight):
        state = mean.init(None)
        return mean.update({"w": flat}, state, None, weight=weight)[0]["w"]

    weights = jnp.array([1.0, 0.0, 3.0])
    found = jax.jit(jax.vmap(weighted, axis_name=AXIS, out_axes=None))(flats, weights)
    expected = jnp.tensordot(weights / 4, flats, 1)
    assert jnp.linalg.norm(found - expected) < 0.3 * jnp.linalg.norm(expected)

    optimizer = optax.chain(qgenx.quantized_mean(AXIS, BITS), optax.sgd(1.0))
    pair = qgenx.accumulate(2, optimizer)

    def run(flat):
        state = pair.init({"w": jnp.zeros((32, 64))})
        total = jnp.zeros((32, 64))
        for _ in range(2):
            updates, state = pair.update({"w": flat}, state, {"w": total})
            total += updates["w"]
        return total

    found = jax.jit(jax.vmap(run, axis_name=AXIS))(flats)
    exact = -flats.mean(axis=0)
    assert jnp.linalg.norm(found[0] - exact) < 0.3 * jnp.linalg.norm(exact)


@plainly
def test_a_restored_run_goes_on_with_the_same_bits(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint", reason="nothing to save with")
    exchange = qgenx.exchange(AXIS, qgenx.dithered(2, bucket_size=64, adapt=[0, 2]))
    step = jax.jit(
        jax.vmap(exchange.mean, in_axes=(0, None), out_axes=None, axis_name=AXIS)
    )
    flats = jnp.asarray(np.random.default_rng(0).standard_t(3, (3, 640)), jnp.float32)
    state, means = exchange.init(), []
    for i in range(4):
        if i == 1:
            with ocp.StandardCheckpointer() as saver:
                saver.save(tmp_path / "state", state)
        mean, state = step(flats * (i + 1), state)
        means.append(mean)
    assert state.levels["all"] != 1.0, "nothing was fitted"
    with ocp.StandardCheckpointer() as saver:
        again = saver.restore(tmp_path / "state", exchange.init())
    for i in range(1, 4):
        mean, again = step(flats * (i + 1), again)
        np.testing.assert_array_equal(mean, means[i])
    assert_trees_identical(again, state, "the state at the end")


@pytest.mark.quick
def test_what_cannot_be_says_so():
    wide = qgenx.exchange(None, qgenx.best(4))
    with jax.enable_x64(True), pytest.raises(ValueError, match="must not be float64"):
        wide.mean(jnp.ones(300, jnp.float64), wide.init())
    with pytest.raises(ValueError, match="adapt must be left out where the bend"):
        qgenx.dithered(4, bend=1.0, adapt=10)
    with pytest.raises(ValueError, match=r"bend must be a Python or NumPy number"):
        qgenx.dithered(4, bend=9.0)
    with pytest.raises(ValueError, match="norm must be one of"):
        qgenx.Quantizer("dithered", 4, 2, 64, (1.0,))
    with pytest.raises(ValueError, match="levels must be a tuple of 1 to 1"):
        qgenx.Quantizer("dithered", 4, np.inf, 64, (0.5, 1.0))
    by_hand = qgenx.Quantizer("dithered", 4, np.inf, 64, (0.1,))
    assert by_hand == qgenx.dithered(4, bend=0.1, bucket_size=64), "12 bits"
    with pytest.raises(ValueError, match=r"levels must be a Python or NumPy number"):
        qgenx.Quantizer("dithered", 4, np.inf, 64, (9.0,))
    with pytest.raises(ValueError, match=r"second must have levels .* dithered with a"):
        qgenx.exchange(AXIS, BITS, collective="reduce_scatter", second=qgenx.best(4))
    exchange = qgenx.exchange(None, BITS)
    other = exchange.init()._replace(levels={"all": jnp.ones(3)})
    with pytest.raises(ValueError, match="levels"):
        exchange.mean(jnp.ones(64), other)
