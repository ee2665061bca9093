"""What `gather_params` does: its bits, its law, forward by bits, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.cut_model import (
    KEY,
    QUANTIZERS,
    SPECS,
    WORKERS,
    in_shard_map,
    in_vmap,
    loss_of,
    problem,
)
from tests.lib.helpers import AXIS, mesh_of
from tests.lib.hlo import collectives

pytestmark = pytest.mark.plainly
of_each = pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)


@of_each
def test_bits_are_equal_in_shard_map_and_vmap(quantizer):
    loss = loss_of(quantizer, exact=None)
    found, mapped = in_shard_map(loss), in_vmap(loss)
    if quantizer is None:  # XLA orders float sums differently
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, mapped
        )
        return
    # the gradients themselves agree to 1e-6, and so what is rounded alike
    close = jax.tree.map(lambda a, b: np.mean(np.abs(a - b) < 1e-5), found, mapped)
    assert min(jax.tree.leaves(close)) > 0.98, close


@pytest.mark.parametrize("name", ["8 bits", "dithered", "rotated"])
@pytest.mark.parametrize("rounding", ["correlated", "independent"])
def test_the_gradient_is_unbiased_and_rounded_once(name, rounding):
    """Over keys: 5 sigma; and the variance is (1/K^2) sum_k var(g_k) at most."""
    quantizer = {
        "8 bits": qgenx.uniform(2, bucket_size=64),
        "dithered": qgenx.dithered(2, bend=1.0, bucket_size=64),
        "rotated": qgenx.rotated(qgenx.uniform(2, bucket_size=64)),
    }[name]
    own = np.random.default_rng(1).normal(size=(WORKERS, 8 * WORKERS * 4))
    own = jnp.asarray(own.reshape(WORKERS, 8 * WORKERS, 4), jnp.float32)

    def gradient(key):
        def loss(shard, target):
            x = qgenx.gather_params(
                shard,
                AXIS,
                quantizer,
                specs=P(AXIS),
                key=key,
                exact=None,
                rounding=rounding,
            )
            return jnp.vdot(x, target)

        shards = jnp.zeros((WORKERS, 8, 4))
        return jax.vmap(jax.grad(loss), axis_name=AXIS)(shards, own).reshape(-1, 4)

    found = jax.jit(jax.vmap(gradient))(jax.random.split(KEY, 3000))
    exact = own.mean(axis=0)
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - exact) <= 5 * error + 1e-6).all()
    variances = (
        [
            qgenx.bounds.exact_variance(row, quantizer)
            for k in range(WORKERS)
            for row in jnp.split(own[k].reshape(-1), WORKERS)
        ]
        if name == "8 bits"
        else None
    )
    if variances is not None:
        total = float(np.sum(found.var(axis=0)))
        bound = float(np.sum(variances)) / WORKERS**2
        assert total <= bound * (1 + 5 / np.sqrt(len(found)))
        if rounding == "independent":
            assert total >= bound * (1 - 5 / np.sqrt(len(found)))


@pytest.mark.parametrize("back", [None, qgenx.uniform(4)], ids=["exact", "4 bits"])
@pytest.mark.parametrize("name", ["8 bits", "a bucket over the end", "dithered"])
def test_forward_by_bits(back, name):
    quantizer = QUANTIZERS[name]

    def worker(shards):
        whole = qgenx.gather_params(
            shards, AXIS, back, specs=SPECS, key=KEY, forward=quantizer, exact=None
        )
        return jax.tree.map(lambda x: x[None], whole)

    params = problem()[0]
    run = jax.shard_map(
        worker, mesh=mesh_of(WORKERS), in_specs=(SPECS,), out_specs=P(AXIS)
    )
    found = jax.jit(run)(params)
    for name, x in params.items():
        for k in range(1, WORKERS):
            np.testing.assert_array_equal(found[name][0], found[name][k])
        # a step of the largest norm: buckets run on from leaf to leaf
        np.testing.assert_allclose(found[name][0], x, atol=3 / 127)
    assert (found["odd"][0] == params["odd"]).all()
    assert (found["first"][0] != params["first"]).any()


def test_layers_of_a_scan_are_gathered_one_by_one():
    """Under jax.checkpoint: at no time are all layers whole."""
    layers, width, mesh = 8, 64, mesh_of(WORKERS)
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(layers, width, width)))
    weights = weights.astype(jnp.float32) / 8

    def loss(shards, x, key):
        @jax.checkpoint
        def layer(x, given):
            shard, number = given
            whole = qgenx.gather_params(
                shard,
                AXIS,
                qgenx.uniform(8),
                specs=P(AXIS),
                key=jax.random.fold_in(key, number),
            )
            return jnp.tanh(x @ whole), None

        return jax.lax.scan(layer, x, (shards, jnp.arange(layers)))[0].mean()

    specs = (P(None, AXIS), P(AXIS), P())
    worker = lambda shards, x, key: jax.grad(loss)(shards, x[0], key)  # noqa: E731
    run = jax.jit(
        jax.shard_map(worker, mesh=mesh, in_specs=specs, out_specs=P(None, AXIS))
    )
    x = jnp.asarray(
        np.random.default_rng(1).normal(size=(WORKERS, 4, width)), jnp.float32
    )
    program = run.lower(weights, x, KEY).compile()
    found = run(weights, x, KEY)

    def plain(weights):
        def layer(x, w):
            return jnp.tanh(x @ w), None

        each = lambda x: jax.lax.scan(layer, x, weights)[0].mean()  # noqa: E731
        return jax.vmap(each)(x).mean()

    exact = jax.grad(plain)(weights)
    np.testing.assert_allclose(found, exact, atol=np.abs(exact).max() / 30)
    gathers = [n for op, _, n in collectives(program.as_text()) if op == "all-gather"]
    assert max(gathers) == width * width
