"""Levels fitted inside the step: when, to what, alike on all workers, at what cost."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization

import qgenx_jax as qgenx
from tests.lib.exchanges import two_phases
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, within_5_sigma
from tests.lib.hlo import COLLECTIVE

plainly = pytest.mark.plainly
WORKERS = 3
SIZE = 3000


def heavy(workers=WORKERS, size=SIZE, seed=0):
    """Vectors of heavy tails, whose best levels are far from equal steps."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_t(3, size=(workers, size)), jnp.float32)


def running(exchange, workers=WORKERS):
    """(vectors, state) to (mean, state), by vmap under jit."""

    def worker(vector, state):
        return exchange.mean(vector, state)

    mapped = jax.vmap(worker, axis_name=AXIS, in_axes=(0, None), out_axes=None)
    return jax.jit(mapped)


@functools.cache
def three_bits(adapt=None):
    """An exchange of fitted levels and its program, which tests share."""
    given = [adapt[0]] if isinstance(adapt, tuple) and len(adapt) == 1 else adapt
    exchange = qgenx.exchange(AXIS, qgenx.adaptive(3, adapt=given))
    return exchange, running(exchange)


def run(exchange, step, steps):
    """The states after each of some exchanges."""
    state, states = exchange.init(), []
    for i in range(steps):
        _, state = step(heavy(seed=i), state)
        states.append(state)
    return states


@plainly
@pytest.mark.parametrize(
    ("adapt", "refreshed"),
    [
        pytest.param((2, 4), {2, 4}, marks=pytest.mark.quick),
        (2, {0, 2, 4}),
        ((0,), {0}),
        (100, {0}),
        (None, {0}),
    ],
)
def test_levels_change_at_the_exchanges_that_are_named_and_at_no_other(
    adapt, refreshed
):
    """And by one program, whether levels are fitted or not."""
    exchange, step = three_bits(adapt)
    before = exchange.init()
    for i, state in enumerate(run(exchange, step, 6)):
        same = np.array_equal(state.levels["all"], before.levels["all"])
        assert same == (i not in refreshed), f"exchange {i}"
        assert int(state.adaptation.count) == i + 1
        learned = float(state.adaptation.predicted["all"])
        assert (learned > 0) == any(i >= j for j in refreshed)
        before = state
    assert step._cache_size() == 1, "fitting is another program"


@plainly
@pytest.mark.parametrize(
    ("shape", "law"),
    [
        ({"zero": False}, "histogram"),
        ({"zero": False}, "normal"),
        ({"zero": True}, "normal"),
        ({"signed": True}, "histogram"),
        ({"norm": "range"}, "histogram"),
    ],
    ids=str,
)
def test_levels_are_those_of_all_workers_vectors_together(shape, law):
    """As `fit_levels` finds them by hand for the same buckets."""
    kept = {"bucket_size": 1000, "norm": np.inf, "law": law, "bits": 3, **shape}
    exchange = qgenx.exchange(AXIS, qgenx.adaptive(**kept))
    (state,) = run(exchange, running(exchange), 1)
    by_hand = qgenx.fit_levels(list(heavy()), **kept)
    np.testing.assert_allclose(state.levels["all"], by_hand, rtol=2e-3)


@plainly
def test_predicted_error_is_the_one_that_rounding_has():
    """Of 100 keys, the mean error within 5 sigma, and 1 % for the histogram's bins."""
    exchange = qgenx.exchange(AXIS, qgenx.adaptive(3, bucket_size=256))
    (state,) = run(exchange, running(exchange), 1)
    vectors, levels = heavy(), state.levels["all"]
    quantizer = exchange.quantizers["all"]

    def error(key):
        def one(key, vector):
            found = quantizer.decode(quantizer.encode(key, vector, levels), levels)
            return jnp.sum((found - vector) ** 2)

        return jnp.sum(jax.vmap(one)(jax.random.split(key, WORKERS), vectors))

    errors = jax.jit(jax.vmap(error))(jax.random.split(jax.random.key(5), 100))
    errors = np.asarray(errors, np.float64) / float(jnp.sum(vectors**2))
    predicted = float(state.adaptation.predicted["all"])
    standard_error = errors.std(ddof=1) / 10 + 0.01 * predicted / 5
    within_5_sigma(errors.mean(), predicted, standard_error, "predicted error")
    equal = qgenx.bounds.exact_variance(
        vectors[0], qgenx.adaptive(3, bucket_size=256)
    ).sum() / np.sum(np.square(vectors[0]))
    assert predicted < 0.5 * equal, "no better than equal steps"


