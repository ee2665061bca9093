"""A loop over a mapped step ends on simulated devices: steps do not run ahead."""

import os
import pickle
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import optax
import pytest

import qgenx_jax as qgenx
from qgenx_jax._workers.pacing import Paced
from tests.lib.helpers import AXIS, mesh_of

LOOP = """
    import jax

    jax.config.update("jax_num_cpu_devices", {devices})
    import jax.numpy as jnp
    import numpy as np
    import optax
    import qgenx_jax as qgenx

    optimizer = optax.chain(
        qgenx.quantized_mean("data", qgenx.uniform(4), exact=None), optax.sgd(0.1)
    )


    def step(params, state, batch):
        gradient = qgenx.local_params(params, "data") - batch.mean(0)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state


    mesh = jax.make_mesh(({devices},), ("data",))
    run = qgenx.map_workers(step, "data", mesh=mesh, donate={donate})
    params = jnp.zeros((64, 64))
    state = qgenx.init(optimizer, params, mesh, "data")
    batch = np.ones(({devices}, 8, 64, 64), np.float32)
    for _ in range(400):
        params, state = run(params, state, batch)
    print("ended", float(abs(params - 1).max()) < 1e-3)
"""


def ends(devices, donate=False):
    """Whether 400 steps end, in a process with two threads kept busy beside it."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)
    ]
    try:
        script = textwrap.dedent(LOOP).format(devices=devices, donate=donate)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return done.stdout.strip() == "ended True", done.stderr[-2000:]


@pytest.mark.parametrize(("devices", "donate"), [(3, False), (8, True)])
def test_400_steps_end_on_a_busy_machine(devices, donate):
    """Before steps waited for one another, XLA aborted this after 40 s, every time."""
    ended, error = ends(devices, donate)
    assert ended, f"{devices} devices: {error}"


def mapped(**where):
    def step(x, state, batch):
        return x + qgenx.local_params(batch, AXIS).mean() * 0, state

    return qgenx.map_workers(step, AXIS, **where)


@pytest.mark.quick
def test_it_paces_several_devices_and_nothing_else():
    assert isinstance(mapped(mesh=mesh_of(3)), Paced)
    assert not isinstance(mapped(mesh=mesh_of(1)), Paced)
    assert not isinstance(mapped(workers=3), Paced)


@pytest.mark.quick
def test_a_paced_step_has_what_a_compiled_function_has():
    optimizer = optax.chain(qgenx.quantized_mean(AXIS, None), optax.sgd(0.5))

    def step(x, state, batch):
        updates, state = optimizer.update(qgenx.local_params(x, AXIS) - batch, state, x)
        return optax.apply_updates(x, updates), state

    mesh = mesh_of(2)
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    x = jnp.zeros(3)
    arguments = x, qgenx.init(optimizer, x, mesh, AXIS), jnp.ones((2, 3))
    assert "all-reduce" in run.lower(*arguments).compile().as_text()
    shape, _ = run.eval_shape(*arguments)
    assert shape.shape == (3,)
    # within another program it is traced like any function
    inside = jax.jit(lambda *args: run(*args)[0])(*arguments)
    assert inside.tolist() == run(*arguments)[0].tolist() == [0.5] * 3
    with pytest.raises(AttributeError):
        getattr(run, "no_such_thing")  # noqa: B009
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        pickle.dumps(run)  # as a compiled function: refused, not for ever


def counted(failing=False):
    """A paced step of two devices; with `failing`, where a batch is negative."""

    def fail(x):
        if x.min() < 0:
            raise ArithmeticError("a batch is negative")
        return x

    def step(x, state, batch):
        if failing:
            shape = jax.ShapeDtypeStruct(batch.shape, batch.dtype)
            batch = jax.pure_callback(fail, shape, batch, vmap_method="sequential")
        return x, state, batch

    return qgenx.map_workers(step, AXIS, mesh=mesh_of(2))


@pytest.mark.quick
def test_what_is_traced_is_not_waited_for():
    run = counted()
    x, batch = jnp.zeros(3), jnp.ones((2, 3))
    jax.eval_shape(lambda: run(x, (), batch))
    jax.lax.scan(lambda carry, _: (carry, run(x, (), batch)[2]), 0, length=2)
    assert run(x, (), batch)[2].shape == (2, 3)


@pytest.mark.quick
def test_a_step_that_failed_does_not_fail_the_next():
    run = counted(failing=True)
    x, good = jnp.zeros(3), jnp.ones((2, 3))
    run(x, (), good)
    with pytest.raises(Exception, match="negative"):
        jax.block_until_ready(run(x, (), -good))
    for _ in range(2):
        jax.block_until_ready(run(x, (), good))


@pytest.mark.quick
def test_two_steps_wait_for_one_another():
    first, second = counted(), counted()
    x, batch = jnp.zeros(3), jnp.ones((2, 3))
    before = first(x, (), batch)
    second(x, (), batch)
    assert all(leaf.is_ready() for leaf in jax.tree.leaves(before))
