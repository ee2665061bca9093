"""A NaN on one worker moves nothing anywhere, and is counted alike."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors
from tests.lib.hlo import collectives

pytestmark = pytest.mark.usefixtures("compiled_plainly")

WORKERS, SIZE = 2, 40
PLACES = ["mesh", "vmap"]


def place_of(name):
    mesh = mesh_of(WORKERS)
    if name == "mesh":
        return {"mesh": mesh}, {"mesh": mesh, "axis_name": AXIS}
    return {"workers": WORKERS}, {"workers": WORKERS}


def step_of(optimizer):
    def step(params, state, vector):
        updates, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    return step


def with_bad(vector, value=np.nan, worker=1):
    """The vectors of all workers, with one bad coordinate on one of them."""
    return jnp.asarray(vector).at[worker, 3].set(value)


def mean(quantizer=None, **kwargs):
    return qgenx.quantized_mean(AXIS, quantizer, exact=None, **kwargs)


def adam(x, batches):
    """Where optax alone goes with the means of the workers' vectors."""
    optimizer = optax.adam(0.1)
    state = optimizer.init(x)
    for batch in batches:
        updates, state = optimizer.update(batch.mean(0), state, x)
        x = optax.apply_updates(x, updates)
    return x


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_chain_goes_on_as_if_the_bad_call_had_not_been(place, value):
    here, start = place_of(place)
    optimizer = qgenx.skip_not_finite(optax.chain(mean(), optax.adam(0.1)))
    run = qgenx.map_workers(step_of(optimizer), AXIS, **here)
    x = jnp.zeros(SIZE)
    state = qgenx.init(optimizer, x, **start)
    good = [vectors(WORKERS, SIZE, seed) for seed in range(3)]
    x, state = run(x, state, good[0])
    before, before_state = np.asarray(x), jax.tree.map(np.asarray, state)
    for row in (1, 2):
        x, state = run(x, state, with_bad(good[1], value))
        np.testing.assert_array_equal(x, before)
        assert (int(state.notfinite_count), int(state.total_notfinite)) == (row, row)
        assert not bool(state.last_finite)
    assert_trees_identical(state.inner_state, before_state.inner_state, "moved")
    for vector in good[1:]:
        x, state = run(x, state, vector)
    np.testing.assert_allclose(x, adam(jnp.zeros(SIZE), good), rtol=1e-5, atol=1e-6)
    assert (int(state.notfinite_count), int(state.total_notfinite)) == (0, 2)


@pytest.mark.quick
def test_after_max_consecutive_it_lets_them_through_as_optax_does():
    ours = qgenx.skip_not_finite(optax.sgd(0.5), max_consecutive=2)
    theirs = optax.apply_if_finite(optax.sgd(0.5), max_consecutive_errors=2)
    x = jnp.ones(2)
    states = ours.init(x), theirs.init(x)
    for value in (1.0, np.nan, 1.0, np.nan, np.inf, -np.inf, np.nan, 2.0):
        updates = x * value
        mine, state = ours.update(updates, states[0], x)
        other, other_state = theirs.update(updates, states[1], x)
        states = state, other_state
        np.testing.assert_array_equal(mine, other)
        for field in ("notfinite_count", "last_finite", "total_notfinite"):
            assert getattr(state, field) == getattr(other_state, field)


@pytest.mark.quick
def test_a_state_that_becomes_infinite_is_a_bad_result():
    """Adam moves by 0 where its second moment overflows; so it would for ever."""
    optimizer = qgenx.skip_not_finite(optax.adam(0.1))
    x = jnp.ones(2)
    state = optimizer.init(x)
    huge = jnp.array([1e30, 1.0])
    plain, _ = optax.adam(0.1).update(huge, optax.adam(0.1).init(x), x)
    assert np.isfinite(plain).all()
    moves, after = optimizer.update(huge, state, x)
    np.testing.assert_array_equal(moves, 0)
    assert int(after.total_notfinite) == 1
    assert_trees_identical(after.inner_state, state.inner_state, "moved")


@pytest.mark.quick
def test_an_infinity_from_the_beginning_is_none_that_came():
    state = optax.contrib.reduce_on_plateau().init(jnp.ones(2))
    assert np.isinf(state.best_value)
    plateau = optax.chain(optax.sgd(0.5), optax.contrib.reduce_on_plateau())
    optimizer = qgenx.skip_not_finite(plateau)
    x = jnp.ones(2)
    moves, state = optimizer.update(x, optimizer.init(x), x, value=1.0)
    np.testing.assert_array_equal(moves, -0.5 * x)
    assert int(state.total_notfinite) == 0