def on_a_mesh(exchange, vectors):
    """(mean, levels, predicted) of every device, with an axis over them."""

    def worker(vector, state):
        mean, state = exchange.mean(vector[0], state)
        each = mean, state.levels, state.adaptation.predicted
        return jax.tree.map(lambda x: x[None], each)

    spec = jax.P(AXIS)
    mesh = mesh_of(len(vectors))
    mapped = jax.shard_map(
        worker, mesh=mesh, in_specs=(spec, jax.P()), out_specs=spec, check_vma=False
    )
    return jax.jit(mapped)(vectors, exchange.init())


def test_all_workers_find_the_same_levels_on_a_mesh_and_by_vmap():
    """To the bit on a mesh; by vmap within two units of the codec's 12 bits.

    Another mapping may sum in another order, which may round a level the other way.
    """
    exchange = qgenx.exchange(AXIS, qgenx.adaptive(4))
    vectors = heavy()
    found = on_a_mesh(exchange, vectors)
    first = jax.tree.map(lambda x: x[0], found)
    for worker in range(WORKERS):
        mine = jax.tree.map(lambda x, k=worker: x[k], found)
        assert_trees_identical(mine, first, f"worker {worker}")
    _, state = running(exchange)(vectors, exchange.init())
    _, levels, predicted = first
    np.testing.assert_allclose(
        levels["all"], state.levels["all"], rtol=0, atol=2 * 2.0**-12
    )
    known = state.adaptation.predicted["all"]
    np.testing.assert_allclose(predicted["all"], known, rtol=1e-3)


@plainly
def test_what_teaches_nothing_changes_nothing():
    exchange, step = three_bits(1)
    _, learned = step(heavy(), exchange.init())
    zeros = jnp.zeros((WORKERS, SIZE))
    for name, vectors in {
        "zeros": zeros,
        "all NaN": zeros * jnp.nan,
        "all infinite": zeros + jnp.inf,
    }.items():
        _, state = step(vectors, learned)
        levels, known = state.levels["all"], state.adaptation.predicted["all"]
        np.testing.assert_array_equal(levels, learned.levels["all"], name)
        np.testing.assert_array_equal(known, learned.adaptation.predicted["all"])
        _, first = step(vectors, exchange.init())
        np.testing.assert_array_equal(
            first.levels["all"], exchange.init().levels["all"]
        )


@plainly
def test_a_worker_that_is_not_finite_is_left_out_and_hides_nothing():
    exchange, step = three_bits()
    vectors = heavy()
    mean, state = step(vectors.at[1, 5].set(jnp.nan), exchange.init())
    assert np.isnan(mean[:1024]).all(), "the bucket's mean is not NaN"
    assert np.isfinite(mean[1024:]).all()
    levels = np.asarray(state.levels["all"])
    assert (np.diff([0, *levels]) > 0).all()
    assert levels[-1] == 1


