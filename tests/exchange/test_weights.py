"""Weighted means: sum_k w_k V_k / sum_k w_k, with the weights in the same buffer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of, within_5_sigma
from tests.lib.hlo import collectives

BITS = qgenx.uniform(4, bucket_size=16)
WORKERS = 3
plainly = pytest.mark.plainly
X = np.random.default_rng(0).normal(size=(WORKERS, 20, 5)).astype(np.float32)
TOKENS = np.array([8, 1, 3], np.int32)
WAYS = [(None, "auto"), (BITS, "all_gather"), (BITS, "reduce_scatter")]


def mapped(run):
    def body(*each):
        return run(*jax.tree.map(lambda x: x[0], each))

    over = mesh_of(WORKERS)
    return jax.jit(jax.shard_map(body, mesh=over, in_specs=P(AXIS), out_specs=P()))


def weighted(quantizer, collective, exact=qgenx.no_leaves, seed=0):
    exchange = qgenx.exchange(
        AXIS, quantizer, collective=collective, exact=exact, key=seed
    )
    return lambda x, w: exchange.mean(x, exchange.init(), weight=w)[0]


def expected(x, w):
    return np.einsum("k,k...->...", w, np.asarray(x, np.float64)) / np.sum(w)


@plainly
@pytest.mark.parametrize(("quantizer", "collective"), WAYS)
def test_it_is_the_weighted_mean(quantizer, collective):
    """Exactly where nothing is rounded, in expectation otherwise."""
    if quantizer is None:
        found = mapped(weighted(None, collective))(X, TOKENS)
        return np.testing.assert_allclose(found, expected(X, TOKENS), 1e-5, 1e-6)
    exchange = qgenx.exchange(AXIS, quantizer, collective=collective)

    def one(x, w, seed):
        state = exchange.init()._replace(key=seed)
        return exchange.mean(x, state, weight=w)[0]

    keys = jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(0), 200))
    run = jax.vmap(one, (0, 0, None), out_axes=None, axis_name=AXIS)
    means = np.asarray(jax.jit(jax.vmap(run, (None, None, 0)))(X, TOKENS, keys))
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means)) + 1e-6
    within_5_sigma(means.mean(axis=0), expected(X, TOKENS), error, collective)


@plainly
@pytest.mark.parametrize(("quantizer", "collective"), WAYS)
def test_weights_that_are_special(quantizer, collective):
    run = mapped(weighted(quantizer, collective))
    broken = X.copy()
    broken[1] = np.nan
    found = run(broken, np.array([2, 0, 2], np.float32))
    assert np.all(np.isfinite(found)), "weight 0 adds nothing"
    np.testing.assert_array_equal(run(X, np.zeros(3, np.float32)), np.zeros((20, 5)))
    for bad in (-1.0, np.nan, np.inf):
        assert np.all(np.isnan(run(X, np.array([1, bad, 4], np.float32))))
    small = X * np.float32(1e-3)  # products and their sum do not overflow, weights do
    assert np.all(np.isnan(run(small, np.full(3, 3e38, np.float32))))


@plainly
def test_low_precision_leaves_that_stay_exact_are_not_rounded():
    x = {"a": jnp.asarray(X), "half": jnp.asarray(X[:, 0], jnp.bfloat16)}
    keep = lambda path, leaf: "half" in path  # noqa: E731
    found = mapped(weighted(BITS, "all_gather", keep))(x, TOKENS)["half"]
    np.testing.assert_allclose(found, expected(x["half"], TOKENS), 1e-6, 1e-6)


@pytest.mark.parametrize(("quantizer", "collective"), WAYS)
def test_it_rides_in_the_same_buffer(quantizer, collective):
    mean = qgenx.quantized_mean(AXIS, quantizer, collective=collective, exact=None)
    over = mapped(lambda x, w: mean.update(x, mean.init(x), weight=w)[0])
    text = over.lower(X, TOKENS).compile().as_text()
    traffic = mean.traffic(X[0], WORKERS, weighted=True)
    plain = mean.traffic(X[0], WORKERS)
    more = 4 * (WORKERS if quantizer is None else 1)  # an all-reduce has K slots
    assert traffic.payload_bytes == plain.payload_bytes + more
    if quantizer is not None:
        assert len({op for op, *_ in collectives(text)}) == len(traffic.phases)


@plainly
def test_tokens_through_a_chain_are_the_mean_over_all_tokens():
    """The gradient of the mean over all tokens, from means over a worker's own."""
    optimizer = optax.chain(qgenx.quantized_mean(AXIS, None), optax.sgd(1.0))

    def step(p, state, x, count):
        mask = jnp.arange(20) < count
        loss = lambda p: jnp.sum(mask * (x @ p) ** 2) / count  # noqa: E731
        gradient = jax.grad(loss)(qgenx.local_params(p, AXIS))
        return optimizer.update(gradient, state, p, weight=count)

    mesh, p = mesh_of(WORKERS), jnp.ones(5)
    state = qgenx.init(optimizer, p, mesh, AXIS)
    moved, _ = qgenx.map_workers(step, AXIS, mesh=mesh)(p, state, X, TOKENS)
    rows = np.concatenate([X[k, :n] for k, n in enumerate(TOKENS)]).astype(np.float64)
    gradient = 2 * rows.T @ (rows @ np.ones(5)) / len(rows)
    np.testing.assert_allclose(moved, -gradient, 1e-5)


