"""What every strategy does: a table of strategies, and numbers that ride along."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import qgenx_jax as qgenx
from qgenx_jax._codec.coder import Raw
from qgenx_jax._codec.quantizer import coder_of
from qgenx_jax._exchange import strategy
from qgenx_jax._exchange.choice import ONE_AXIS
from qgenx_jax._exchange.parts import Part
from qgenx_jax._exchange.strategy import Wanted
from tests.lib.helpers import AXIS, vectors, within_5_sigma

quick = pytest.mark.quick
pytestmark = pytest.mark.plainly

WORKERS, SIZE = 3, 21
FLOAT = np.dtype("float32")
EXACT = Part(None, SIZE, FLOAT, Raw(FLOAT), Raw(FLOAT))
CODER = coder_of(qgenx.uniform(8, bucket_size=8), FLOAT)
CODED = Part("all", SIZE, FLOAT, CODER, CODER)


def run(way, parts, wanted):
    """(means, own, scalars, own without a collective), with a row for each worker."""
    flats = jnp.asarray(vectors(WORKERS, SIZE))
    keys = jax.random.split(jax.random.key(0), WORKERS)

    def worker(flat, key):
        given = parts, [flat] * len(parts), [key] * len(parts)
        found = way.mean(*given, wanted, AXIS)
        alone = way.own(*given, AXIS)
        means, own, alone = (
            x if x is None else [jnp.concatenate(pieces) for pieces in x]
            for x in (found.means, found.own, alone)
        )
        return means, own, found.scalars, alone

    return np.asarray(flats), jax.jit(jax.vmap(worker, axis_name=AXIS))(flats, keys)


def first_two(own):
    return jnp.concatenate(own[0])[:2]


@quick
@pytest.mark.parametrize("name", ONE_AXIS)
def test_exact_parts_have_their_mean_on_all_workers(name):
    flats, (means, own, numbers, alone) = run(
        ONE_AXIS[name], [EXACT], Wanted(True, first_two)
    )
    expected = np.broadcast_to(flats.mean(axis=0, dtype=np.float64), flats.shape)
    np.testing.assert_allclose(means[0], expected, rtol=1e-6, atol=1e-7)
    for found in (own[0], alone[0]):
        np.testing.assert_array_equal(found, flats)
    # (K, m) on each of K workers
    np.testing.assert_array_equal(numbers, [flats[:, :2]] * WORKERS)


@quick
@pytest.mark.parametrize("name", [x for x in ONE_AXIS if x != "exact"])
def test_own_vectors_are_those_that_are_averaged(name):
    """To the step of the second rounding, where there is one."""
    flats, (means, own, numbers, alone) = run(
        ONE_AXIS[name], [CODED], Wanted(True, first_two)
    )
    np.testing.assert_array_equal(own[0], alone[0])
    np.testing.assert_array_equal(numbers, [np.asarray(own[0])[:, :2]] * WORKERS)
    step = np.abs(flats).max() / 127
    assert 0 < np.abs(own[0] - flats).max() < 1.01 * step
    for mean in means[0]:
        np.testing.assert_array_equal(mean, means[0][0])
    once = np.asarray(own[0]).mean(axis=0)
    bar = 1e-6 if name == "all_gather" else 1.01 * step
    np.testing.assert_allclose(means[0][0], once, rtol=0, atol=bar)


@quick
@pytest.mark.parametrize("name", ONE_AXIS)
def test_no_numbers_come_where_none_are_wanted(name):
    parts = [EXACT] if name == "exact" else [CODED]
    _, (_, _, numbers, _) = run(ONE_AXIS[name], parts, Wanted())
    assert numbers is None


@quick
@pytest.mark.parametrize("name", ONE_AXIS)
def test_phases_account_for_parts_and_numbers(name):
    way, parts = ONE_AXIS[name], [EXACT] if name == "exact" else [CODED, EXACT]
    plain, ridden = (way.phases(parts, WORKERS, n) for n in (0, 8))
    assert way.name == name
    for phase in (*plain, *ridden):
        groups = sum(phase.sent_by_group.values())
        assert groups + phase.sent_exact + phase.sent_scalar == phase.sent_bytes
        assert phase.workers == WORKERS
    assert sum(phase.sent_scalar for phase in plain) == 0
    # each number reaches each of the others
    assert sum(phase.sent_scalar for phase in ridden) >= 8 * (WORKERS - 1)


@quick
@pytest.mark.parametrize("name", [x for x in ONE_AXIS if x != "reduce_scatter"])
def test_a_second_quantizer_is_refused_where_no_mean_is_encoded_again(name):
    quantizer = None if name == "exact" else qgenx.uniform(4)
    with pytest.raises(ValueError, match=r"^second must be left out"):
        qgenx.exchange(AXIS, quantizer, collective=name, second=qgenx.uniform(8))


@quick
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, "int32"),
        (2.5, "float32"),
        (jnp.bfloat16(0.5), "float32"),
        (np.float32([1, 2]), "float32"),
        (jnp.array(3, "int32"), "int32"),
    ],
    ids=str,
)
def test_numbers_keep_their_dtype_or_are_widened(value, dtype):
    found = strategy.scalars(value)
    assert found.shape == np.shape(value)
    np.testing.assert_array_equal(found, np.asarray(value, np.float64))
    assert found.dtype == dtype


@quick
@pytest.mark.parametrize(
    "value", [np.ones((1, 1)), "1", None, 1j * np.ones(2), [1.0], np.array([True])]
)
def test_what_is_no_number_is_refused(value):
    rule = r"scalar must return one real number, or a short vector.*: sum up what it re"
    with pytest.raises(ValueError, match=rule):
        strategy.scalars(value)


@quick
@pytest.mark.parametrize("numbers", [None, np.arange(6, dtype=FLOAT).reshape(3, 2)])
def test_gather_gives_everyones_bytes_in_the_order_of_workers(numbers):
    rng = np.random.default_rng(0)
    sent = [rng.integers(0, 256, (WORKERS, n), dtype=np.uint8) for n in (5, 0, 8)]

    def worker(sent, mine):
        return strategy.gather(sent, mine, AXIS)

    gathered, scalars = jax.vmap(worker, axis_name=AXIS)(sent, numbers)
    for k in range(WORKERS):
        np.testing.assert_array_equal(gathered[k], np.concatenate(sent, axis=1))
        if numbers is not None:
            np.testing.assert_array_equal(scalars[k], numbers)
    assert numbers is not None or scalars is None


NO_ZERO = qgenx.user_levels([0.1, 0.3, 0.5, 1.0], zero=False, bucket_size=4)
SIGNED = qgenx.user_levels([-1.0, -0.1, 0.2, 0.5, 1.0], bucket_size=4)
OVER_RANGE = qgenx.user_levels([0.1, 0.2, 0.5, 1.0], norm="range", bucket_size=4)


@pytest.mark.parametrize(
    ("quantizer", "collective"),
    [
        (NO_ZERO, "reduce_scatter"),
        (SIGNED, "all_gather"),
        (SIGNED, "reduce_scatter"),
        (OVER_RANGE, "all_gather"),
        (OVER_RANGE, "reduce_scatter"),
    ],
    ids=str,
)
def test_means_by_levels_without_zero_are_unbiased(quantizer, collective):
    """Zeros, too, and those beside padding, which is in no norm or range: 5 sigma,
    2,000 draws.

    Of 3 workers' 17 coordinates a chunk has 6, the last one 1 of padding.
    """
    draws, size = 2000, 17
    flats = vectors(3, size, seed=5)
    flats[:, ::5], flats[:, 16] = 0, 0.5
    exchange = qgenx.exchange(AXIS, quantizer, collective=collective)

    def run(flat):
        def again(state, _):
            mean, state = exchange.mean(flat, state)
            return state, mean

        return lax.scan(again, exchange.init(), None, length=draws)[1]

    mapped = jax.vmap(run, axis_name=AXIS, out_axes=None)
    found = np.asarray(jax.jit(mapped)(jnp.asarray(flats)), np.float64)
    error = found.std(axis=0) / np.sqrt(draws) + 1e-4  # 2^-12 of the norms
    within_5_sigma(found.mean(axis=0), flats.mean(axis=0), error, "mean")
    assert (found[:, 0] != 0).mean() > 0.5, "zero is no level"
