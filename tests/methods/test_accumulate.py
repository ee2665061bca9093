"""Microbatches: k vectors, one exchange, the same as their mean at once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors
from tests.lib.hlo import collectives

pytestmark = pytest.mark.usefixtures("compiled_plainly")

WORKERS, EVERY, SIZE = 3, 4, 200


def inner():
    return optax.chain(
        qgenx.quantized_mean(
            AXIS, qgenx.uniform(4), collective="all_gather", exact=None
        ),
        optax.adam(0.1),
    )


def step_of(optimizer):
    def step(params, state, vector):
        updates, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    return step


@pytest.mark.parametrize("where", ["mesh", "workers"])
def test_equals_one_step_with_the_mean_of_the_vectors(where):
    place = {"mesh": mesh_of(WORKERS)} if where == "mesh" else {"workers": WORKERS}
    start = {**place, "axis_name": AXIS} if where == "mesh" else place
    # quarters of whole numbers: sums and means are exact in float32
    rng = np.random.default_rng(0)
    microbatches = rng.integers(-8, 8, (2 * EVERY, WORKERS, SIZE)) / 4
    microbatches = jnp.asarray(microbatches, jnp.float32)

    optimizer = qgenx.accumulate(EVERY, inner())
    run = qgenx.map_workers(step_of(optimizer), AXIS, **place)
    params = jnp.zeros(SIZE)
    state = qgenx.init(optimizer, params, **start)
    seen = []
    for vector in microbatches:
        params, state = run(params, state, vector)
        seen.append(np.asarray(params))
    plain = qgenx.map_workers(step_of(inner()), AXIS, **place)
    expected, plain_state = jnp.zeros(SIZE), qgenx.init(inner(), params, **start)
    for index in range(2):
        before = np.asarray(expected)
        mean = microbatches[EVERY * index : EVERY * (index + 1)].mean(axis=0)
        expected, plain_state = plain(expected, plain_state, mean)
        for waiting in seen[EVERY * index : EVERY * (index + 1) - 1]:
            np.testing.assert_array_equal(waiting, before)
        np.testing.assert_allclose(
            seen[EVERY * (index + 1) - 1], expected, rtol=1e-6, atol=1e-7
        )
    assert_trees_identical(
        state.inner[0], plain_state[0], "the exchange ran another number of times"
    )
    assert state.per_worker.shape == (WORKERS, SIZE)
    assert int(state.count) == 0


@pytest.mark.quick
def test_one_collective_and_it_is_in_a_branch():
    optimizer = qgenx.accumulate(EVERY, inner())
    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(step_of(optimizer), AXIS, mesh=mesh)
    params = jnp.zeros(SIZE)
    state = qgenx.init(optimizer, params, mesh, AXIS)
    batch = jnp.asarray(vectors(WORKERS, SIZE))
    hlo = run.lower(params, state, batch).compile().as_text()
    assert [op for op, _, _ in collectives(hlo)] == ["all-gather"]
    assert "conditional(" in hlo


def test_alternating_inside():
    """Both half-steps of an extra-gradient iteration take k microbatches each."""
    pair = qgenx.chain(qgenx.quantized_mean(AXIS, None), qgenx.extra_sgd(0.5))
    optimizer = qgenx.accumulate(2, qgenx.alternating(pair))
    rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])

    def run(_):
        x, state = jnp.array([1.0, 0.0]), optimizer.init(jnp.zeros(2))
        for _ in range(4):
            delta, state = optimizer.update(rotation @ x, state, x)
            x = x + delta
        return x

    x = jax.jit(jax.vmap(run, axis_name=AXIS))(jnp.arange(2))[0]
    np.testing.assert_allclose(x, [0.75, 0.5], rtol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize("vector", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("point", [jnp.bfloat16, jnp.float32])
def test_dtypes_become_what_they_become_without_it(point, vector):
    base = optax.adamw(0.01)
    optimizer = qgenx.accumulate(2, base)
    x = jnp.ones(3, point)
    plain = jax.eval_shape(base.update, x.astype(vector), base.init(x), x)
    found = jax.eval_shape(optimizer.update, x.astype(vector), optimizer.init(x), x)
    kinds = [jax.tree.map(lambda leaf: leaf.dtype, t) for t in (plain[1], plain[0])]
    assert jax.tree.map(lambda leaf: leaf.dtype, found[1].inner) == kinds[0]
    assert found[0].dtype == kinds[1]


def injected(rate):
    return optax.inject_hyperparams(optax.sgd)(rate)


def powers(count):
    return 10.0 ** jnp.asarray(count, jnp.float32)


@pytest.mark.quick
def test_a_schedule_inside_counts_updates():
    """Rates 1, 10, 100 at the three updates of six calls with vectors of ones."""
    for inside in (optax.sgd(powers), injected(powers)):
        optimizer = qgenx.accumulate(2, inside)
        x = jnp.zeros(2)
        state = qgenx.init(optimizer, x, workers=1)
        moves = []
        for _ in range(6):
            delta, state = optimizer.update(jnp.ones(2), state, x)
            moves.append(float(delta[0]))
        np.testing.assert_allclose(moves, [0, -1, 0, -10, 0, -100])


@pytest.mark.quick
@pytest.mark.parametrize("make", ["init", "lay_out"])
def test_a_schedule_around_would_count_calls_and_is_refused(make):
    """In whatever it lies, and whatever numbers are injected around it."""

    def around(rate):
        return optax.chain(optax.identity(), qgenx.accumulate(2, optax.sgd(rate)))

    def state_of(optimizer):
        if make == "init":
            return qgenx.init(optimizer, x, workers=2)
        return qgenx.lay_out({"state": optimizer.init(x)}, workers=2)

    x = jnp.zeros(2)
    inject = optax.inject_hyperparams(around)
    state_of(inject(0.1))
    scaled = optax.inject_hyperparams(
        lambda factor: optax.chain(optax.scale(factor), inject(powers))
    )(0.5)
    for wrong in (inject(powers), scaled):
        words = r"no schedule injected around accumulate.*\['rate'\]: put .*inside"
        with pytest.raises(ValueError, match=words):
            state_of(wrong)
    right = optax.inject_hyperparams(
        lambda factor: qgenx.accumulate(
            2, optax.chain(optax.scale(factor), injected(powers))
        )
    )(0.5)
    state_of(right)


def longer(updates):
    return 1 + updates


@pytest.mark.quick
@pytest.mark.parametrize("guarded", [False, True])
def test_k_by_a_schedule_of_updates(guarded):
    """Windows of 1, 2, 3 calls, as optax.MultiSteps has them; worker j adds j - 1/2."""
    inner = optax.chain(qgenx.quantized_mean(AXIS, None), optax.sgd(1.0, momentum=0.5))
    optimizer = qgenx.accumulate(longer, inner)
    if guarded:
        optimizer = qgenx.skip_not_finite(optimizer)
    run = qgenx.map_workers(step_of(optimizer), AXIS, workers=2)
    params = jnp.zeros(2)
    state = qgenx.init(optimizer, params, workers=2)
    plain = optax.MultiSteps(optax.sgd(1.0, momentum=0.5), longer)
    expected, plain_state = params, plain.init(params)
    for call in range(7):
        params, state = run(params, state, jnp.array([[-0.5] * 2, [0.5] * 2]) + call)
        delta, plain_state = plain.update(jnp.full(2, float(call)), plain_state)
        expected = expected + delta
        np.testing.assert_allclose(params, expected, rtol=1e-6)
        assert int(state.updates) == int(plain_state.gradient_step)
        if call == 3:  # one vector of three is in
            state = qgenx.reshard(state, workers=3)
            state = qgenx.reshard(state, workers=2)
            assert (int(state.count), int(state.updates)) == (1, 2)


@pytest.mark.quick
def test_a_schedule_of_k_is_at_least_one():
    x, words = jnp.zeros(2), r"every_k must be a function to one number of at least 1"
    with pytest.raises(ValueError, match=words):
        qgenx.accumulate(lambda n: n, optax.sgd(1.0))
    optimizer = qgenx.accumulate(lambda n: 1 - n, optax.sgd(1.0))
    _, state = optimizer.update(x, optimizer.init(x), x)
    with pytest.raises(ValueError, match=words):
        optimizer.update(x, state, x)
    plain = qgenx.accumulate(2, optax.sgd(1.0)).init(x)
    assert plain.updates is None
    with pytest.raises(ValueError, match=r"state.updates must count updates"):
        optimizer.update(x, plain, x)


@pytest.mark.quick
def test_what_alternating_forbids_is_seen_inside():
    """`accumulate` does not hide it: moves that are scaled end elsewhere."""
    scaled = optax.chain(qgenx.alternating(qgenx.extra_sgd(0.1)), optax.scale(0.5))
    with pytest.raises(ValueError, match=r"must hand on the moves of alternating"):
        qgenx.init(qgenx.accumulate(2, scaled), jnp.zeros(2), workers=2)


@pytest.mark.quick
def test_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match=r"every_k must be a whole number .*got 0"):
        qgenx.accumulate(0, optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"inner must be an optax.*alternating"):
        qgenx.accumulate(2, qgenx.extra_sgd(0.1))
