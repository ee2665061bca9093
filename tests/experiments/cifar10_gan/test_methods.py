"""Every optimizer of the program, on a game whose solution is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.cifar10_gan import methods, quantizers
from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.optimizers import NAMES, Q_GENX, SGDS

pytestmark = pytest.mark.usefixtures("compiled_plainly")

AXIS = "data"
WORKERS = 3
SIZE = 1100  # enough that `small_leaves` are quantized
FAR = 0.02  # the norm of the first vector is about 1, as Q-GenX's step sizes like it
START = {
    "generator": {"w": jnp.full((SIZE // 20, 20), FAR)},
    "discriminator": {"w": jnp.full((SIZE // 20, 20), FAR), "b": jnp.full(3, FAR)},
}


def dual_vector(params, offset):
    """A strongly monotone game, with an offset of each worker's own."""
    x, y = params["generator"]["w"], params["discriminator"]["w"]
    vector = {
        "generator": {"w": x + 0.5 * y + offset},
        "discriminator": {"w": y - 0.5 * x - offset, "b": params["discriminator"]["b"]},
    }
    return vector, {"loss": jnp.sum(x * y)}


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_approaches_the_solution(name):
    config = Config(
        optimizer=name,
        bits=6,
        gamma0_generator=0.3,
        gamma0_discriminator=0.3,
        initial_sum=1.0,
        learning_rate_generator=0.05 if name in SGDS else 0.05 * FAR,
        learning_rate_discriminator=0.05 if name in SGDS else 0.05 * FAR,
    )
    method = methods.create_method(config, AXIS)
    run = qgenx.map_workers(method.iterate(dual_vector), AXIS, workers=WORKERS)
    state = qgenx.init(method.optimizer, START, workers=WORKERS)
    offsets = np.random.default_rng(0).normal(size=(WORKERS, 1, SIZE // 20, 20))
    offsets -= offsets.mean(axis=0)
    offsets = jnp.asarray(0.1 * FAR * offsets.repeat(method.calls, axis=1), jnp.float32)
    params = START
    for _ in range(60):
        params, state, metrics = run(params, state, offsets)
    assert metrics["loss"].shape == (WORKERS, method.calls)
    distance = max(float(jnp.abs(leaf).mean()) for leaf in jax.tree.leaves(params))
    assert distance < 0.35 * FAR, (
        f"{name} is {distance / FAR:.2f} of the first distance from the solution"
    )


def test_q_genx_has_a_step_size_for_each_player():
    """The first extrapolation of player p has length gamma0_p K c^(-1/2) ||V_p||."""
    config = Config(
        optimizer="dual_extrapolation",
        bits=EXACT,
        gamma0_generator=0.02,
        gamma0_discriminator=0.005,
        initial_sum=4.0,
    )
    method = methods.create_method(config, AXIS)

    def ones(params, offset):
        del offset
        points = {p: jnp.mean(params[p]["w"]) for p in methods.PLAYERS}
        return jax.tree.map(jnp.ones_like, params), points

    run = qgenx.map_workers(method.iterate(ones), AXIS, workers=WORKERS)
    state = qgenx.init(method.optimizer, START, workers=WORKERS)
    _, _, at = run(START, state, jnp.zeros((WORKERS, 2)))
    for player, gamma0 in {"generator": 0.02, "discriminator": 0.005}.items():
        moved = at[player][0, 1] - at[player][0, 0]
        np.testing.assert_allclose(moved, -gamma0 * WORKERS / 2, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_of_an_iteration(name):
    """One or two exchanges; a number of 4 bytes rides with one of Q-GenX's."""
    config = Config(optimizer=name)
    method = methods.create_method(config, AXIS)
    calls = 2 if name in ("extra_adam", "extra_sgd", "dual_extrapolation") else 1
    assert method.calls == calls
    n_bytes = quantizers.create_quantizer(config).n_bytes(2 * SIZE)
    payload = n_bytes + 4 * 3  # the bias stays exact
    number = 4 if name in Q_GENX else 0
    expected = (WORKERS - 1) * (calls * payload + number)
    assert method.traffic(START, WORKERS).sent_bytes == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bits": EXACT}, None),
        ({"bits": 3, "bucket_size": 64}, qgenx.uniform(3, bucket_size=64)),
        ({"norm": "2"}, qgenx.uniform(4, norm=2)),
        ({"scale_bits": 16}, qgenx.uniform(4, scale_bits=16)),
        ({"family": "exponential"}, qgenx.exponential(4, norm=np.inf)),
        ({"family": "min_max", "bits": 1}, qgenx.min_max(1)),
    ],
)
def test_the_quantizer_is_the_configured_one(changes, expected):
    config = dataclasses.replace(Config(), **changes)
    config.validate()
    assert quantizers.create_quantizer(config) == expected


def test_rounding_is_the_configured_one():
    config = Config(rounding="independent", plan="size")
    assert quantizers.create_exchange(config, AXIS).rounding == "independent"
    assert quantizers.create_exchange(Config(), AXIS).rounding == "correlated"


def test_reduce_scatter_sends_less():
    """2 (K - 1) / K of a payload, and padding, in place of K - 1 payloads."""
    once, twice = (
        methods.create_method(
            Config(optimizer="adam", bucket_size=64, collective=which), AXIS
        )
        .traffic(START, WORKERS)
        .sent_bytes
        for which in ("all_gather", "reduce_scatter")
    )
    assert 2 / 3 * once <= twice < 0.8 * once


def test_leaves_stay_exact_as_configured():
    kept, none = (
        methods.create_method(Config(exact_leaves=which, optimizer="adam"), AXIS)
        .traffic(START, 2)
        .sent_bytes
        for which in ("small", "none")
    )
    n_bytes = quantizers.create_quantizer(Config()).n_bytes
    assert kept == n_bytes(2 * SIZE) + 4 * 3
    assert none == n_bytes(2 * SIZE + 3)
