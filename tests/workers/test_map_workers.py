"""Running workers: the three ways agree, replicas stay identical, mistakes raise."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax import _workers
from tests.lib.helpers import AXIS, mesh_of, vectors

pytestmark = pytest.mark.usefixtures("compiled_plainly")

VARIANTS = ["dual_averaging", "dual_extrapolation", "optimistic"]


def gradient_operator(x, target):
    """A worker's own gradient of a quadratic, by jax.grad."""
    return jax.grad(lambda p: 0.5 * jnp.sum((p["x"] - target) ** 2))(x)


def setting(variant, workers, quantizer):
    pair = qgenx.chain(
        qgenx.q_genx(AXIS, quantizer, variant=variant, gamma0=0.1),
        qgenx.ergodic_average(),
    )
    step = qgenx.iterate(pair, gradient_operator, axis_name=AXIS)
    calls = 1 if pair.is_oracle_free else 2
    targets = jnp.asarray(vectors(workers * calls, 700)).reshape(workers, calls, 700)
    return pair, step, {"x": jnp.zeros(700)}, targets


def trained(variant, workers, bits, mesh=None):
    """Parameters and state after 20 quantized iterations, on a mesh or by vmap."""
    quantizer = qgenx.uniform(bits, bucket_size=64)
    pair, step, x, targets = setting(variant, workers, quantizer)
    if mesh is None:
        run = qgenx.map_workers(step, AXIS, workers=workers)
        state = qgenx.init(pair, x, workers=workers)
    else:
        run = qgenx.map_workers(step, AXIS, mesh=mesh)
        # placed: one compilation, and not a second one for what comes back
        x = jax.device_put(x, NamedSharding(mesh, P()))
        state = qgenx.init(pair, x, mesh, AXIS)
    for _ in range(20):
        x, state = run(x, state, targets)
    return x, state


def assert_replicas_identical(x, state, workers):
    """Each device holds its own copy of parameters and state: all bits equal."""
    leaves = jax.tree_util.tree_leaves_with_path((x, state))
    replicated = 0
    for path, leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.sharding.is_fully_replicated:
            replicated += 1
            first, *others = [np.asarray(s.data) for s in leaf.addressable_shards]
            assert len(others) == workers - 1
            for other in others:
                where = jax.tree_util.keystr(path)
                np.testing.assert_array_equal(other, first, err_msg=where)
        else:
            assert "per_worker" in jax.tree_util.keystr(path)
    assert replicated >= 4
    assert float(jnp.abs(x["x"]).max()) > 0, "nothing was learnt"


