"""A state of Q-GenX is that of its configuration and parameters, or is refused."""

import jax.numpy as jnp
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.usefixtures("compiled_plainly")

VARIANTS = ["dual_averaging", "dual_extrapolation", "optimistic"]


@pytest.mark.quick
def test_states_of_another_configuration_are_refused_by_field():
    x = jnp.ones(3)
    pairs = {v: qgenx.q_genx(AXIS, None, variant=v) for v in VARIANTS}
    pairs["constant"] = qgenx.q_genx(
        AXIS, None, variant="dual_averaging", step_size=0.1
    )
    expected = {
        ("optimistic", "dual_extrapolation"): "state.extrapolation must be None",
        ("dual_extrapolation", "optimistic"): "state.extrapolation must be a tree",
        ("dual_extrapolation", "dual_averaging"): "state.per_worker must be None",
        ("dual_averaging", "constant"): "state.step_size must be ScheduledStepSize",
    }
    for (made, used), message in expected.items():
        state = pairs[made].init(x)
        with pytest.raises(ValueError, match=message):
            pairs[used].extrapolation.update(x, state, x)
    inner = qgenx.extra_sgd(0.1).init(x)
    with pytest.raises(ValueError, match="state must be a QGenXState, got Extragrad"):
        pairs["optimistic"].extrapolation.update(None, inner, x)


def test_per_worker_leaves_of_all_workers_inside_one_are_refused():
    """A state of map_workers, used in a hand-made vmap without its axis mapped."""
    pair = qgenx.q_genx(AXIS, None, variant="optimistic")
    x = jnp.ones(3)
    state = qgenx.init(pair, x, workers=4)
    with pytest.raises(ValueError, match=r"state.per_worker must have a leading axis"):
        pair.extrapolation.update(None, state, x)