# how a NaN on one worker could hide: in what travels
EXCHANGES = {
    "all_gather": {"quantizer": qgenx.uniform(4, bucket_size=16)},
    "min_max": {"quantizer": qgenx.min_max(4, bucket_size=16)},
    "reduce_scatter": {
        "quantizer": qgenx.uniform(2, bucket_size=16),
        "collective": "reduce_scatter",
    },
    "exact leaves": {
        "quantizer": {"a": qgenx.uniform(4), "b": None},
        "labels": lambda x: {"a": "a", "b": "b"},
    },
}


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("variant", ["dual_extrapolation", "optimistic", "mean"])
def test_no_exchange_hides_it(name, variant):
    """In either leaf, at either half-step: all workers' results are not finite."""
    given = {"exact": None} | EXCHANGES[name]
    if variant == "mean":
        optimizer = optax.chain(qgenx.quantized_mean(AXIS, **given), optax.sgd(0.5))
    else:
        optimizer = qgenx.alternating(qgenx.q_genx(AXIS, variant=variant, **given))
    optimizer = qgenx.skip_not_finite(optimizer)
    run = qgenx.map_workers(step_of(optimizer), AXIS, workers=WORKERS)
    x = {"a": jnp.ones(SIZE), "b": jnp.ones(SIZE)}
    state = qgenx.init(optimizer, x, workers=WORKERS)
    good = {"a": vectors(WORKERS, SIZE, 0), "b": vectors(WORKERS, SIZE, 1)}
    bad = 0
    for _ in range(2):
        for leaf in good:
            before = jax.tree.map(np.asarray, (x, state.inner_state))
            x, state = run(x, state, good | {leaf: with_bad(good[leaf])})
            bad += 1
            assert int(state.total_notfinite) == bad
            assert_trees_identical(x, before[0], "moved")
            keyless = jax.tree_util.tree_leaves_with_path(
                (state.inner_state, before[1])
            )
            for path, value in keyless:
                assert "key" in jax.tree_util.keystr(path) or np.isfinite(value).all()
        x, state = run(x, state, good)
    assert all(np.isfinite(x[leaf]).all() for leaf in x)


@pytest.mark.quick
def test_a_number_that_rides_along_may_overflow():
    """||V||^2 = inf of finite vectors: gamma would be NaN for ever."""
    pair = qgenx.q_genx(AXIS, None, variant="dual_averaging")
    optimizer = qgenx.skip_not_finite(qgenx.alternating(pair))
    run = qgenx.map_workers(step_of(optimizer), AXIS, workers=WORKERS)
    x = jnp.ones(4)
    state = qgenx.init(optimizer, x, workers=WORKERS)
    x, state = run(x, state, jnp.full((WORKERS, 4), 1e25))
    np.testing.assert_array_equal(x, 1)
    assert int(state.total_notfinite) == 1
    # gamma_2 = K / sqrt(1 + sum_k ||V_k||^2) = 2 / sqrt(1 + 2 * 4)
    x, state = run(x, state, jnp.ones((WORKERS, 4)))
    np.testing.assert_allclose(x, 1 - 2 / 3, rtol=1e-6)


def korpelevich(x, iterations, rate=0.5):
    """X_{t+1} = X_t - rate A(X_t - rate A(X_t)), A the rotation by 90 degrees."""
    rotation = np.array([[0.0, 1.0], [-1.0, 0.0]])
    for _ in range(iterations):
        x = x - rate * rotation @ (x - rate * rotation @ x)
    return x


