"""`alternating` where flax keeps the optimizer: nnx.Optimizer, linen's TrainState."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of, vectors

pytest.importorskip("flax", reason="flax is in the extra `experiments`")

from flax import linen, nnx
from flax.training.train_state import TrainState

pytestmark = pytest.mark.usefixtures("compiled_plainly")

WORKERS = 2
CALLS = 4
BITS = qgenx.uniform(bits=4, bucket_size=16)
PAIRS = {
    "dual_extrapolation": qgenx.q_genx(AXIS, BITS, gamma0=0.05),
    "optimistic": qgenx.q_genx(AXIS, BITS, variant="optimistic", gamma0=0.05),
    "extra_adam": qgenx.chain(
        qgenx.quantized_mean(AXIS, BITS, exact=None), qgenx.extra_adam(0.05)
    ),
}
CELLS = [  # each pair and each place, and per-worker state in both places
    ("shard_map", "optimistic"),
    ("shard_map", "extra_adam"),
    ("vmap", "dual_extrapolation"),
]
X = jnp.asarray(vectors(WORKERS, 5 * 3)).reshape(WORKERS, 5, 3)
Y = jnp.asarray(vectors(WORKERS, 5, seed=1)).reshape(WORKERS, 5, 1)


class NnxModel(nnx.Module):
    """Two layers, and a variable that is no parameter."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.second = nnx.Linear(4, 1, rngs=rngs)
        self.scale = nnx.Variable(jnp.asarray(2.0))

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x))) * self.scale[...]


