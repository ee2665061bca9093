"""A step that means another thing on a mesh than by vmap is refused there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.plainly

P = jnp.asarray(np.linspace(0.1, 1, 6, dtype=np.float32).reshape(2, 3))
X = jnp.stack([P + 1, P * 2])
PLACES = {
    "mesh": {"mesh": mesh_of(2)},
    "vmap": {"workers": 2},
    "lanes": {"mesh": mesh_of(1), "workers": 2},
}


def loss(p, x):
    return jnp.sum(jnp.sin(x * p) ** 2)


def local(p, axis):
    return qgenx.local_params(p, axis)


def scanned(p, x, axis):
    def body(total, _):
        return total + jax.grad(loss)(p, x), None

    return lax.scan(body, 0 * local(p, axis), length=2)[0]


def normed(q, x, axis):
    h = q * x
    m = lax.pmean(h, axis)
    v = lax.pmean((h - m) ** 2, axis)
    return jnp.sum((h - m) / jnp.sqrt(v + 1) * x)


SUMMED = {
    "a norm": lambda p, x, axis: (
        jax.grad(loss)(local(p, axis), x) * jnp.sum(jax.grad(loss)(p, x) ** 2)
    ),
    "an inner step": lambda p, x, axis: jax.grad(
        lambda q: loss(q - jax.grad(loss)(p, x), x)
    )(local(p, axis)),
    "in a scan": scanned,
    "in a jit": lambda p, x, axis: x * jax.jit(jax.grad(loss))(p, x),
    "of a jit": lambda p, x, axis: x * jax.grad(jax.jit(loss))(p, x),
    "of a checkpoint": lambda p, x, axis: x * jax.grad(jax.checkpoint(loss))(p, x),
    "before batch statistics": lambda p, x, axis: jax.grad(normed)(
        local(p - jax.grad(loss)(p, x), axis), x, axis
    ),
}
OWN = {
    "an inner step": lambda p, x, axis: jax.grad(
        lambda q: loss(q - jax.grad(loss)(q, x), x)
    )(local(p, axis)),
    "a mean inside": lambda p, x, axis: jax.grad(
        lambda q: jnp.sum(lax.pmean(q * x, axis) * x)
    )(local(p, axis)),
    "batch statistics": lambda p, x, axis: jax.grad(normed)(local(p, axis), x, axis),
    "batch statistics in a jit": lambda p, x, axis: jax.grad(
        jax.jit(lambda q: normed(q, x, axis))
    )(local(p, axis)),
    "batch statistics computed again": lambda p, x, axis: jax.grad(
        jax.checkpoint(lambda q: loss(q, x - lax.stop_gradient(lax.pmean(q * x, axis))))
    )(local(p, axis)),
    "batch statistics in a scan": lambda p, x, axis: jax.grad(
        lambda q: lax.scan(
            lambda c, _: (c + normed(q, x, axis), None), 0 * jnp.sum(q), length=2
        )[0]
    )(local(p, axis)),
    "a target": lambda p, x, axis: jax.grad(lambda q: jnp.sum(q * x * p) + loss(p, x))(
        local(p, axis)
    ),
    "a scan": lambda p, x, axis: jax.grad(
        lambda q: lax.scan(lambda c, _: (jnp.sin(c * q * p), None), q * x, length=3)[
            0
        ].sum()
    )(local(p, axis)),
    "rematerialized": lambda p, x, axis: jax.grad(
        jax.checkpoint(lambda q: loss(q * p, x))
    )(local(p, axis)),
}


def after(operator, place):
    axis = (AXIS, "lane") if place == "lanes" else AXIS
    optimizer = optax.chain(qgenx.quantized_mean(axis, None), optax.sgd(0.1))

    def step(params, state, x):
        moves, state = optimizer.update(operator(params, x, axis), state, params)
        return optax.apply_updates(params, moves), state

    where = PLACES[place]
    mesh, workers = where.get("mesh"), where.get("workers")
    state = qgenx.init(optimizer, P, mesh, axis if mesh else None, workers=workers)
    return np.asarray(qgenx.map_workers(step, axis, **where)(P, state, X)[0])


@pytest.mark.quick
@pytest.mark.parametrize("place", ["mesh", "lanes"])
@pytest.mark.parametrize("operator", SUMMED)
def test_a_gradient_of_what_was_handed_is_refused_on_a_mesh(operator, place):
    with pytest.raises(ValueError, match=r"step must not take a gradient .*value_and"):
        after(SUMMED[operator], place)


@pytest.mark.parametrize("operator", OWN)
def test_what_means_the_same_runs_everywhere(operator):
    expected = after(OWN[operator], "vmap")
    assert np.abs(expected - P).max() > 1e-3
    for place in ("mesh", "lanes"):
        np.testing.assert_allclose(after(OWN[operator], place), expected, 1e-6, 1e-7)
