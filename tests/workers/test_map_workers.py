"""Running workers: the three ways agree, replicas stay identical, mistakes raise."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
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


@pytest.mark.quick
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


@pytest.mark.quick
def test_a_state_for_another_number_of_workers_is_refused():
    pair, step, x, targets = setting("optimistic", 3, qgenx.uniform(8))
    run = qgenx.map_workers(step, AXIS, workers=3)
    for state in (pair.init(x), qgenx.init(pair, x, workers=4)):
        with pytest.raises(ValueError, match=r"make the state by qgenx_jax.init"):
            run(x, state, targets)


@pytest.mark.quick
def test_donation_reuses_the_buffers():
    pair, step, x, targets = setting("dual_extrapolation", 3, qgenx.uniform(8))
    run = qgenx.map_workers(step, AXIS, workers=3, donate=True)
    run(x, qgenx.init(pair, x, workers=3), targets)
    assert x["x"].is_deleted()


@pytest.mark.quick
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


@pytest.mark.quick
def test_axes_and_meshes_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"must be one name where there is no mesh"):
        qgenx.map_workers(lambda p, s: (p, s), ("data", "more"), workers=2)
    with pytest.raises(ValueError, match=r"mesh must be a jax.sharding.Mesh, got 3"):
        qgenx.map_workers(lambda p, s: (p, s), AXIS, mesh=3)


DIFFERS = "the step's {} must be equal on all workers, got one that differs: {}"
STEPS = {
    "params alone": (lambda x, s, b: x, "step must return a tuple .*, got .*: return"),
    "nothing": (lambda x, s, b: None, "step must return a tuple .*, got NoneType: ret"),
    "another shape": (
        lambda x, s, b: (x[:1], s),
        "the step's params must have the sha",
    ),
    "another dtype": (
        lambda x, s, b: (x.astype("f2"), s),
        "the step's params must have the dtype float32 .*, got float16: return params",
    ),
    "another shape of state": (
        lambda x, s, b: (x, s[:1]),
        r"the step's state must have the shape \(3,\) .*, got \(1,\): return state",
    ),
    "exchanged by nobody": (lambda x, s, b: (x - b, s), DIFFERS.format("params", "if")),
    "state exchanged by nobody": (
        lambda x, s, b: (x, s + b),
        DIFFERS.format("state", "what"),
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("where", ["vmap", "shard_map"])
@pytest.mark.parametrize(
    ("step", "message"), [pytest.param(*row, id=name) for name, row in STEPS.items()]
)
def test_a_bad_step_is_refused(step, message, where):
    x = np.ones(3, np.float32)
    place = {"workers": 2} if where == "vmap" else {"mesh": mesh_of(2)}
    run = qgenx.map_workers(step, AXIS, **place)
    with pytest.raises(ValueError, match=f"^{message}"):
        jax.eval_shape(run, x, x, np.zeros((2, 3), np.float32))


@pytest.mark.quick
def test_a_step_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"step must be a function .*, got None: for"):
        qgenx.map_workers(None, AXIS, workers=2)