class LinenModel(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(jnp.tanh(linen.Dense(4)(x)))


def loss(prediction, y):
    return jnp.mean((prediction - y) ** 2)


def n_per_worker(specs):
    leaves = jax.tree.leaves(specs, is_leaf=lambda spec: isinstance(spec, P))
    return sum(spec == P(AXIS) for spec in leaves)


def places():
    return {"shard_map": {"mesh": mesh_of(WORKERS)}, "vmap": {"workers": WORKERS}}


def plain_loop(optimizer, apply, params, where):
    """The reference: parameters in a dict, jax.grad and the library's own loop."""

    def step(params, state, x, y):
        local = qgenx.local_params(params, AXIS)
        gradient = jax.grad(lambda p: loss(apply(p, x), y))(local)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    mesh = where.get("mesh")
    if mesh is not None:  # placed: one compilation
        params = jax.device_put(params, NamedSharding(mesh, P()))
    state = qgenx.init(
        optimizer, params, mesh, AXIS if mesh else None, workers=where.get("workers")
    )
    run = qgenx.map_workers(step, AXIS, **where)
    for _ in range(CALLS):
        params, state = run(params, state, X, Y)
    return params, state


def assert_same(actual, expected, start):
    """Parameters equal to 1e-6 by path, and not where they began."""
    actual, expected, start = (
        {
            jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (actual, expected, start)
    )
    assert actual.keys() == expected.keys() == start.keys()
    assert len(actual) == 4, "two layers of a kernel and a bias"
    for path, value in actual.items():
        np.testing.assert_allclose(value, expected[path], 1e-6, 1e-6, err_msg=path)
        assert np.abs(value - start[path]).max() > 1e-3, f"{path} did not move"


def nnx_setting(name):
    optimizer = qgenx.alternating(PAIRS[name])
    model = NnxModel(nnx.Rngs(0))
    return optimizer, model, nnx.Optimizer(model, optimizer, wrt=nnx.Param)


def nnx_expected(optimizer, model, where):
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    start = nnx.to_pure_dict(params)

    def apply(values, x):
        return nnx.merge(graph, nnx.State(values), rest)(x)

    return start, plain_loop(optimizer, apply, start, where)


def nnx_call(model, optimizer, x, y):
    """What a user of nnx writes, but for `local_params` around the parameters."""
    graph, state = nnx.split(model)
    local = nnx.merge(graph, qgenx.local_params(state, AXIS))
    gradient = nnx.grad(lambda model: loss(model(x), y))(local)
    optimizer.update(model, gradient)


def nnx_in_shard_map(model, optimizer):
    """Model and optimizer split together, laid out by `state_specs`."""
    graph, state = nnx.split((model, optimizer))
    specs = qgenx.state_specs(state, AXIS)
    state = qgenx.lay_out(state, mesh_of(WORKERS), AXIS)

    def worker(state, x, y):
        model, optimizer = nnx.merge(graph, state)
        nnx_call(model, optimizer, x[0], y[0])
        return nnx.split((model, optimizer))[1]

    run = jax.jit(
        jax.shard_map(
            worker,
            mesh=mesh_of(WORKERS),
            in_specs=(specs, P(AXIS), P(AXIS)),
            out_specs=specs,
        )
    )
    for _ in range(CALLS):
        state = run(state, X, Y)
    nnx.update((model, optimizer), state)


def nnx_in_vmap(model, optimizer):
    """The two split one by one, as the parameters and state of `map_workers`."""
    graph, params = nnx.split(model)
    other_graph, state = nnx.split(optimizer)
    state = qgenx.lay_out(state, workers=WORKERS)

    def worker(params, state, x, y):
        model, optimizer = nnx.merge(graph, params), nnx.merge(other_graph, state)
        nnx_call(model, optimizer, x, y)
        return nnx.split(model)[1], nnx.split(optimizer)[1]

    run = qgenx.map_workers(worker, AXIS, workers=WORKERS)
    for _ in range(CALLS):
        params, state = run(params, state, X, Y)
    nnx.update(model, params)
    nnx.update(optimizer, state)


@pytest.mark.parametrize(("place", "name"), CELLS)
def test_nnx_optimizer_equals_the_plain_loop(place, name):
    transformation, model, optimizer = nnx_setting(name)
    start, (expected, state) = nnx_expected(transformation, model, places()[place])
    {"shard_map": nnx_in_shard_map, "vmap": nnx_in_vmap}[place](model, optimizer)
    actual = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert_same(actual, expected, start)
    assert int(optimizer.step[...]) == CALLS
    assert float(model.scale[...]) == 2.0, "what is no parameter must not move"
    found = nnx.to_pure_dict(nnx.state(optimizer))["opt_state"]
    assert int(found["half_step"]) == int(state.half_step)
    per_worker = getattr(state.inner, "per_worker", None)
    if per_worker is None:
        assert "per_worker" not in found["inner"], "extra_adam keeps nothing per worker"
        return
    zeros = jax.tree.map(jnp.zeros_like, per_worker)
    assert_same(found["inner"]["per_worker"], per_worker, zeros)
    kernel = np.asarray(found["inner"]["per_worker"]["first"]["kernel"])
    assert kernel.shape == (WORKERS, 3, 4)
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-3, "workers' own vectors are equal"


@pytest.mark.parametrize("name", PAIRS)
def test_state_specs_find_per_worker_leaves_in_a_split_optimizer(name):
    """By their path: nnx.split turns the states' NamedTuples into dicts."""
    _, model, optimizer = nnx_setting(name)
    specs = qgenx.state_specs(nnx.split((model, optimizer))[1], AXIS)
    with_path = jax.tree_util.tree_leaves_with_path(
        specs, is_leaf=lambda spec: isinstance(spec, P)
    )
    for path, spec in with_path:
        where = jax.tree_util.keystr(path)
        assert spec == (P(AXIS) if "['per_worker']" in where else P()), where
    assert n_per_worker(specs) == (0 if name == "extra_adam" else 4)


@pytest.mark.parametrize(("place", "name"), [CELLS[0], CELLS[2]])
def test_train_state_equals_the_plain_loop(place, name):
    where = places()[place]
    optimizer, model = qgenx.alternating(PAIRS[name]), LinenModel()
    start = model.init(jax.random.key(0), X[0])["params"]

    def apply(params, x):
        return model.apply({"params": params}, x)

    train_state = TrainState.create(apply_fn=model.apply, params=start, tx=optimizer)
    specs = qgenx.state_specs(train_state, AXIS)
    assert n_per_worker(specs) == 4, "one worker's own vector for each parameter"
    mesh = where.get("mesh")
    train_state = qgenx.lay_out(
        train_state, mesh, AXIS if mesh else None, workers=where.get("workers")
    )

    def worker(nothing, train_state, x, y):
        local = qgenx.local_params(train_state.params, AXIS)
        gradient = jax.grad(lambda params: loss(apply(params, x), y))(local)
        return nothing, train_state.apply_gradients(grads=gradient)

    run = qgenx.map_workers(worker, AXIS, **where)
    for _ in range(CALLS):
        _, train_state = run((), train_state, X, Y)
    expected, state = plain_loop(optimizer, apply, start, where)
    assert_same(train_state.params, expected, start)
    assert int(train_state.step) == CALLS
    same = jax.tree.structure(train_state.opt_state) == jax.tree.structure(state)
    assert same, "the optimizer's state changed its structure"
