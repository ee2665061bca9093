"""What is each worker's own, and what must not be: parameters, gradients, states."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax._workers import axes
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


EXCHANGING = {
    "quantized_mean": lambda: optax.chain(
        qgenx.quantized_mean(AXIS, None), optax.sgd(1.0)
    ),
    "accumulate": lambda: qgenx.accumulate(2, EXCHANGING["quantized_mean"]()),
    "q_genx": lambda: qgenx.alternating(qgenx.q_genx(AXIS, None)),
    "optimistic": lambda: qgenx.alternating(
        qgenx.q_genx(AXIS, qgenx.uniform(8), variant="optimistic")
    ),
    "extra_adam": lambda: qgenx.alternating(
        qgenx.chain(qgenx.quantized_mean(AXIS, None), qgenx.extra_adam(1e-3))
    ),
}


def fully_sharded(optimizer, *, workers=4, scale=1.0, is_cut=True):
    """A step on parameters cut over the workers, put together in the loss; and w, x."""
    rng = np.random.default_rng(0)
    w, x = np.float32(rng.normal(size=(8, 6))), np.float32(rng.normal(size=(4, 3, 8)))
    cut = P(AXIS) if is_cut else P()
    state = optimizer.init(w[: 8 // workers] if is_cut else w)
    state = qgenx.lay_out(state, workers=workers)
    specs = qgenx.state_specs(state, AXIS)

    def step(rows, state, x):
        def loss(rows):
            whole = lax.all_gather(rows, AXIS, tiled=True) if is_cut else rows
            return jnp.mean((x[0] @ whole) ** 2)

        own = qgenx.local_params(rows, AXIS)
        gradient = jax.tree.map(lambda g: scale * g, jax.grad(loss)(own))
        updates, state = optimizer.update(gradient, state, own)
        return optax.apply_updates(rows, updates), state

    mapped = jax.shard_map(
        step,
        mesh=mesh_of(workers),
        in_specs=(cut, specs, P(AXIS)),
        out_specs=(cut, specs),
    )
    return jax.jit(mapped)(w, state, x)[0], w, x


@pytest.mark.parametrize("name", sorted(EXCHANGING))
def test_shards_over_the_workers_are_not_averaged_with_one_another(name):
    with pytest.raises(ValueError, match=r"params must be equal on all .*by their num"):
        fully_sharded(EXCHANGING[name]())


def test_the_way_out_for_shards_is_right():
    """The gradient through an all_gather, divided by K: that of the mean loss."""
    after, w, x = fully_sharded(optax.sgd(1.0), scale=1 / 4)
    flat = np.float64(x).reshape(-1, 8)
    truth = 2 * flat.T @ (flat @ w) / (flat.shape[0] * 6)
    np.testing.assert_allclose(w - after, truth, rtol=1e-4, atol=1e-5)


def test_what_local_params_returned_is_refused_where_parameters_are_wanted():
    with pytest.raises(ValueError, match="that local_params was given, not its result"):
        fully_sharded(EXCHANGING["q_genx"](), is_cut=False)


def test_what_is_to_vary_as_something_else_is_known_to_and_is_the_same():
    def worker(x):
        zeros = axes.vary_like(jnp.zeros(x.shape), x)
        assert axes.varying(zeros) == axes.varying(x) == {AXIS}
        return zeros

    mapped = jax.shard_map(worker, mesh=mesh_of(2), in_specs=P(AXIS), out_specs=P(AXIS))
    np.testing.assert_array_equal(jax.jit(mapped)(np.ones(4)), np.zeros(4))
