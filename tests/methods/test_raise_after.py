"""A loop that asks a state of `skip_not_finite` ends, before anything bad is let in."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of, vectors

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]
WORKERS, SIZE = 2, 40


def start(optimizer, place):
    """The step on all workers, which tells of the counts that each has, too."""

    def step(params, state, vector):
        moves, state = optimizer.update(vector, state, params)
        counts = jnp.stack([state.notfinite_count, state.total_notfinite])
        return optax.apply_updates(params, moves), state, counts

    x = jnp.zeros(SIZE)
    if place == "vmap":
        run = qgenx.map_workers(step, AXIS, workers=WORKERS)
        return run, x, qgenx.init(optimizer, x, workers=WORKERS)
    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    return run, x, qgenx.init(optimizer, x, mesh, AXIS)


def bad(vector):
    """On one worker alone."""
    return jnp.asarray(vector).at[1, 3].set(np.nan)


@pytest.mark.parametrize("place", ["mesh", "vmap"])
@pytest.mark.parametrize("kind", ["adam", "q_genx"])
def test_it_ends_after_so_many_in_a_row_with_the_last_good_point(place, kind):
    """And not before: 2 in a row, a good one, and then 3; counted alike everywhere."""
    if kind == "adam":
        mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4), exact=None)
        inner = optax.chain(mean, optax.adam(0.1))
    else:  # its step size is a sum of squares that never forgets
        pair = qgenx.q_genx(AXIS, qgenx.uniform(4), variant="optimistic")
        inner = qgenx.alternating(pair)
    optimizer = qgenx.skip_not_finite(inner, max_consecutive=3)
    run, x, state = start(optimizer, place)
    good = jnp.asarray(vectors(WORKERS, SIZE))
    for is_bad in (False, True, True, False):
        x, state, _ = run(x, state, bad(good) if is_bad else good)
        state.raise_after(3)
    before, kept = np.asarray(x), state
    for row in (1, 2, 3):
        state.raise_after(3)
        x, state, counts = run(x, state, bad(good))
        np.testing.assert_array_equal(counts, [[row, 2 + row]] * WORKERS)
    match = "must be finite once in 3 updates, got 3 in a row that were not, of 5 in"
    with pytest.raises(qgenx.ExchangeError, match=match) as error:
        state.raise_after(3)
    assert isinstance(error.value, RuntimeError)
    np.testing.assert_array_equal(x, before)
    for old, new in zip(
        *map(optax.tree.get_all_with_path, (kept, state), ("mu", "mu")), strict=True
    ):
        np.testing.assert_array_equal(old[1], new[1])
    if kind == "q_genx":
        sums = [optax.tree.get(each, "step_size") for each in (kept, state)]
        np.testing.assert_array_equal(*map(np.asarray, map(tuple, sums)))
    x, state, _ = run(x, state, bad(good))
    assert np.isnan(x).any(), "one more is let through, to be seen"


def test_how_many_is_a_whole_number():
    state = qgenx.skip_not_finite(optax.sgd(0.1)).init(jnp.ones(2))
    state.raise_after(1)
    with pytest.raises(ValueError, match="max_consecutive must be a whole number"):
        state.raise_after(0)