ROTATION = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
PAIRS = {
    "extra_sgd": lambda: qgenx.chain(mean(), qgenx.extra_sgd(0.5)),
    "q_genx": lambda: qgenx.q_genx(AXIS, None, step_size=0.5),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("by", ["iterate", "alternating"])
def test_an_iteration_of_a_pair_is_void_as_a_whole(kind, by):
    """A NaN at either half-step; x and averages after it are as if it had not been."""
    pair = qgenx.skip_not_finite(
        qgenx.chain(PAIRS[kind](), qgenx.ema(0.5), qgenx.ergodic_average())
    )
    assert pair.traffic(jnp.zeros(2), WORKERS).exchanges == 2

    if by == "iterate":
        once = qgenx.iterate(pair, lambda x, f: f * (ROTATION @ x), axis_name=AXIS)
        start = pair
    else:
        start = qgenx.alternating(pair)

        def once(x, state, factors):
            for factor in factors:
                vector = factor * (ROTATION @ x)
                delta, state = start.update(vector, state, x)
                x = optax.apply_updates(x, delta)
            return x, state

    run = qgenx.map_workers(once, AXIS, workers=WORKERS)
    x = jnp.array([1.0, 2.0])
    state = qgenx.init(start, x, workers=WORKERS)
    factors = np.ones((5, WORKERS, 2))
    factors[1, 1, 0] = factors[3, 0, 1] = np.nan
    halves, points = [], [np.array([1.0, 2.0])]
    for index, batch in enumerate(factors):
        before = np.asarray(x)
        x, state = run(x, state, jnp.asarray(batch, jnp.float32))
        if index in (1, 3):
            np.testing.assert_allclose(x, before, rtol=1e-6)
            continue
        halves.append(points[-1] - 0.5 * np.asarray(ROTATION) @ points[-1])
        points.append(korpelevich(points[-1], 1))
        np.testing.assert_allclose(x, points[-1], rtol=1e-5)
        np.testing.assert_allclose(qgenx.x_t(state, x), points[-1], rtol=1e-5)
    average = points[0]
    for point in points[1:]:
        average = (average + point) / 2
    np.testing.assert_allclose(qgenx.ema_params(state), average, rtol=1e-5)
    np.testing.assert_allclose(
        qgenx.ergodic_average_params(state), np.mean(halves, axis=0), rtol=1e-5
    )
    assert int(state.inner.total_notfinite) == 2


@pytest.mark.parametrize("variant", ["dual_averaging", "optimistic"])
def test_an_oracle_free_pair(variant):
    """Its iteration takes one vector; with a bad one it is that of nobody."""
    pair = qgenx.chain(
        qgenx.q_genx(None, None, variant=variant), qgenx.ergodic_average()
    )
    ends = []
    for optimizer, bad in (
        (qgenx.alternating(pair), ()),
        (qgenx.alternating(qgenx.skip_not_finite(pair)), (0, 2, 3)),
        (qgenx.skip_not_finite(qgenx.alternating(pair)), (0, 2, 3)),
    ):
        x = jnp.array([1.0, 2.0])
        state = optimizer.init(x)
        update = jax.jit(optimizer.update)
        for index in range(4 + len(bad)):
            vector = ROTATION @ x * (np.nan if index in bad else 1)
            delta, state = update(vector, state, x)
            x = x + delta
        ends.append((x, qgenx.ergodic_average_params(state), qgenx.x_t(state, x)))
    for end in ends[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), end, ends[0])


@pytest.mark.quick
def test_x_t_after_a_bad_extrapolation():
    optimizer = qgenx.alternating(qgenx.skip_not_finite(qgenx.extra_sgd(0.5)))
    x = jnp.array([1.0, 2.0])
    state = optimizer.init(x)
    for factor in (1, 1, np.nan):
        delta, state = optimizer.update(factor * x, state, x)
        x = x + delta
    # X_2 = 0.75 X_1, and the parameters have stayed there
    np.testing.assert_array_equal(qgenx.x_t(state, x), [0.75, 1.5])
    np.testing.assert_array_equal(qgenx.x_half(state, x), [0.75, 1.5])


@pytest.mark.parametrize("place", PLACES)
def test_around_accumulate_the_sum_with_the_nan_is_dropped(place):
    here, start = place_of(place)
    optimizer = qgenx.skip_not_finite(
        qgenx.accumulate(2, optax.chain(mean(), optax.adam(0.1))), 3
    )
    run = qgenx.map_workers(step_of(optimizer), AXIS, **here)
    x = jnp.zeros(SIZE)
    state = qgenx.init(optimizer, x, **start)
    good = [vectors(WORKERS, SIZE, seed) for seed in range(6)]
    for index, vector in enumerate(good):
        x, state = run(x, state, with_bad(vector) if index == 2 else vector)
    pairs = [(good[0] + good[1]) / 2, (good[4] + good[5]) / 2]
    np.testing.assert_allclose(x, adam(jnp.zeros(SIZE), pairs), rtol=1e-5, atol=1e-6)
    assert int(state.inner.total_notfinite) == 1
    hidden = optax.chain(qgenx.accumulate(2, mean()), optax.identity())
    with pytest.raises(ValueError, match=r"no accumulate further inside.*accumulate\("):
        qgenx.skip_not_finite(hidden).init(x)


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["transformation", "pair"])
def test_bfloat16_in_a_scan(kind):
    inner = optax.sgd(0.5) if kind == "transformation" else qgenx.extra_sgd(0.5)
    optimizer = qgenx.skip_not_finite(inner)
    if kind == "pair":
        optimizer = qgenx.alternating(optimizer)
    x = jnp.ones(3, jnp.bfloat16)

    def call(carry, factor):
        x, state = carry
        delta, state = optimizer.update(x * factor, state, x)
        return (optax.apply_updates(x, delta), state), delta

    factors = jnp.array([1, 1, jnp.nan, jnp.nan], jnp.bfloat16)
    (x, _), deltas = jax.lax.scan(call, (x, optimizer.init(x)), factors)
    assert x.dtype == deltas.dtype == jnp.bfloat16
    expected = 0.25 if kind == "transformation" else 0.75
    np.testing.assert_array_equal(np.asarray(x, np.float32), expected)