def test_other_exchanges_pass_over_the_statistics():
    """Statistics, their gather and the solver are in the branch, nothing else is."""
    vectors = heavy(size=2**14)
    mesh = mesh_of(WORKERS)

    def program(quantizer):
        exchange = qgenx.exchange(AXIS, quantizer)

        def worker(vector, state):
            return exchange.mean(vector[0], state)

        mapped = jax.shard_map(
            worker, mesh=mesh, in_specs=(jax.P(AXIS), jax.P()), out_specs=jax.P()
        )
        return jax.jit(mapped).lower(vectors, exchange.init()).compile().as_text()

    text = program(qgenx.adaptive(4))
    entry = text[text.index("\nENTRY") :]
    assert len(COLLECTIVE.findall(entry)) == 1, "more than one collective in the step"
    assert "conditional(" in entry
    assert not re.search(r"= .*(scatter|sort)\(", entry)
    fixed = program(qgenx.user_levels(np.arange(1, 9) / 8, zero=False))
    other = fixed[fixed.index("\nENTRY") :]
    wide = f"f32[{2**14}]"

    def passes(text):
        return sum(
            f"= {wide}" in line and "parameter(" not in line
            for line in text.splitlines()
        )

    assert passes(entry) <= passes(other), "a pass over the vector more"


@plainly
def test_a_run_resumed_across_a_refresh_goes_on_to_the_bit():
    exchange, step = three_bits((2, 4))
    whole = run(exchange, step, 6)
    saved = serialization.to_bytes(whole[2])
    state = serialization.from_bytes(exchange.init(), saved)
    for i in range(3, 6):
        _, state = step(heavy(seed=i), state)
    assert_trees_identical(jax.tree.map(jnp.asarray, state), whole[-1], "resumed")


@plainly
def test_groups_have_their_own_levels_and_their_own_exchanges():
    rng = np.random.default_rng(0)
    tree = {
        "normal": jnp.asarray(rng.normal(size=(WORKERS, 2048)), jnp.float32),
        "heavy": heavy(size=2048),
        "fixed": heavy(size=2048, seed=1),
    }
    quantizers = {
        "normal": qgenx.adaptive(3),
        "heavy": qgenx.adaptive(3, adapt=(1,)),
        "fixed": qgenx.uniform(4),
    }
    exchange = qgenx.exchange(AXIS, quantizers, labels={x: x for x in tree})
    step, state = running(exchange), exchange.init()
    _, first = step(tree, state)
    _, second = step(tree, first)
    assert set(first.levels) == {"normal", "heavy"}
    np.testing.assert_array_equal(first.levels["heavy"], state.levels["heavy"])
    np.testing.assert_array_equal(second.levels["normal"], first.levels["normal"])
    assert second.levels["heavy"][0] < 0.6 * second.levels["normal"][0]


@plainly
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtypes(dtype):
    wide = dtype == "float64"
    with jax.enable_x64(wide):
        exchange = qgenx.exchange(AXIS, qgenx.adaptive(3))
        vectors = heavy().astype(dtype)
        mean, state = running(exchange)(vectors, exchange.init())
        assert mean.dtype == (jnp.float64 if wide else jnp.float32)
        assert state.levels["all"].dtype == jnp.float32
        assert state.levels["all"][0] < 0.1


@plainly
def test_collectives_scan_accumulate_and_gradients():
    vectors = heavy()
    for collective in ("reduce_scatter", "all_gather"):
        quantizer = qgenx.adaptive(4, adapt=2)
        exchange = qgenx.exchange(AXIS, quantizer, collective=collective)
        step = running(exchange)
        mean, state = step(vectors, exchange.init())
        error = float(jnp.sum((mean - vectors.mean(0)) ** 2) / jnp.sum(vectors**2))
        assert 0 < error < 0.1, collective
        assert state.levels["all"][0] < 0.05, collective

    def scanned(vector, state):
        def body(state, _):
            mean, state = exchange.mean(vector, state)
            return state, mean

        return jax.lax.scan(body, state, None, 3)

    mapped = jax.vmap(scanned, axis_name=AXIS, in_axes=(0, None), out_axes=None)
    state, means = jax.jit(mapped)(vectors, exchange.init())
    looped = exchange.init()
    for i in range(3):
        mean, looped = step(vectors, looped)
        np.testing.assert_array_equal(mean, means[i])
    assert_trees_identical(state, looped, "scan against a loop")

    def loss(vector):
        return jnp.sum(exchange.mean(vector, exchange.init())[0] ** 2)

    gradient = jax.jit(jax.vmap(jax.grad(loss), axis_name=AXIS))(vectors)
    assert 0 < np.abs(gradient).max() < np.inf