def test_replicas_of_8_workers_are_identical_after_20_iterations():
    x, state = trained("optimistic", 8, 4, mesh_of(8))
    assert_replicas_identical(x, state, 8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_replicas_are_identical_and_trajectories_are_those_of_vmap(variant):
    """To 1e-5 relative: XLA contracts and batches float arithmetic differently."""
    x, a = trained(variant, 3, 8, mesh_of(3))
    assert_replicas_identical(x, a, 3)
    y, b = trained(variant, 3, 8)
    np.testing.assert_allclose(x["x"], y["x"], rtol=1e-5, atol=1e-5)
    keys = a.inner[0].exchange.key, b.inner[0].exchange.key
    assert (jax.random.key_data(keys[0]) == jax.random.key_data(keys[1])).all()
    a, b = (
        s.inner[0]._replace(exchange=None, step_size=s.inner[0].step_size)
        for s in (a, b)
    )
    chex.assert_trees_all_close(a, b, rtol=1e-4, atol=1e-4)


def test_one_trace_for_placed_inputs():
    """No recompilation on the second call, and none where the state comes back."""
    traces = []
    mesh = mesh_of(3)
    pair, step, x, targets = setting("optimistic", 3, qgenx.uniform(8))

    def counted(x, state, targets):
        traces.append(1)
        return step(x, state, targets)

    run = qgenx.map_workers(counted, AXIS, mesh=mesh, donate=True)
    x = jax.device_put(x, NamedSharding(mesh, P()))
    state = qgenx.init(pair, x, mesh, AXIS)
    for _ in range(3):
        x, state = run(x, state, targets)
    assert len(traces) == 1


def test_state_specs_find_what_differs_between_workers():
    pair = qgenx.alternating(qgenx.q_genx(AXIS, qgenx.uniform(8)))
    state = jax.eval_shape(pair.init, {"x": jnp.zeros(5)})
    specs = qgenx.state_specs(state, AXIS)
    assert specs.inner.per_worker == {"x": P(AXIS)}
    others = specs._replace(inner=specs.inner._replace(per_worker=None))
    assert set(jax.tree.leaves(others, is_leaf=lambda s: isinstance(s, P))) == {P()}


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


def test_a_state_for_another_number_of_workers_is_refused():
    pair, step, x, targets = setting("optimistic", 3, qgenx.uniform(8))
    run = qgenx.map_workers(step, AXIS, workers=3)
    for state in (pair.init(x), qgenx.init(pair, x, workers=4)):
        with pytest.raises(ValueError, match=r"make the state by qgenx_jax.init"):
            run(x, state, targets)


def test_donation_reuses_the_buffers():
    pair, step, x, targets = setting("dual_extrapolation", 3, qgenx.uniform(8))
    run = qgenx.map_workers(step, AXIS, workers=3, donate=True)
    run(x, qgenx.init(pair, x, workers=3), targets)
    assert x["x"].is_deleted()


def test_wrong_arguments_say_what_to_do():
    optimizer = optax.sgd(0.1)
    x = jnp.zeros(3)
    with pytest.raises(ValueError, match=r"mesh and workers must not both be missing"):
        qgenx.map_workers(lambda p, s: (p, s), AXIS)
    with pytest.raises(ValueError, match=r"axis_name must be an axis of the mesh"):
        qgenx.init(optimizer, x, mesh_of(2), "other")
    with pytest.raises(ValueError, match=r"workers must be a whole number"):
        qgenx.init(optimizer, x, workers=0)
    run = qgenx.map_workers(lambda p, s, b: (p, s), AXIS, workers=3)
    with pytest.raises(ValueError, match=r"leading axis of length 3.*got \(2, 4\)"):
        run(x, optimizer.init(x), jnp.zeros((2, 4)))
    pair = qgenx.extra_sgd(0.1)

    def half(params, state):
        _, state = pair.extrapolation.update(params, state, params)
        return params, state

    with pytest.raises(ValueError, match=r"step must return a state of the structure"):
        qgenx.map_workers(half, AXIS, workers=2)(x, qgenx.init(pair, x, workers=2))
    with pytest.raises(ValueError, match=r"axis_name must be the name of an axis"):
        qgenx.local_params(x, AXIS)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ({"a": 3}, ("a",)),
        ({"a": 8}, ("a",)),
        ({"a": 2, "b": 4}, ("a", "b")),
        ({"a": 2, "b": 4}, ("b", "a")),
        ({"a": 2, "b": 2, "c": 2}, ("c", "a")),
        ({"a": 2, "b": 2, "c": 2}, ("c", "a", "b")),
    ],
)
def test_permutes_are_an_all_to_all(shape, axes):
    """What processes on CPUs do in its place; with tests/test_processes.py."""
    names, workers = tuple(shape), math.prod(shape[name] for name in axes)
    mesh = jax.make_mesh(
        tuple(shape.values()),
        names,
        (AxisType.Auto,) * len(names),
        devices=jax.devices()[: math.prod(shape.values())],
    )
    rows = jnp.arange(mesh.size * 2 * workers * 5).reshape(mesh.size, 2, workers, 5)

    def both(rows):
        moved = _workers.permuted(rows[0], axes, 1)
        return moved[None], jax.lax.all_to_all(rows[0], axes, 1, 1)[None]

    mapped = jax.shard_map(both, mesh=mesh, in_specs=P(names), out_specs=P(names))
    found, expected = jax.jit(mapped)(rows)
    np.testing.assert_array_equal(found, expected)
    if axes == names:
        np.testing.assert_array_equal(found, np.swapaxes(rows, 0, 2))


@pytest.mark.parametrize(
    ("processes", "workers", "platform", "permutes"),
    [(1, 3, "cpu", 0), (2, 3, "cpu", 2), (2, 3, "cuda", 0), (2, 5, "cpu", 0)],
)
def test_permutes_are_for_processes_on_cpus(
    monkeypatch, processes, workers, platform, permutes
):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(_workers, "MOST_TURNS", 4)
    mapped = jax.shard_map(
        lambda rows: _workers.all_to_all(rows[0], AXIS)[None],
        mesh=mesh_of(workers),
        in_specs=P(AXIS),
        out_specs=P(AXIS),
    )
    rows = jax.ShapeDtypeStruct((workers, workers, 5), jnp.uint8)
    text = jax.jit(mapped).trace(rows).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.collective_permute") == permutes
    assert text.count("stablehlo.all_to_all") == (permutes == 0)
