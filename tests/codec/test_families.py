"""All families of quantizers: extremes, float64, levels, errors."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.schedule import Refresh
from tests.lib.helpers import within_5_sigma

plainly = pytest.mark.plainly

QUANTIZERS = {
    "sign": qgenx.uniform(1, bucket_size=64),
    "sign L2": qgenx.uniform(1, norm=2, bucket_size=64),
    "uniform 3": qgenx.uniform(3, bucket_size=64),
    "exponential 3": qgenx.exponential(3, bucket_size=64),
    "exponential 8": qgenx.exponential(8, norm=math.inf, bucket_size=64),
    "exponential L1": qgenx.exponential(4, norm=1, bucket_size=64),
    "user": qgenx.user_levels([0.03, 0.2, 0.45, 1.0], bucket_size=64),
    "no zero, 1 bit": qgenx.user_levels([1.0], zero=False, bucket_size=64),
    "no zero": qgenx.user_levels([0.1, 0.3, 1.0], zero=False, bucket_size=64),
    "no zero L2": qgenx.adaptive(4, norm=2, bucket_size=64),
    "signed, 1 bit": qgenx.user_levels([-1.0, 1.0], bucket_size=64),
    "signed": qgenx.user_levels([-1.0, -0.2, 0.1, 0.4, 1.0], bucket_size=64),
    "signed, adaptive": qgenx.adaptive(5, signed=True, norm=1, bucket_size=64),
    "adaptive with zero": qgenx.adaptive(3, zero=True, bucket_size=64),
    "min_max 1": qgenx.min_max(1, bucket_size=64),
    "min_max 4": qgenx.min_max(4, bucket_size=64),
    "min_max 8": qgenx.min_max(8, bucket_size=64),
    "range, 1 bit": qgenx.user_levels([1.0], norm="range", bucket_size=64),
    "range": qgenx.user_levels([0.1, 0.3, 1.0], norm="range", bucket_size=64),
    "range, adaptive": qgenx.adaptive(5, norm="range", bucket_size=64),
    "dithered 1": qgenx.dithered(1, bend=3.0, bucket_size=64),
    "dithered 3": qgenx.dithered(3, bend=0.8, bucket_size=64),
    "dithered 8": qgenx.dithered(8, bend=5.0, bucket_size=64),
}
OPTIMIZED = ("sign", "exponential 8", "min_max 4")  # as users run it
every_quantizer = pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[] if x in OPTIMIZED else plainly) for x in QUANTIZERS],
)


@every_quantizer
def test_extremes_zeros_and_what_is_not_finite(name):
    quantizer = QUANTIZERS[name]

    @jax.jit
    def compiled(x):
        return quantizer.decode(quantizer.encode(3, x), key=3)

    def roundtrip(values):
        """Of a short bucket, after a full one of zeros."""
        decoded = np.asarray(compiled(np.float32([*np.zeros(64), *values])))
        np.testing.assert_array_equal(decoded[:64], np.zeros(64))
        return decoded[64:]

    np.testing.assert_array_equal(roundtrip(np.zeros(4)), np.zeros(4))
    pattern = np.array([1.0, -1.0, 1.0, -1.0])
    largest = (3e38, 3.4028235e38)
    if quantizer.family == "dithered":  # whose values may exceed the norm
        largest = (3e37,)
    for size in (*largest, 1e20, 1e-20, 1e-36):
        values = roundtrip(pattern * size)
        assert np.isfinite(values).all(), f"{size}: {values}"
        assert np.abs(values).max() > 0.4 * size, f"{size} decoded to {values}"
    for bad in (np.nan, np.inf, -np.inf):
        assert np.isnan(roundtrip([1.0, bad, 0.0, 0.0])).all(), f"{bad} was hidden"


@every_quantizer
def test_float64_keeps_its_range_and_its_precision(name):
    quantizer = QUANTIZERS[name]
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=100)) * 1e200
        encode = jax.jit(quantizer.encode, static_argnums=0)
        decode = jax.jit(lambda payload, key: quantizer.decode(payload, key=key))
        payload = encode(0, x)
        y = decode(payload, jax.random.key(0))
        assert y.dtype == jnp.float64
        assert payload.nbytes == quantizer.n_bytes(100, "float64")
        assert np.isfinite(y).all()
        again = decode(encode(1, y), jax.random.key(1))
        if quantizer.norm in (math.inf, "range") and quantizer.family != "dithered":
            np.testing.assert_array_equal(again, y)  # on levels: nothing moves


@pytest.mark.quick
def test_wrong_levels_say_what_to_do():
    for levels in ([0.5, 0.2, 1.0], [0.5], [0.5, 2.0], [-0.5, 1.0], [], [np.nan, 1.0]):
        with pytest.raises(ValueError, match=r"levels must be increasing numbers"):
            qgenx.user_levels(levels)
    with pytest.raises(ValueError, match=r"levels must be at most 127"):
        qgenx.user_levels(np.linspace(0, 1, 200))
    with pytest.raises(ValueError, match=r"levels must be at least 2\^-50"):
        qgenx.user_levels([1e-30, 1.0])
    with pytest.raises(ValueError, match=r"levels must differ in their first 12"):
        qgenx.user_levels([0.5, 0.50001, 1.0])
    with pytest.raises(ValueError, match=r"levels must be left out"):
        qgenx.uniform(4).encode(0, jnp.ones(3), levels=jnp.ones(7))
    with pytest.raises(ValueError, match=r"levels must have the shape \(2,\)"):
        qgenx.user_levels([0.5, 1]).encode(0, jnp.ones(3), levels=jnp.ones(3))
    with pytest.raises(ValueError, match=r"base must be in \(0, 1\), got 1"):
        qgenx.exponential(4, base=1)
    with pytest.raises(ValueError, match=r"bits must be a whole number from 2 to 8"):
        qgenx.exponential(1)
    with pytest.raises(ValueError, match=r"bits must be a whole number from 1 to 8"):
        qgenx.min_max(0)


@pytest.mark.quick
def test_defaults_of_the_quantizers_are_the_documented_ones():
    common = {"bucket_size": 1024}
    assert qgenx.uniform() == qgenx.uniform(8, norm=math.inf, **common)
    assert qgenx.exponential() == qgenx.exponential(4, base=0.5, norm=2, **common)
    assert qgenx.min_max() == qgenx.min_max(8, **common)
    levels = [0.25, 1.0]
    user = qgenx.user_levels(levels, norm=math.inf, **common)
    assert qgenx.user_levels(levels) == user
    assert [q.bucket_size for q in (qgenx.uniform(), user)] == [1024, 1024]
    assert qgenx.exponential().norm == 2
    adaptive = qgenx.adaptive(4, zero=False, signed=False, norm=math.inf, **common)
    assert qgenx.adaptive() == adaptive
    assert adaptive.refresh == Refresh((0, 200, 1000, 5000), 10_000)


@pytest.mark.quick
def test_levels_that_are_fitted_begin_with_equal_steps():
    """And take as many as the bits can tell apart."""
    for bits in range(2, 9):
        n = 2 ** (bits - 1)
        cases = {(False, False): np.arange(1, 2 * n, 2) / (2 * n - 1)}
        cases[False, True] = np.linspace(-1, 1, 2 * n)
        if bits > 2:
            cases[True, False] = np.arange(1, n) / (n - 1)
        cases["range", False] = np.arange(1, 2 * n) / (2 * n - 1)
        for (zero, signed), expected in cases.items():
            by = {"norm": zero} if zero == "range" else {"zero": zero}
            found = qgenx.adaptive(bits, signed=signed, **by)
            np.testing.assert_allclose(found.levels, expected, rtol=2.0**-12)
            fixed = qgenx.user_levels(found.levels, **by)
            assert fixed == dataclasses.replace(found, refresh=None)
            assert fixed.bits == bits
    own = [0.1, 0.3, 0.5, 1.0]
    np.testing.assert_allclose(qgenx.adaptive(3, levels=own).levels, own, rtol=2**-12)


@plainly
def test_bytes_of_fitted_levels_are_those_of_the_same_ones_given():
    x = jnp.asarray(np.random.default_rng(0).normal(size=200), jnp.float32)
    fitted = qgenx.adaptive(3, levels=[0.1, 0.3, 0.5, 1.0], adapt=7)
    fixed = qgenx.user_levels([0.1, 0.3, 0.5, 1.0], zero=False)
    payloads = [q.encode(1, x).data for q in (fitted, fixed)]
    np.testing.assert_array_equal(*payloads)
    with pytest.raises(ValueError, match=r"payload must be encoded by"):
        fixed.decode(fitted.encode(1, x))  # levels may have moved since


@pytest.mark.quick
def test_levels_over_the_range_have_no_zero_and_no_signs():
    with pytest.raises(ValueError, match=r'signed must be False with norm="range", go'):
        qgenx.adaptive(4, norm="range", signed=True)
    with pytest.raises(ValueError, match=r'zero must be False with norm="range", got'):
        qgenx.adaptive(4, norm="range", zero=True)
    with pytest.raises(
        ValueError, match=r"bits must be at least 2, .* use min_max\(1\)"
    ):
        qgenx.adaptive(1, norm="range")
    with pytest.raises(ValueError, match=r"levels must be .* a bucket's minimum, and"):
        qgenx.user_levels([-1.0, 0.2, 1.0], norm="range")
    with pytest.raises(ValueError, match=r"levels must be at most 255, which 8 bits"):
        qgenx.user_levels(np.arange(1, 257) / 256, norm="range")
    with pytest.raises(ValueError, match=r"levels must be 15 for 4 bits, got '3 lev"):
        qgenx.adaptive(4, norm="range", levels=[0.1, 0.2, 1.0])
    with pytest.raises(ValueError, match=r"scale_bits must be one of 32, got 16"):
        qgenx.adaptive(4, norm="range", scale_bits=16)
    with pytest.raises(ValueError, match=r"norm must be one of 1, 2, inf, got 'range'"):
        qgenx.uniform(4, norm="range")
    with pytest.raises(ValueError, match=r"norm must be one of 1, 2, inf, got 'span'"):
        qgenx.adaptive(4, norm="span")
    for bits in range(1, 9):  # a leading 0 stands for the minimum, which is there
        levels = np.linspace(0, 1, 2**bits)
        assert qgenx.user_levels(levels, norm="range").bits == bits


AROUND_ZERO = {
    "no zero": (QUANTIZERS["no zero"], -0.1, 0.1),
    "no zero, 1 bit": (QUANTIZERS["no zero, 1 bit"], -1, 1),
    "signed": (QUANTIZERS["signed"], -0.2, 0.1),
    "signed, with a zero": (qgenx.user_levels([-1.0, 0.0, 0.5, 1.0]), 0, 0),
}


@plainly
@pytest.mark.parametrize("name", AROUND_ZERO)
def test_zero_becomes_a_level_beside_it_and_stays_zero_on_average(name):
    """Scales are 1, levels of 12 bits: 5 sigma of 60,000 coordinates."""
    quantizer, low, high = AROUND_ZERO[name]
    x = np.zeros(60_000 // 63 * 64, np.float32).reshape(-1, 64)
    x[:, 0] = 1
    run = jax.jit(lambda x: quantizer.decode(quantizer.encode(5, x)))
    zeros = np.asarray(run(x), np.float64)[:, 1:]
    levels = np.unique([low, high])
    np.testing.assert_allclose(np.unique(zeros), levels, rtol=2**-12)
    ups = (zeros == zeros.max()).mean()
    share = -low / (high - low) if high > low else 1.0
    error = math.sqrt(share * (1 - share) / zeros.size) + 2.0**-12
    within_5_sigma(ups, share, error, f"{name}: the level above zero")


@plainly
def test_values_on_levels_never_move():
    """At 200 scales of few bits, with either sign, whatever the random bits are."""
    rng = np.random.default_rng(3)
    scales = rng.integers(2**11, 2**12, 200) * 2.0 ** rng.integers(-40, 40, 200)
    names = "no zero", "no zero, 1 bit", "signed", "signed, 1 bit", "range"
    for name in (*names, "range, 1 bit"):
        quantizer = QUANTIZERS[name]
        table = np.array(quantizer.levels)
        if quantizer.family == "levels_without_zero":
            table = np.concatenate([-table[::-1], table])
        low = 0
        if quantizer.family == "range_levels":  # minima that keep sums exact
            table = np.array([0, *table])
            low = rng.integers(-(2**10), 2**10, 200)[:, None] * scales[:, None] / 2**11
            low = np.round(low / scales[:, None] * 8) / 8 * scales[:, None]
        x = rng.choice(table, (200, 64)) * scales[:, None]
        x[:, 0] = scales
        x[:, 1] = 0 if quantizer.family == "range_levels" else x[:, 1]
        x = x + low
        x = jnp.asarray(x, jnp.float32)
        decoded = jax.jit(
            lambda x, q=quantizer: [q.decode(q.encode(key, x)) for key in (1, 2)]
        )
        for found in decoded(x):
            np.testing.assert_array_equal(found, x, err_msg=name)


@pytest.mark.quick
def test_numpy_numbers_are_python_numbers():
    """np.uint8(2) - 4 is 254: sizes and powers must not be computed in it."""
    quantizer = qgenx.uniform(np.uint8(4), norm=np.float32(2), bucket_size=np.int8(64))
    assert quantizer == qgenx.uniform(4, norm=2, bucket_size=64)
    assert [type(x) for x in (quantizer.bits, quantizer.norm)] == [int, int]
    assert qgenx.exponential(np.int16(4), base=np.float32(0.5)) == qgenx.exponential(4)
