"""`chain`: what it accepts, refuses and hands on."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


def test_plain_transformations_see_every_oracle_vector():
    """Clipping before the pair equals clipping the vectors by hand, with one state."""
    clipped = qgenx.chain(optax.clip_by_global_norm(0.3), qgenx.extra_sgd(1.0))
    rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])

    def clip(v):
        return v * jnp.minimum(1, 0.3 / jnp.linalg.norm(v))

    x, y = jnp.ones(2), jnp.ones(2)
    step, state = qgenx.iterate(clipped, lambda x: rotation @ x), clipped.init(x)
    plain = qgenx.extra_sgd(1.0)
    by_hand, other = qgenx.iterate(plain, lambda x: clip(rotation @ x)), plain.init(y)
    for _ in range(5):
        x, state = step(x, state)
        y, other = by_hand(y, other)
    np.testing.assert_allclose(x, y, rtol=1e-6)


def test_plain_transformations_pass_an_oracle_free_extrapolation_by():
    """A plain transformation's state advances once per vector, not per half-step."""
    pair = qgenx.chain(
        optax.scale_by_schedule(lambda count: 1.0 + count),
        qgenx.q_genx(AXIS, None, variant="optimistic", step_size=0.1),
    )
    step = qgenx.map_workers(qgenx.iterate(pair, lambda x: x), AXIS, workers=2)
    x = jnp.ones(3)
    state = qgenx.init(pair, x, workers=2)
    for _ in range(4):
        x, state = step(x, state)
    assert int(state.inner[0].count) == 4


@pytest.mark.parametrize(
    "transformations",
    [
        (optax.clip(1.0),),
        (qgenx.extra_sgd(0.1), optax.clip(1.0)),
        (qgenx.extra_sgd(0.1), qgenx.extra_sgd(0.1)),
        (qgenx.ema(0.5), qgenx.extra_sgd(0.1)),
        (qgenx.extra_sgd(0.1), qgenx.ema(0.5), optax.clip(1.0)),
        (),
    ],
    ids=["no pair", "plain after", "two pairs", "observer first", "plain last", "none"],
)
def test_chains_that_would_be_wrong_are_refused(transformations):
    with pytest.raises(ValueError, match=r"transformations must be plain optax"):
        qgenx.chain(*transformations)


def test_exchanging_twice_is_refused():
    with pytest.raises(ValueError, match=r"must exchange once, by .*, got 2 exchang"):
        qgenx.chain(qgenx.quantized_mean(AXIS, None), qgenx.q_genx(AXIS, None))
