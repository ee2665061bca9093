"""Fitted bends: the minimum by SciPy, what is learned in an exchange, what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import qgenx_jax as qgenx
from qgenx_jax.bounds import exact_variance
from tests.lib.helpers import AXIS

LAWS = {
    "normal": lambda rng: rng.standard_normal((3, 8192)),
    "heavy": lambda rng: rng.standard_t(3, (3, 8192)),
    "equal steps": lambda rng: rng.uniform(-1, 1, (3, 8192)),
}


def fitted(vectors, bits, bucket_size=1024, **settings):
    """(bend, predicted relative error) after an exchange, and by whom."""
    quantizer = qgenx.dithered(bits, bucket_size=bucket_size, **settings)
    exchange = qgenx.exchange(AXIS, quantizer)
    step = jax.jit(
        jax.vmap(
            lambda x: exchange.mean(x, exchange.init()), axis_name=AXIS, out_axes=None
        )
    )
    _, state = step(jnp.asarray(vectors, jnp.float32))
    predicted = state.adaptation.predicted["all"]
    return float(state.levels["all"][0]), float(predicted)


def relative_error(vectors, bits, bend, bucket_size=1024):
    quantizer = qgenx.dithered(bits, bend=bend, bucket_size=bucket_size)
    flat = np.float32(vectors)
    total = sum(exact_variance(v, quantizer, ideal=True).sum() for v in flat)
    return total / (flat.astype(float) ** 2).sum()


@pytest.mark.plainly
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("bits", [pytest.param(2, marks=pytest.mark.quick), 4, 8])
def test_the_bend_is_the_best_and_its_error_predicted(law, bits):
    """Within 1e-3 of the least error of all bends; predicted to 1 %."""
    vectors = LAWS[law](np.random.default_rng(0))
    bend, predicted = fitted(vectors, bits)
    best = optimize.minimize_scalar(
        lambda e: relative_error(vectors, bits, float(e)), bounds=(0, 8)
    )
    found = relative_error(vectors, bits, bend)
    assert found <= best.fun * 1.001, (bend, best.x)
    np.testing.assert_allclose(predicted, found, rtol=0.01)


@pytest.mark.plainly
def test_small_buckets_count_their_largest_coordinates():
    """Which are on a level of all tables, and on none of a dither."""
    vectors = LAWS["normal"](np.random.default_rng(1))
    bend, predicted = fitted(vectors, 3, bucket_size=16)
    found = relative_error(vectors, 3, bend, bucket_size=16)
    np.testing.assert_allclose(predicted, found, rtol=0.01)


@pytest.mark.plainly
@pytest.mark.quick
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_nothing_is_learned_of_nothing(bad):
    bend, predicted = fitted(np.full((3, 64), bad), 3)
    assert (bend, predicted) == (1.0, 0.0)


@pytest.mark.quick
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("bucket_size", [None, 1000, 64])
def test_fitting_by_hand_is_within_a_thousandth_of_the_best(law, bucket_size):
    vectors = LAWS[law](np.random.default_rng(2))
    bend = qgenx.fit_bend(list(np.float32(vectors)), 3, bucket_size=bucket_size)
    best = optimize.minimize_scalar(
        lambda e: relative_error(vectors, 3, float(e), bucket_size), bounds=(0, 8)
    )
    found = relative_error(vectors, 3, bend, bucket_size)
    assert found <= best.fun * 1.001, (bend, best.x)


@pytest.mark.quick
def test_fitting_by_hand_at_the_ends_of_ranges():
    v = np.random.default_rng(0).standard_normal(400)
    expected = qgenx.fit_bend(v, 4, bucket_size=16)
    for scale in (1e200, 1e-200, 1e300, 2.0**-1000):
        assert qgenx.fit_bend(scale * v, 4, bucket_size=16) == expected, scale


@pytest.mark.quick
def test_fitting_by_hand_learns_nothing_of_nothing_and_refuses():
    for bad in (np.zeros(5), np.full(5, np.nan), np.zeros(0)):
        assert qgenx.fit_bend(np.float32(bad), 4, bucket_size=None) == 1.0
    one = np.float32([np.inf, 1.0, 0.5, 0.25])
    assert qgenx.fit_bend(one, 2, bucket_size=2) == qgenx.fit_bend(
        one[2:], 2, bucket_size=2
    )
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 8"):
        qgenx.fit_bend(one, 9, bucket_size=2)
    with pytest.raises(ValueError, match="vectors must"):
        qgenx.fit_bend(np.arange(3), 4, bucket_size=None)
