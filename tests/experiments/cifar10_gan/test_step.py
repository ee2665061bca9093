"""Averages of weights against sums in float64."""

import jax
import jax.numpy as jnp
import numpy as np

import qgenx_jax as qgenx
from experiments.cifar10_gan import step
from experiments.cifar10_gan.step import Averages
from tests.lib.helpers import AXIS, vectors

DECAY = 0.9


def test_averages_are_the_sums_they_stand_for():
    weights = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    found = Averages.start({"w": jnp.asarray(weights[0])})
    for row in weights[1:]:
        found = found.add({"w": jnp.asarray(row)}, DECAY)
    wide = weights.astype(np.float64)
    moving = wide[0]
    for row in wide[1:]:
        moving = DECAY * moving + (1 - DECAY) * row
    assert int(found.uniform.count) == 8
    np.testing.assert_allclose(found.uniform.average["w"], wide.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.moving.average["w"], moving, rtol=1e-6)


def test_the_uniform_average_does_not_stagnate():
    """10^5 weights that move from 1 to 2: in plain float32 it is off by 1e-3."""
    count = 100_000
    weights = jnp.linspace(1, 2, count, dtype=jnp.float32)

    def add(found, w):
        return found.add(w, DECAY), None

    found, _ = jax.lax.scan(add, Averages.start(weights[0]), weights[1:])
    expected = np.asarray(weights, np.float64).mean()
    assert abs(float(found.uniform.average) - expected) < 2e-6


def test_the_start_shares_no_buffer_with_the_weights():
    weights = {"w": jnp.ones(3)}
    found = Averages.start(weights)
    jax.jit(lambda x: x, donate_argnums=0)(weights)
    assert not found.uniform.average["w"].is_deleted()
    assert not found.moving.average["w"].is_deleted()


def test_errors_are_those_of_the_exchange_where_they_are_measured():
    """Of each worker's vector and of the mean, by NumPy from what was decoded."""
    exchange = step._measuring(qgenx.exchange(AXIS, qgenx.dithered(3, bucket_size=64)))
    flats = vectors(3, 640)
    state = exchange.init()

    def run(flat, key, measured):
        found = step._errors(exchange, flat, state, key, measured, AXIS)
        own = exchange.quantize(flat, state._replace(key=key))
        return found, own, exchange.mean(flat, state)[0]

    keys = jax.random.split(jax.random.key(1), 3)
    mapped = jax.jit(jax.vmap(run, axis_name=AXIS))
    found, own, mean = mapped(flats, keys, jnp.ones(3, bool))
    expected = np.linalg.norm(own - flats, axis=1) / np.linalg.norm(flats, axis=1)
    np.testing.assert_allclose(found["quantization_error"], expected, rtol=1e-5)
    exact = flats.mean(axis=0)
    of_mean = np.linalg.norm(mean[0] - exact) / np.linalg.norm(exact)
    np.testing.assert_allclose(found["mean_error"], of_mean, rtol=1e-5)
    found, _, _ = mapped(flats, keys, jnp.zeros(3, bool))
    assert not found["mean_error"].any()
    assert not found["quantization_error"].any()
