"""Levels of one's own and of `exponential`: where they are, and what they decode to."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.levels import lookup, neighbours, truncate
from tests.lib.helpers import within_5_sigma

pytestmark = pytest.mark.quick

plainly = pytest.mark.plainly


def test_exponential_levels_are_geometric():
    assert qgenx.exponential(4, base=0.5).levels == tuple(
        2.0 ** (j - 7) for j in range(1, 8)
    )
    thirds = qgenx.exponential(3, base=1 / 3).levels
    np.testing.assert_allclose(thirds, [1 / 9, 1 / 3, 1], rtol=2.0**-12)


def test_lowest_exponential_levels_stop_at_the_same_point():
    levels = qgenx.exponential(8, base=0.5).levels
    exact = [max(2.0**-k, 2.0**-50) for k in range(126, -1, -1)]
    assert list(levels) == exact


@plainly
def test_truncation_is_that_of_the_significant_bits():
    values = np.array([0.1, 1.0, 0.3333])
    truncated = np.asarray(truncate(jnp.asarray(values, jnp.float32)))
    assert (truncated <= values + 1e-7).all()
    np.testing.assert_allclose(truncated, values, rtol=2.0**-11)


@plainly
def test_the_lowest_level_of_small_buckets_is_unbiased():
    """Half of the lowest level, 2^-50, becomes it half of the time, at any norm."""
    quantizer = qgenx.exponential(8, norm=math.inf, bucket_size=None)
    norms = 2.0 ** np.array([-66.0, -64, -63, -62, -60, 0, 60, 62])[:, None]
    vectors = np.full((len(norms), 4097), 2.0**-51) * norms
    vectors[:, :1] = norms
    keys = jax.random.split(jax.random.key(0), len(norms))

    def roundtrip(key, vector):
        return quantizer.decode(quantizer.encode(key, vector))

    decoded = jax.jit(jax.vmap(roundtrip))(keys, jnp.asarray(vectors, jnp.float32))
    ups = (np.asarray(decoded)[:, 1:] > 0).mean(axis=1)
    within_5_sigma(ups, 0.5, 0.5 / np.sqrt(4096), "the lowest level's share")


@plainly
def test_levels_from_a_state_replace_the_quantizers_own():
    quantizer = qgenx.user_levels([0.1, 0.5, 1.0], bucket_size=None)
    exchange = qgenx.exchange("data", quantizer)
    state = exchange.init()
    np.testing.assert_allclose(state.levels["all"], [0.1, 0.5, 1.0], rtol=2.0**-11)
    vector = jnp.asarray([1.0, 0.25, -0.25, 0.75])
    traces = []

    @jax.jit
    def mean(levels):
        traces.append(1)

        def run(v):
            return exchange.send(v, state._replace(levels={"all": levels}))[0][0]

        return jax.vmap(run, axis_name="data", out_axes=None)(vector[None])

    exact = mean(jnp.array([0.25, 0.75, 1.0]))
    np.testing.assert_array_equal(exact, vector)
    assert not np.array_equal(mean(state.levels["all"]), vector)
    assert len(traces) == 1, "new levels must not recompile"


def test_levels_that_break_the_rule_at_run_time_give_nan():
    """In a compiled program nothing can be raised: the mean is loud, not wrong."""
    quantizer = qgenx.user_levels([0.25, 0.5, 1.0])
    x = np.full(3, 0.3, np.float32)

    @jax.jit
    def sent(levels):
        return quantizer.decode(quantizer.encode(0, x, levels), levels)

    assert np.isfinite(sent(np.float32([0.0, 0.5, 1]))).all()
    for levels in ([0.5, 0.2, 1], [0.1, np.nan, 1], [0.1, 0.2, 0.5], [-0.1, 0.2, 1]):
        assert np.isnan(sent(np.float32(levels))).all(), f"a number for {levels}"


@plainly
def test_so_do_those_without_zero_and_signed_ones():
    x = np.float32([0.3, -1, 0])
    no_zero = qgenx.user_levels([0.25, 0.5, 1.0], zero=False)
    signed = qgenx.user_levels([-1, 0.5, 1.0])

    def sent(levels, q):
        return q.decode(q.encode(0, x, levels), levels)

    wrong = [0.5, 0.2, 1], [-1, np.nan, 1], [-1, 0.2, 0.5], [-0.5, 0.2, 1]
    for quantizer, right in ((no_zero, [0.0, 0.5, 1]), (signed, [-1, -1, 1])):
        both = jax.jit(lambda levels, q=quantizer: sent(levels, q))
        assert np.isfinite(both(np.float32(right))).all()
        for levels in wrong:
            assert np.isnan(both(np.float32(levels))).all(), f"{quantizer}, {levels}"


@plainly
@pytest.mark.parametrize("size", [*range(1, 10), 15, 16, 17])
def test_neighbours_and_lookup_are_a_search_and_a_subscript(size):
    """On levels, beside them and beyond the last, with equal ones among them."""
    rng = np.random.default_rng(size)
    levels = np.sort(rng.integers(1, 2 * size + 1, size)).astype(np.float32)
    scale = np.float32([[1], [0.25], [8]])
    steps = np.concatenate([levels, levels - 0.5, levels + 0.5, [-1, 0]])
    value = scale * np.clip(steps, -1, levels[-1])[None].astype(np.float32)
    for lowest in (None, -1.0):
        if lowest is None:
            value = np.abs(value)
        least = None if lowest is None else jnp.float32(lowest)
        run = jax.jit(lambda v, of, least=least: neighbours(v, of, scale, least))
        below, low, high = map(np.asarray, run(value, levels))
        table = np.concatenate([[0 if lowest is None else lowest], levels])
        index = np.searchsorted(levels[:-1], value / scale, "right")
        np.testing.assert_array_equal(below, index)
        np.testing.assert_array_equal(low, table[index] * scale)
        np.testing.assert_array_equal(high, table[index + 1] * scale)
    index = rng.integers(0, size, (3, 50), np.int32)
    found = jax.jit(lookup)(jnp.asarray(levels), index)
    np.testing.assert_array_equal(found, levels[index])
