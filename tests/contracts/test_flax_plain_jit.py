"""flax in an ordinary jitted step over sharded arrays: two lines are changed.

`jax.value_and_grad` becomes `qgenx.value_and_grad(..., mesh=mesh)`, and
`quantized_mean(..., mesh=mesh)` is the first link of the chain.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

pytest.importorskip("flax", reason="flax is in the extra `experiments`")

from flax import linen, nnx
from flax.training.train_state import TrainState

pytestmark = pytest.mark.usefixtures("compiled_plainly")

WORKERS, CALLS = 4, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 8)).astype(np.float32)
Y = RNG.normal(size=(16, 1)).astype(np.float32)


class Model(nnx.Module):
    """Two layers, and a variable that is no parameter."""

    def __init__(self, rngs):
        self.first = nnx.Linear(8, 4, rngs=rngs)
        self.second = nnx.Linear(4, 1, rngs=rngs)
        self.scale = nnx.Variable(jnp.asarray(2.0))

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x))) * self.scale[...]


class WithDropout(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(8, 1, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.layer(x))


class Layers(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(jnp.tanh(linen.Dense(4)(x)))


def loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


def chained(mesh=None):
    adam = optax.adam(0.05)
    if mesh is None:
        return adam
    return optax.chain(qgenx.quantized_mean(AXIS, None, mesh=mesh), adam)


def trained(mesh=None):
    """An nnx model after some calls, by plain jit or by a mesh of workers."""
    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, chained(mesh), wrt=nnx.Param)
    differentiate = (
        nnx.value_and_grad(loss)
        if mesh is None
        else qgenx.value_and_grad(loss, AXIS, mesh=mesh)
    )

    @nnx.jit
    def step(model, optimizer, x, y):
        value, gradient = differentiate(model, x, y)
        optimizer.update(model, gradient)
        return value

    values = [step(model, optimizer, X, Y) for _ in range(CALLS)]
    assert int(optimizer.step[...]) == CALLS
    assert float(model.scale[...]) == 2.0, "what is no parameter must not move"
    return values, nnx.to_pure_dict(nnx.state(model, nnx.Param))


def close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), actual, expected
    )


def test_an_nnx_optimizer_trains_as_in_plain_jit():
    close(trained(mesh_of(WORKERS)), trained())


def test_a_train_state_trains_as_in_plain_jit():
    model = Layers()
    params = model.init(jax.random.key(0), X)
    mesh = mesh_of(WORKERS)

    def linen_loss(params, x, y):
        return jnp.mean((model.apply(params, x) - y) ** 2)

    def run(differentiate, tx):
        @jax.jit
        def step(state, x, y):
            value, gradient = differentiate(state.params, x, y)
            return state.apply_gradients(grads=gradient), value

        state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
        state = jax.device_put(state, NamedSharding(mesh, P()))
        for _ in range(CALLS):
            state, value = step(state, X, Y)
        return value, state.params

    ours = run(qgenx.value_and_grad(linen_loss, AXIS, mesh=mesh), chained(mesh))
    close(ours, run(jax.value_and_grad(linen_loss), chained()))


def test_dropout_of_a_module_is_given_its_own_state():
    """As a loss that is differentiated by the parameters, and returns what changes."""
    graph, params, rest = nnx.split(WithDropout(nnx.Rngs(0)), nnx.Param, ...)

    def split_loss(params, rest, key, x, y):
        model = nnx.merge(graph, params, rest, copy=True)
        nnx.reseed(model, default=key)
        return loss(model, x, y)

    run = jax.jit(
        qgenx.value_and_grad(split_loss, AXIS, mesh=mesh_of(WORKERS), replicated=1)
    )
    found = [run(params, rest, jax.random.key(k), X, Y)[0] for k in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_dropout_inside_what_is_differentiated_is_refused():
    differentiate = qgenx.value_and_grad(loss, AXIS, mesh=mesh_of(WORKERS))
    with pytest.raises(ValueError, match=r"count.*must be a floating-point.*nnx.split"):
        differentiate(WithDropout(nnx.Rngs(0)), X, Y)
