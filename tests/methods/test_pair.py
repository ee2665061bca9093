"""Pairs: half-steps in their order, and not for an optimizer of one vector."""

import jax.numpy as jnp
import optax
import pytest

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


def test_update_before_its_extrapolation_raises():
    pair = qgenx.extra_sgd(0.1)
    x = jnp.ones(2)
    with pytest.raises(ValueError, match=r"state must be that of a pair whose update"):
        pair.update.update(x, pair.init(x), x)
    _, state = pair.extrapolation.update(x, pair.init(x), x)
    with pytest.raises(ValueError, match=r"call update.update first"):
        pair.extrapolation.update(x, state, x)
    with pytest.raises(ValueError, match=r"params must be given .*got None"):
        pair.extrapolation.update(x, pair.init(x))


def test_a_pair_where_a_transformation_is_wanted_says_so():
    optimizer = optax.chain(optax.clip(1.0), qgenx.extra_sgd(0.1))
    x = jnp.ones(2)
    with pytest.raises(
        TypeError, match=r"wrap the pair in qgenx_jax.alternating\(pair\)"
    ):
        optimizer.update(x, optimizer.init(x), x)
