"""A choice that each worker makes for itself is refused where copies would differ."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.plainly

P, X = jnp.zeros(()), jnp.array([1.0, -3.0])
OPTIMIZER = optax.chain(qgenx.quantized_mean(AXIS, None), optax.sgd(0.5))


def after(choose, workers):
    def step(params, state, x):
        gradient = qgenx.local_params(params, AXIS) - x
        moves, state = OPTIMIZER.update(gradient, state, params)
        return choose(optax.apply_updates(params, moves), params, x), state

    mesh = None if workers else mesh_of(2)
    state = qgenx.init(OPTIMIZER, P, mesh, AXIS, workers=workers)
    run = qgenx.map_workers(step, AXIS, mesh=mesh, workers=workers)
    return [float(copy.data) for copy in run(P, state, X)[0].addressable_shards]


def looped(new, old, x):
    def body(carry):
        return carry[0] + 1, carry[1] + new

    return lax.while_loop(lambda carry: carry[0] < 0, body, (x, old))[1]


OWN = {
    "cond": lambda new, old, x: lax.cond(x > 0, lambda: new, lambda: old),
    "cond in a jit": lambda new, old, x: jax.jit(
        lambda: lax.cond(x > 0, lambda: new, lambda: old)
    )(),
    "while": looped,
}
ALIKE = {
    "by all": lambda new, old, x: lax.cond(
        lax.pmin(x, AXIS) < 0, lambda: new, lambda: old
    ),
    "by what was exchanged": lambda new, old, x: lax.cond(
        jnp.isfinite(new), lambda: new, lambda: old
    ),
    "of what varies": lambda new, old, x: (
        new + 0 * lax.pmean(lax.cond(x > 0, lambda: x, lambda: -x), AXIS)
    ),
}


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("choose", OWN)
def test_a_choice_by_a_workers_own_value_is_refused(choose, workers):
    with pytest.raises(ValueError, match="step must decide alike on all workers"):
        after(OWN[choose], workers)


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("choose", ALIKE)
def test_a_choice_that_all_workers_make_alike_runs(choose, workers):
    copies = after(ALIKE[choose], workers)
    np.testing.assert_allclose(copies, [-0.5] * len(copies))


def test_a_collective_for_which_others_would_wait_forever_is_refused():
    def choose(new, old, x):
        summed = lax.cond(x > 0, lambda: lax.psum(x, AXIS) + 0 * x, lambda: x)
        return new + 0 * lax.pmean(summed, AXIS)

    with pytest.raises(ValueError, match="step must decide alike on all workers"):
        after(choose, None)
