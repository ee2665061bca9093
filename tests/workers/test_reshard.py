"""A state of K workers goes on with K' of them, as NumPy says it must."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.usefixtures("compiled_plainly")

START = np.random.default_rng(0).normal(size=6).astype(np.float32)
OF_FOUR = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
OF_TWO = np.random.default_rng(2).normal(size=(2, 6)).astype(np.float32)
GAMMA0, RATE = 0.3, 0.1


def step_of(optimizer):
    """V_k(x) = x - c_k."""

    def step(params, state, point):
        vector = qgenx.local_params(params, AXIS) - point
        moves, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, moves), state

    return step


def went_on(optimizer, first, second, *, how="vmap"):
    """Calls with four workers, then with two; the parameters after both."""
    run = qgenx.map_workers(step_of(optimizer), AXIS, workers=4)
    params, state = jnp.asarray(START), qgenx.init(optimizer, START, workers=4)
    for _ in range(first):
        params, state = run(params, state, OF_FOUR)
    where = {"workers": 2} if how == "vmap" else {"mesh": mesh_of(2)}
    state = qgenx.reshard(
        state,
        where.get("mesh"),
        AXIS if "mesh" in where else None,
        workers=where.get("workers"),
        from_workers=4,
    )
    run = qgenx.map_workers(step_of(optimizer), AXIS, **where)
    params = jnp.asarray(jax.device_get(params))
    for _ in range(second):
        params, state = run(params, state, OF_TWO)
    return np.asarray(params), state


@pytest.mark.parametrize("how", ["vmap", "mesh"])
def test_microbatches_of_both_numbers_are_one_mean(how):
    mean = qgenx.quantized_mean(AXIS, None)
    optimizer = qgenx.accumulate(2, optax.chain(mean, optax.sgd(RATE)))
    found, _ = went_on(optimizer, 1, 1, how=how)
    x = START.astype(np.float64)
    vectors = [(x - OF_FOUR).mean(axis=0), (x - OF_TWO).mean(axis=0)]
    np.testing.assert_allclose(found, x - RATE * sum(vectors) / 2, 1e-6, 1e-6)


def q_genx_in_numpy(variant, first, second):
    """Algorithm 1 with exact vectors; own last vectors are 0 after the change."""
    x1 = x = START.astype(np.float64)
    y, total = np.zeros(6), 0.0
    own = None
    for points, iterations in ((OF_FOUR, first), (OF_TWO, second)):
        workers = len(points)
        own = np.zeros((workers, 6))
        gamma = GAMMA0 * workers / np.sqrt(1 + total)
        for _ in range(iterations):
            if variant == "dual_extrapolation":
                own = x - points
                half = x - gamma * own.mean(axis=0)
            else:
                half = x  # what alternating has: X_{t+1/2}
            new = half - points
            total += ((own - new) ** 2).sum()
            y = y - new.mean(axis=0)
            gamma = GAMMA0 * workers / np.sqrt(1 + total)
            x = x1 + gamma * y
            if variant == "optimistic":
                x, own = x - gamma * new.mean(axis=0), new
    return x


@pytest.mark.parametrize("how", ["vmap", "mesh"])
@pytest.mark.parametrize(
    ("variant", "calls"), [("dual_extrapolation", 2), ("optimistic", 1)]
)
def test_q_genx_goes_on(variant, calls, how):
    pair = qgenx.q_genx(AXIS, None, variant=variant, gamma0=GAMMA0)
    if how == "mesh":  # and within a guard, which remembers own vectors, too
        pair = qgenx.skip_not_finite(pair)
    found, _ = went_on(qgenx.alternating(pair), 2 * calls, 3 * calls, how=how)
    np.testing.assert_allclose(found, q_genx_in_numpy(variant, 2, 3), 2e-5, 2e-5)


def test_the_same_number_keeps_everything_and_quantized_means_any():
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), variant="optimistic")
    state = qgenx.init(pair, START, workers=3)
    state = jax.tree.map(lambda x: x + 1, state)
    same = qgenx.reshard(state, workers=3)
    jax.tree.map(np.testing.assert_array_equal, same, state)
    optimizer = optax.chain(
        qgenx.quantized_mean(AXIS, qgenx.uniform(4)), optax.adam(0.1)
    )
    state = qgenx.init(optimizer, START, workers=3)
    other = qgenx.reshard(state, mesh_of(2), AXIS)
    jax.tree.map(np.testing.assert_array_equal, other, state)
    shardings = {leaf.sharding for leaf in jax.tree.leaves(other)}
    assert all(s.is_fully_replicated and s.num_devices == 2 for s in shardings)


def test_a_state_within_a_larger_tree_and_typed_keys():
    pair = qgenx.q_genx(
        AXIS, qgenx.uniform(4), variant="optimistic", key=jax.random.key(3)
    )
    optimizer = qgenx.accumulate(2, qgenx.alternating(pair))
    made = TrainState.create(apply_fn=None, params={"x": START}, tx=optimizer)
    state = qgenx.lay_out(made, workers=4)
    after = qgenx.reshard(state, workers=3)
    assert isinstance(after, TrainState)
    sums, inner = after.opt_state.per_worker, after.opt_state.inner.inner
    assert sums["x"].shape == inner.per_worker["x"].shape == (3, 6)
    host = jax.device_get(state)
    jax.tree.map(np.testing.assert_array_equal, qgenx.reshard(host, workers=3), after)


class Own(NamedTuple):
    per_worker: jax.Array


@pytest.mark.quick
def test_what_has_no_rule_and_other_numbers_are_refused():
    with pytest.raises(ValueError, match=r"leaf \.per_worker.* must belong to a state"):
        qgenx.reshard(Own(jnp.zeros((4, 2))), workers=2)
    qgenx.reshard(Own(jnp.zeros((4, 2))), workers=4)
    pair = qgenx.q_genx(AXIS, None, variant="optimistic")
    state = qgenx.init(pair, START, workers=4)
    with pytest.raises(ValueError, match=r"axis of length 3, one entry per worker"):
        qgenx.reshard(state, workers=2, from_workers=3)
    torn = (state, qgenx.init(pair, START, workers=3))
    with pytest.raises(ValueError, match=r"leaf \[1\]\.inner\.per_worker of the state"):
        qgenx.reshard(torn, workers=2)
    run = qgenx.map_workers(step_of(qgenx.alternating(pair)), AXIS, workers=2)
    alternating = qgenx.init(qgenx.alternating(pair), START, workers=4)
    with pytest.raises(ValueError, match=r"leaf \.inner\.per_worker .*qgenx_jax\.resh"):
        run(START, alternating, OF_TWO)


@pytest.mark.quick
def test_shapes_and_traced_states_are_refused():
    pair = qgenx.q_genx(AXIS, None, variant="optimistic")
    state = qgenx.init(pair, START, workers=4)
    message = r"must be an array with values, outside of jax\.jit"
    with pytest.raises(ValueError, match=message):
        qgenx.reshard(jax.eval_shape(lambda: state), workers=2)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda state: qgenx.reshard(state, workers=2))(state)