def test_shards_of_a_model_decide_alike():
    """A NaN in one shard of the parameters: the other shard stays, too."""
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((WORKERS, 2), (AXIS, "model"), auto)
    optimizer = qgenx.skip_not_finite(optax.chain(mean(), optax.sgd(1.0)))

    def step(x, vector):
        state = optimizer.init(x)
        delta, state = optimizer.update(vector[0], state, x)
        return x + delta, state.total_notfinite

    spec = jax.sharding.PartitionSpec
    run = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(spec("model"), spec(AXIS, "model")),
        out_specs=(spec("model"), spec()),
    )
    x, total = jax.jit(run)(jnp.ones(8), with_bad(jnp.ones((WORKERS, 8))))
    np.testing.assert_array_equal(x, 1)
    assert int(total) == 1


@pytest.mark.quick
def test_it_sends_nothing_and_branches_nowhere():
    exchange = mean(qgenx.uniform(4), collective="all_gather")
    optimizer = qgenx.skip_not_finite(optax.chain(exchange, optax.adam(0.1)))
    here, start = place_of("mesh")
    run = qgenx.map_workers(step_of(optimizer), AXIS, **here)
    x = jnp.zeros(SIZE)
    state = qgenx.init(optimizer, x, **start)
    hlo = run.lower(x, state, vectors(WORKERS, SIZE)).compile().as_text()
    assert [op for op, _, _ in collectives(hlo)] == ["all-gather"]
    assert "conditional(" not in hlo


@pytest.mark.quick
def test_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match=r"max_consecutive must be a whole number"):
        qgenx.skip_not_finite(optax.sgd(0.1), 0)
    with pytest.raises(ValueError, match=r"optimizer must be an optax.*whole pair"):
        qgenx.skip_not_finite(qgenx.extra_sgd(0.1).update)
    guarded = qgenx.skip_not_finite(optax.adam(0.1))
    for inside in (qgenx.extragradient, lambda x: qgenx.chain(x, qgenx.extra_sgd(0.1))):
        with pytest.raises(ValueError, match=r"must be an optax.*skip_not_finite"):
            inside(guarded)
    with pytest.raises(ValueError, match=r"must be of one vector to another"):
        qgenx.extragradient(optax.chain(guarded)).init(jnp.ones(2))
    pair = qgenx.skip_not_finite(qgenx.extra_sgd(0.1))
    with pytest.raises(ValueError, match=r"must have its observers inside"):
        qgenx.chain(pair, qgenx.ema(0.9)).init(jnp.ones(2))
    with pytest.raises(ValueError, match=r"state must be of type SkipNotFiniteState"):
        guarded.update(jnp.ones(2), optax.adam(0.1).init(jnp.ones(2)), jnp.ones(2))


@pytest.mark.quick
@pytest.mark.parametrize("kind", ["transformation", "pair"])
def test_what_is_rounded_after_a_skip_is_rounded_by_new_bits(kind):
    """All workers took part in the exchange: its key goes on, and nothing else."""
    if kind == "pair":
        pair = qgenx.q_genx(None, qgenx.uniform(4), variant="optimistic", gamma0=0.1)
        optimizer = qgenx.alternating(qgenx.skip_not_finite(pair))
    else:
        means = qgenx.quantized_mean(None, qgenx.uniform(4), exact=None)
        optimizer = qgenx.skip_not_finite(optax.chain(means, optax.sgd(0.1)))

    def keys(state):
        found = jax.tree.leaves(state, is_leaf=is_exchange)
        return [np.asarray(x.key) for x in found if is_exchange(x)]

    def is_exchange(node):
        return isinstance(node, qgenx.ExchangeState)

    x = jnp.ones(SIZE)
    before = optimizer.init(x)
    moves, after = optimizer.update(x.at[3].set(jnp.nan), before, x)
    np.testing.assert_array_equal(moves, 0)
    (old,), (new,) = keys(before), keys(after)
    assert np.any(old != new)
