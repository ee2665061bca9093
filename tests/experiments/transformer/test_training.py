"""Runs of a tiny model: exact is plain Adam, two bits err, gradients are recorded."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.transformer import exchanges
from experiments.transformer.model import Decoder, next_byte_loss
from experiments.transformer.text import batches
from experiments.transformer.training import AXIS, Setting, train

pytestmark = pytest.mark.plainly
TINY = Setting(workers=2, sequences=2, length=8, layers=1, width=64, rate=1e-2, steps=4)
TEXT = np.random.default_rng(0).integers(97, 101, 500).astype(np.uint8)


def rows_of(name, record=None):
    return list(train(TINY, exchanges.create(name, AXIS, 0), TEXT, record))


def test_exact_is_adam_on_the_batch_of_all_workers():
    model = Decoder(1, 64, 1, 8)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    optimizer = optax.adam(optax.linear_schedule(0, 1e-2, 1))
    state, losses = optimizer.init(params), []
    for step in range(1, 5):
        tokens = batches(TEXT, step, (2, 2), 9, 0).reshape(4, 9).astype(np.int32)
        value, gradient = jax.value_and_grad(
            lambda p, tokens=tokens: next_byte_loss(model, p, jnp.asarray(tokens))
        )(params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(value)
    rows = rows_of("exact")
    np.testing.assert_allclose([row.loss for row in rows], losses, rtol=1e-4)
    assert max(row.error for row in rows) < 1e-5
    assert [row.step for row in rows] == [1, 2, 3, 4]


def test_two_bits_err_and_the_best_two_bits_less(tmp_path):
    paper, best = rows_of("uniform2"), rows_of("best2", {2: tmp_path / "000002.npz"})
    assert 0 < best[0].error < paper[0].error / 2
    assert sorted(x.name for x in tmp_path.rglob("*.npz")) == [
        "000002-1.npz",
        "000002.npz",
    ]
    with np.load(tmp_path / "000002.npz") as file:
        sizes = sum(file[name].size for name in file.files)
    model = Decoder(1, 64, 1, 8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
    assert sizes == sum(x.size for x in jax.tree.leaves(shapes))