@plainly
def test_one_worker_alone_and_methods():
    exchange = qgenx.exchange(None, qgenx.adaptive(4))
    _, state = jax.jit(exchange.mean)(heavy()[0], exchange.init())
    assert state.levels["all"][0] < 0.05
    optimizer = qgenx.accumulate(
        2,
        optax.chain(
            qgenx.quantized_mean(
                AXIS,
                qgenx.adaptive(4, adapt=(0,)),
                collective="all_gather",
                exact=qgenx.no_leaves,
            ),
            optax.sgd(0.1),
        ),
    )
    params = jnp.zeros(SIZE)
    state = qgenx.init(optimizer, params, workers=WORKERS)

    def step(params, state, vector):
        updates, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    step = qgenx.map_workers(step, AXIS, workers=WORKERS)
    for i in range(4):
        params, state = step(params, state, heavy(seed=i))
    assert np.abs(params).max() > 0
    (found,) = [x for x in jax.tree.leaves(state) if jnp.shape(x) == (8,)]
    assert found[0] < 0.05


@plainly
def test_q_genx_goes_on_over_a_refresh():
    problem = qgenx.problems.bilinear(20)
    quantizer = qgenx.adaptive(5, adapt=(0, 50), norm=2, bucket_size=None)
    pair = qgenx.chain(
        qgenx.q_genx(AXIS, quantizer, variant="optimistic"), qgenx.ergodic_average()
    )
    step = qgenx.iterate(pair, problem.oracle("none"), axis_name=AXIS)
    step = qgenx.map_workers(step, AXIS, workers=WORKERS)
    x = 0 * problem.solution
    state = qgenx.init(pair, x, workers=WORKERS)
    for key in jax.random.split(jax.random.key(0), 200):
        x, state = step(x, state, jax.random.split(key, (WORKERS, 1)))
    average = qgenx.ergodic_average_params(state)
    assert problem.gap(average) < 0.1 * problem.gap(0 * problem.solution)


def test_a_second_quantizer_that_nothing_would_fit_is_refused():
    with pytest.raises(ValueError, match="second must have levels of its own, which"):
        two_phases(qgenx.uniform(4), second=qgenx.adaptive(4))


def test_states_of_other_configurations_are_refused():
    adaptive = qgenx.exchange(None, qgenx.adaptive(4))
    vector = heavy()[0]
    wider = qgenx.exchange(None, qgenx.adaptive(5))
    with pytest.raises(ValueError, match=r"state.levels must hold levels of the shap"):
        adaptive.mean(vector, wider.init())
    fixed = qgenx.exchange(None, qgenx.user_levels(np.arange(1, 9) / 8, zero=False))
    with pytest.raises(ValueError, match=r"state.adaptation must be of the groups \['"):
        adaptive.mean(vector, fixed.init())
    none = r"state.adaptation must be of the groups \[\]"
    with pytest.raises(ValueError, match=none):
        fixed.mean(vector, adaptive.init())


@plainly
@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e18, 1e30, 1e36])
def test_levels_and_predictions_do_not_depend_on_the_unit(scale):
    """Also where squares of coordinates, or their sums, overflow or are flushed."""
    exchange, step = three_bits()
    vectors = heavy()
    _, state = step(vectors, exchange.init())
    _, scaled = step(vectors * np.float32(scale), exchange.init())
    np.testing.assert_allclose(scaled.levels["all"], state.levels["all"], rtol=2e-3)
    known, found = (x.adaptation.predicted["all"] for x in (state, scaled))
    np.testing.assert_allclose(found, known, rtol=1e-3)


@plainly
def test_an_empty_tree_teaches_nothing():
    exchange = qgenx.exchange(None, qgenx.adaptive(3))
    mean, state = exchange.mean({}, exchange.init())
    assert mean == {}
    np.testing.assert_array_equal(state.levels["all"], exchange.init().levels["all"])
