"""What is each worker's own, and what must not be: parameters, gradients, states."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of, vectors

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]


def gradient_operator(x, target):
    """A worker's own gradient of a quadratic, by jax.grad."""
    return jax.grad(lambda p: 0.5 * jnp.sum((p["x"] - target) ** 2))(x)


@pytest.mark.parametrize("check_vma", [True, False])
def test_local_params_keeps_gradients_the_workers_own(check_vma):
    targets = jnp.asarray(vectors(3, 5))

    def worker(x, target):
        x = qgenx.local_params(x, AXIS)
        x = qgenx.local_params(x, AXIS)  # of what varies already: the identity
        return gradient_operator({"x": x}, target[0])["x"][None]

    mapped = jax.shard_map(
        worker,
        mesh=mesh_of(3),
        in_specs=(P(), P(AXIS)),
        out_specs=P(AXIS),
        check_vma=check_vma,
    )
    gradients = jax.jit(mapped)(jnp.zeros(5), targets)
    np.testing.assert_allclose(gradients, -targets, rtol=1e-6)


def test_replicated_gradients_are_refused():
    """Without local_params the gradient is summed over workers before the exchange."""
    optimizer = qgenx.quantized_mean(AXIS, qgenx.uniform(4), exact=None)

    def step(params, state, target):
        gradient = gradient_operator(params, target)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    run = qgenx.map_workers(step, AXIS, mesh=mesh_of(3))
    x = {"x": jnp.zeros(5)}
    state = qgenx.init(optimizer, x, mesh_of(3), AXIS)
    with pytest.raises(ValueError, match=r"\['x'\].* must vary over the worker axis"):
        run(x, state, jnp.asarray(vectors(3, 5)))


def test_a_parameter_of_the_reserved_name_is_refused():
    params = {"per_worker": jnp.zeros(5)}
    reserved = r"must not lie below the name 'per_worker'"
    for make in (optax.sgd(0.1), qgenx.extra_sgd(0.1)):
        with pytest.raises(ValueError, match=reserved):
            qgenx.init(make, params, workers=3)
    with pytest.raises(ValueError, match=reserved):
        qgenx.extra_sgd(0.1).init(params)