@plainly
def test_its_derivative_is_that_of_the_weighted_mean():
    def run(x, w):
        return jax.grad(lambda x: jnp.sum(weighted(BITS, "all_gather")(x, w)))(x)

    found = jax.vmap(run, axis_name=AXIS)(X, TOKENS)
    shares = WORKERS * TOKENS / TOKENS.sum()  # K losses by vmap
    np.testing.assert_allclose(found, shares[:, None, None] * np.ones_like(X), 1e-6)


@plainly
@pytest.mark.parametrize("quantizer", [None, BITS])
def test_nobody_learns_a_weight_without_a_word(quantizer):
    mean = weighted(quantizer, "auto")
    by_both = jax.grad(lambda x, w: jnp.sum(mean(x, w)), argnums=(0, 1))
    for run in (by_both, jax.checkpoint(by_both)):
        with pytest.raises(ValueError, match="weight must be a constant to derivat"):
            jax.vmap(run, axis_name=AXIS)(X, jnp.float32(TOKENS))


@plainly
@pytest.mark.parametrize("around", [jax.checkpoint, jax.jit, lambda run: run])
def test_beside_what_is_learned_a_weight_is_a_constant(around):
    def loss(x, w):
        def body(total, _):
            return total + jnp.sum(weighted(BITS, "all_gather")(x, w)), None

        return jax.lax.scan(body, 0.0, length=2)[0]

    found = jax.vmap(jax.grad(around(loss)), axis_name=AXIS)(X, jnp.float32(TOKENS))
    shares = 2 * WORKERS * TOKENS / TOKENS.sum()
    np.testing.assert_allclose(found, shares[:, None, None] * np.ones_like(X), 1e-6)


@plainly
def test_what_is_refused():
    exchange = qgenx.exchange(None, BITS)
    state, x = exchange.init(), jnp.ones(20)
    for bad in (-1, float("nan"), jnp.ones(2), "8", True):
        with pytest.raises(ValueError, match="weight must be a finite number"):
            exchange.mean(x, state, weight=bad)
    pair = qgenx.q_genx(None, BITS)
    many = qgenx.accumulate(2, optax.chain(qgenx.quantized_mean(None, None)))
    of_averages = qgenx.chain(optax.clip(1.0), pair, qgenx.ema(0.5))
    methods = {
        "q_genx": qgenx.alternating(pair),
        "q_genx in a chain": qgenx.alternating(of_averages),
        "q_genx in skip_not_finite": qgenx.alternating(qgenx.skip_not_finite(pair)),
        "accumulate": many,
        "accumulate in a chain": optax.chain(optax.clip(1.0), many),
        "accumulate in skip_not_finite": qgenx.skip_not_finite(many),
    }
    for method in methods.values():
        with pytest.raises(ValueError, match="weight must be left out of the update"):
            method.update(x, method.init(x), x, weight=3)
    host = qgenx.exchange(("host", "chip"), BITS, collective="hierarchical")
    with pytest.raises(ValueError, match="must not be 'hierarchical' for weight="):
        jax.vmap(
            jax.vmap(
                lambda x: host.mean(x, host.init(), weight=1)[0], axis_name="chip"
            ),
            axis_name="host",
        )(jnp.ones((2, 2, 20)))
    with pytest.raises(ValueError, match="must not be 'hierarchical' for weight="):
        qgenx.quantized_mean(host).traffic(x, (2, 2), weighted=True)


@plainly
def test_a_constant_weight_is_a_plain_mean():
    found = mapped(lambda x: weighted(None, "auto")(x, 7))(X)
    np.testing.assert_allclose(found, X.mean(axis=0), 1e-5, 1e-6)
