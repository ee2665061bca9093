"""A step runs on every worker also where a mesh is set, whatever its axes are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.usefixtures("compiled_plainly")

START = jnp.asarray(np.random.default_rng(0).normal(size=(8, 6)), jnp.float32)
POINTS = jnp.asarray(np.random.default_rng(1).normal(size=(4, 8, 6)), jnp.float32)
RATE, CALLS = 0.25, 3


def mesh_with(kind):
    return jax.make_mesh(
        (2, 2), (AXIS, "model"), (kind,) * 2, devices=jax.devices()[:4]
    )


def step_over(axis, optimizer):
    def step(params, state, point):
        vector = qgenx.local_params(params, axis) - point
        moves, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, moves), state, jnp.sum(vector)

    return step


def optimizer_over(axis):
    return optax.chain(qgenx.quantized_mean(axis, None), optax.sgd(RATE))


def expected(points):
    x = np.asarray(START, np.float64)
    for _ in range(CALLS):
        x = x - RATE * (x - np.asarray(points, np.float64).mean(axis=0))
    return x


@pytest.mark.parametrize("in_jit", [False, True], ids=["called", "in a jit"])
@pytest.mark.parametrize("placed", [None, P(), P(None, "model")], ids=str)
@pytest.mark.parametrize("kind", list(AxisType)[:2], ids=lambda kind: kind.name)
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_mesh_that_is_set_changes_nothing(lanes, kind, placed, in_jit):
    mesh = mesh_with(kind)
    axis = AXIS if lanes == 1 else (AXIS, "local")
    more = {} if lanes == 1 else {"workers": 4, "mesh": mesh}
    optimizer, points = optimizer_over(axis), POINTS[: 2 * lanes]
    with jax.set_mesh(mesh):
        run = qgenx.map_workers(step_over(axis, optimizer), axis, **more)

        def around(params, state, points):
            params, state, sums = run(params, state, points)
            return params, state, sums + 0 * points.sum()

        params = START
        if placed is not None:
            params = jax.device_put(params, NamedSharding(mesh, placed))
        state = qgenx.init(optimizer, params, axis_name=axis, **more)
        run_it = jax.jit(around) if in_jit else run
        for _ in range(CALLS):
            params, state, _ = run_it(params, state, points)
        params.block_until_ready()
    np.testing.assert_allclose(params, expected(points), 1e-6, 1e-6)


def test_what_was_made_where_a_mesh_was_set_runs_where_none_is():
    optimizer = optimizer_over(AXIS)
    with jax.set_mesh(mesh_with(AxisType.Explicit)):
        run = qgenx.map_workers(step_over(AXIS, optimizer), AXIS)
        state = qgenx.init(optimizer, START, axis_name=AXIS)
    params = START
    for _ in range(CALLS):
        params, state, _ = run(params, state, POINTS[:2])
    np.testing.assert_allclose(params, expected(POINTS[:2]), 1e-6, 1e-6)


def test_another_mesh_than_the_one_that_is_set_is_refused():
    run = qgenx.map_workers(
        step_over(AXIS, optimizer_over(AXIS)), AXIS, mesh=mesh_with(AxisType.Auto)
    )
    other = jax.make_mesh((2,), ("else",), devices=jax.devices()[:2])
    message = r"mesh must be the one that jax.set_mesh has set"
    with jax.set_mesh(other), pytest.raises(ValueError, match=message):
        run(START, (qgenx.exchange(AXIS, None).init(), ()), POINTS[:2])


@pytest.mark.quick
def test_without_any_mesh_the_way_out_names_set_mesh():
    with pytest.raises(
        ValueError, match=r"jax\.set_mesh, and call this outside of jax"
    ):
        qgenx.map_workers(lambda params, state: (params, state), AXIS)


@pytest.mark.quick
def test_a_mapped_step_inside_a_shard_map_is_refused():
    mesh = mesh_with(AxisType.Auto)
    run = qgenx.map_workers(lambda params, state: (params, state), AXIS, mesh=mesh)
    inside = jax.shard_map(
        lambda x: run(x, ())[0], mesh=mesh, in_specs=P(), out_specs=P()
    )
    with pytest.raises(ValueError, match=r"must not be called inside a jax\.shard_map"):
        jax.eval_shape(inside, START)
