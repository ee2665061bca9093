"""`alternating`: a pair as an optax optimizer, that takes a vector at a time."""

import jax
import jax.numpy as jnp
import optax
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


def test_alternating_drives_a_scan_and_a_cond():
    """The state's structure and dtypes do not change from call to call."""
    optimizer = qgenx.alternating(qgenx.chain(qgenx.extra_adam(0.1), qgenx.ema(0.9)))
    x = {"a": jnp.ones(3), "b": jnp.ones((), jnp.bfloat16)}

    def call(carry, skip):
        def go(carry):
            x, state = carry
            updates, state = optimizer.update(x, state, x)
            return optax.apply_updates(x, updates), state

        return jax.lax.cond(skip, lambda carry: carry, go, carry), None

    carry = x, optimizer.init(x)
    skips = jnp.array([False, True, False, False])
    (x_end, state), _ = jax.lax.scan(call, carry, skips)
    assert int(state.half_step) == 1
    assert x_end["b"].dtype == jnp.bfloat16
    assert float(x_end["a"][0]) < 1
