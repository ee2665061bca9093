"""The GAN as the network benchmark's workers train it, on simulated devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.benchmarks.network import gan
from experiments.cifar10_gan import methods
from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.place import AXIS

SHAPE = {"collective": "auto", "model": "dcgan", "width": 1, "batch": 1}

pytestmark = pytest.mark.usefixtures("compiled_plainly")


@pytest.fixture(autouse=True)
def _two_workers(monkeypatch):
    devices = jax.devices()
    monkeypatch.setattr(jax, "devices", lambda: devices[:2])
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])


def test_bytes_of_an_iteration_are_those_of_two_exchanges():
    facts = {
        bits: gan.prepare(bits, **SHAPE)[1]
        for bits in ("compute", "exact", "bf16", "4")
    }
    assert {fact["exchanges"] for fact in facts.values()} == {2}
    (size,) = {fact["coordinates"] for fact in facts.values()}
    # a ring of two sends every byte once
    sent = {bits: fact["sent_bytes"] for bits, fact in facts.items()}
    assert sent["exact"] == 2 * 4 * size
    assert sent["bf16"] == 2 * 2 * size
    assert sent["compute"] == 0
    # under 1024 elements a leaf stays exact: all but the dense layer of 128 x 64
    dense = 128 * 64
    assert sent["4"] == 2 * (4 * (size - dense) + dense // 2 + 4 * (dense // 1024))


def test_an_iteration_in_bf16_is_the_exact_one_of_rounded_vectors():
    """Means of two that are exact in bfloat16; 1 + 2^-9 is rounded to 1."""
    config = Config(workers=2)
    exact = methods.create_method(dataclasses.replace(config, bits=EXACT), AXIS)
    params = {player: jnp.zeros(4) for player in methods.PLAYERS}
    rows = jnp.asarray([[1.0, 1 + 2**-9, -3.0, 0.5], [2.0, 2.0, 1.0, 0.25]])
    targets = jnp.stack([rows, rows], axis=1)  # worker, call, coordinate

    def after(method, targets):
        step = method.iterate(lambda _, row: (dict.fromkeys(methods.PLAYERS, row), {}))
        run = qgenx.map_workers(step, AXIS, workers=2)
        state = qgenx.init(method.optimizer, params, workers=2)
        params_after, state, _ = run(params, state, targets)
        return jax.tree.leaves((params_after, state))

    narrow = after(gan.in_bf16(config, exact), targets)
    rounded = after(exact, targets.astype(jnp.bfloat16).astype(jnp.float32))
    moments = [x for x in rounded if x.shape == (4,)]
    assert len(moments) >= 6
    narrow = [x for x in narrow if x.shape == (4,)]
    for one, other in zip(narrow, moments, strict=True):
        np.testing.assert_array_equal(one, other)
    different = [x for x in after(exact, targets) if x.shape == (4,)]
    assert any(
        not np.array_equal(a, b) for a, b in zip(moments, different, strict=True)
    )
