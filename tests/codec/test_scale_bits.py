"""Scales of 16 bits: rounded up to 8 significant bits, everything else as before."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.bounds import exact_variance, variance_bound
from tests.lib.helpers import vectors, within_5_sigma

MAKERS = {
    "uniform 4": lambda **kw: qgenx.uniform(4, **kw),
    "uniform 8": lambda **kw: qgenx.uniform(8, **kw),
    "one bit": lambda **kw: qgenx.uniform(1, **kw),
    "exponential": lambda **kw: qgenx.exponential(3, norm=math.inf, **kw),
    "without zero": lambda **kw: qgenx.user_levels([0.2, 1.0], zero=False, **kw),
    "signed": lambda **kw: qgenx.user_levels([-1.0, 0.1, 1.0], **kw),
    "adaptive": lambda **kw: qgenx.adaptive(3, **kw),
}
HEAVY = vectors(1, 1000, seed=8)[0] ** 3


def of_8_bits(x):
    """The least number of 8 significant bits that is at least x, float64."""
    fraction, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.ceil(fraction * 256) / 256, exponent)


@pytest.mark.quick
@pytest.mark.parametrize("name", MAKERS)
def test_scales_are_the_next_numbers_of_8_bits(name):
    """Of norms: times the levels per scale, 7 / 4 at 4 bits, 127 / 64 at 8."""
    quantizer = MAKERS[name](bucket_size=64, scale_bits=16)
    ratio = {"uniform 4": 7 / 4, "uniform 8": 127 / 64}.get(name, 1)
    payload = quantizer.encode(0, HEAVY)
    buckets = [HEAVY[i : i + 64] for i in range(0, 1000, 64)]
    norms = np.array([np.abs(x).max() for x in buckets], np.float64)
    found = np.concatenate([meta[:, 0] for _, meta in quantizer.records(payload)])
    np.testing.assert_array_equal(found, of_8_bits(norms / ratio))


@pytest.mark.quick
@pytest.mark.parametrize("name", MAKERS)
def test_two_bytes_less_a_bucket(name):
    narrow, wide = (MAKERS[name](bucket_size=64, scale_bits=n) for n in (16, 32))
    for size in (0, 1, 64, 65, 1000):
        buckets = -(-size // 64)
        assert narrow.n_bytes(size) == wide.n_bytes(size) - 2 * buckets
    assert narrow.encode(0, HEAVY).nbytes == narrow.n_bytes(1000)
    assert narrow != wide


@pytest.mark.parametrize("name", MAKERS)
def test_unbiased_with_the_variance_that_bounds_say(name):
    quantizer = MAKERS[name](bucket_size=64, scale_bits=16)
    keys = jax.random.split(jax.random.key(3), 500)
    decode = jax.jit(
        jax.vmap(lambda key: quantizer.decode(quantizer.encode(key, HEAVY)))
    )
    error = np.asarray(decode(keys), np.float64) - HEAVY
    widest = error.std(axis=0).max()
    within_5_sigma(error.mean(axis=0), 0, widest / np.sqrt(500), "bias")
    squares = (error**2).sum(axis=1)
    expected = exact_variance(HEAVY, quantizer).sum()
    bar = squares.std() / np.sqrt(500)
    within_5_sigma(squares.mean(), expected, bar, "variance")
    bound = variance_bound(quantizer, HEAVY.size, form="sharp")
    assert expected <= bound * (HEAVY.astype(np.float64) ** 2).sum()


@pytest.mark.quick
@pytest.mark.parametrize("name", MAKERS)
def test_nan_zeros_and_the_ends_of_the_range(name):
    quantizer = MAKERS[name](bucket_size=4, scale_bits=16)
    x = np.float32(
        [1, 2, np.nan, 4, 0, 0, 0, 0, 1e-30, 0, -1e-30, 0, 3e38, 1, 0, -3e38]
    )
    found = np.asarray(quantizer.decode(quantizer.encode(1, x)))
    assert np.isnan(found[:4]).all()
    np.testing.assert_array_equal(found[4:8], 0)
    assert np.isfinite(found[8:]).all()
    assert np.abs(found[8:12]).max() <= 1e-30 * (1 + 2**-7)
    assert np.abs(found[12:]).max() >= 3e38 / 8


@pytest.mark.quick
def test_smaller_buckets_of_narrow_scales_err_less_for_their_bits():
    """Heavy tails, 4 bits: error times 4^(bits beyond 4), a factor of 2 at least."""
    rng = np.random.default_rng(0)
    x = rng.standard_t(3, 2**14).astype(np.float32)

    def cost(**buckets):
        quantizer = qgenx.uniform(4, **buckets)
        more = 8 * quantizer.n_bytes(x.size) / x.size - 4
        return exact_variance(x, quantizer).sum() * 4**more

    assert cost(bucket_size=128, scale_bits=16) < cost() / 2
    assert cost(bucket_size=128, scale_bits=16) < cost(bucket_size=128)


@pytest.mark.quick
def test_exchanges_and_plans_take_them():
    quantizer = qgenx.uniform(4, bucket_size=64, scale_bits=16)
    flats = jnp.asarray(vectors(3, 1000))
    exchange = qgenx.exchange("k", quantizer)

    def worker(flat):
        (mean, own, _), _ = exchange.send(flat, exchange.init())
        return mean, own

    mean, own = jax.jit(jax.vmap(worker, axis_name="k", out_axes=(None, 0)))(flats)
    np.testing.assert_allclose(mean, own.mean(axis=0), rtol=1e-5, atol=1e-6)
    sent = exchange.traffic(flats[0], 3).sent_bytes
    assert sent == 2 * quantizer.n_bytes(1000)
    tree = {"a": np.asarray(flats[0]), "b": np.asarray(flats[1]) * 30}
    plan = qgenx.plan_bits(
        tree,
        bits_per_coordinate=4.3,
        bucket_size=64,
        scale_bits=16,
        candidates="fitted",
    )
    assert {x.scale_bits for x in plan.quantizers.values() if x} == {16}
    assert qgenx.Plan.from_json(plan.to_json()) == plan
    assert plan.exchange(None).traffic(tree, 1).phases[0].sent_exact == 0


@pytest.mark.quick
def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="scale_bits must be one of"):
        qgenx.uniform(4, scale_bits=8)
    with pytest.raises(ValueError, match="scale_bits must be one of"):
        qgenx.Quantizer("min_max", 4, math.inf, 1024, scale_bits=16)
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match=r"must not be float64 .* scale_bits=16"),
    ):
        qgenx.uniform(4, scale_bits=16).encode(0, jnp.zeros(3, jnp.float64))
