"""Workers that round together: the law of each, and the variance of their mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import qgenx_jax as qgenx
from qgenx_jax._codec.bits import ROUNDINGS, Joint
from qgenx_jax._exchange import streams
from qgenx_jax.bounds import exact_variance, mean_variance
from tests.lib.helpers import AXIS, vectors, within_5_sigma

DRAWS, SIZE = 600, 96
QUANTIZERS = {
    "uniform": qgenx.uniform(3, bucket_size=32),
    "one bit": qgenx.uniform(1, bucket_size=32),
    "min_max": qgenx.min_max(2, bucket_size=32),
    "magnitudes": qgenx.exponential(3, bucket_size=32),
    "no zero": qgenx.user_levels([0.2, 0.5, 1.0], zero=False, bucket_size=32),
    "signed": qgenx.user_levels([-1.0, -0.1, 0.2, 1.0], bucket_size=32),
    "range": qgenx.user_levels([0.2, 0.5, 1.0], norm="range", bucket_size=32),
    "dithered": qgenx.dithered(3, bend=0.8, bucket_size=32),
}


def drawn(quantizer, flats, axis_name=AXIS, seed=0, **settings):
    """Means (DRAWS, d), and own vectors (K, DRAWS, d), of as many exchanges."""
    exchange = qgenx.exchange(axis_name, quantizer, key=seed, **settings)

    def worker(flat):
        def one(state, _):
            (mean, own, _), state = exchange.send(flat, state)
            return state, (mean, own)

        return lax.scan(one, exchange.init(), None, length=DRAWS)[1]

    mapped = jax.vmap(worker, axis_name=axis_name, out_axes=(None, 0))
    return [np.asarray(x, np.float64) for x in jax.jit(mapped)(jnp.asarray(flats))]


def kinds_of(workers):
    """Vectors that are unlike, equal, opposite, and where turns of one hash fail."""
    unlike = vectors(workers, SIZE, seed=5)
    equal = np.broadcast_to(unlike[:1], unlike.shape)
    sign = np.where(np.arange(workers) % 2, -1, 1)[:, None].astype(np.float32)
    places = np.tile(np.float32([0.3, 0.97, 0.9])[:, None], (workers, 1))[:workers]
    hard = np.broadcast_to(places, unlike.shape).copy()
    hard[:, ::32] = 1.0  # of three levels: fractions are these
    return {"unlike": unlike, "equal": equal, "opposite": equal * sign, "hard": hard}


@pytest.mark.plainly
@pytest.mark.parametrize("workers", [3, 8])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_variance_of_the_mean_is_that_of_strata(name, workers):
    """As `bounds.mean_variance` has it: 5 sigma of the mean of squares over draws."""
    quantizer = QUANTIZERS[name]
    kinds = kinds_of(workers)
    if workers != 3:
        kinds = {"equal": kinds["equal"]}
    for kind, flats in kinds.items():
        means, _ = drawn(quantizer, flats, seed=workers)
        exact = flats.astype(np.float64).mean(axis=0)
        squares = ((means - exact) ** 2).sum(axis=1)
        expected = mean_variance(flats, quantizer).sum()
        alone = mean_variance(flats, quantizer, rounding="independent").sum()
        if name != "dithered":  # whose pairs of workers may be of either sign
            assert expected <= alone * (1 + 1e-9)
        bar = squares.std() / np.sqrt(DRAWS) + 1e-3 * alone  # strata of 2^16 / K
        within_5_sigma(squares.mean(), expected, bar, f"{name}, {kind} vectors")


@pytest.mark.plainly
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_dithers_turned_apart_are_independent_and_evenly_a_kth_of_it(rounding):
    """Of equal vectors: 5 sigma of squares over draws; and unbiased."""
    quantizer, flats = QUANTIZERS["dithered"], kinds_of(4)["equal"]
    means, _ = drawn(quantizer, flats, rounding=rounding)
    error = means - flats[0]
    bar = error.std(axis=0).max() / np.sqrt(DRAWS)
    within_5_sigma(error.mean(axis=0), 0, bar, "bias")
    squares = (error**2).sum(axis=1)
    alone = exact_variance(flats[0], quantizer).sum()
    expected = mean_variance(flats, quantizer, rounding=rounding).sum()
    within_5_sigma(squares.mean(), expected, squares.std() / np.sqrt(DRAWS), rounding)
    kth = 4 if rounding == "independent" else 16
    np.testing.assert_allclose(expected, alone / kth, rtol=0.08)


SECONDS = {
    "both": (QUANTIZERS["dithered"], None),
    "second alone": (qgenx.uniform(8, bucket_size=32), QUANTIZERS["dithered"]),
    "first alone": (QUANTIZERS["dithered"], qgenx.uniform(8, bucket_size=32)),
}


@pytest.mark.plainly
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("size", [96, 70])
def test_two_phases_take_off_the_bits_of_either(name, size, rounding):
    """Unbiased, with the variances of both phases to 20 %, also with short buckets."""
    first, second = SECONDS[name]
    flats = vectors(3, size, seed=8)
    settings = {"collective": "reduce_scatter", "rounding": rounding}
    means, owns = drawn(first, flats, second=second, **settings)
    error = means - flats.astype(np.float64).mean(axis=0)
    bar = error.std(axis=0).max() / np.sqrt(DRAWS)
    within_5_sigma(error.mean(axis=0), 0, bar, "bias")
    own = (owns - flats[:, None]).astype(np.float64)
    within_5_sigma(own.mean(axis=1), 0, own.std(axis=1).max() / np.sqrt(DRAWS), "own")
    chunk = 32 if size == 96 else -(-size // 3)
    of_means = [
        exact_variance(np.float32(flats.mean(axis=0)[i : i + chunk]), second or first)
        for i in range(0, size, chunk)
    ]
    of_first = (own.mean(axis=0) ** 2).sum(axis=1).mean()
    expected = of_first + sum(x.sum() for x in of_means)
    np.testing.assert_allclose((error**2).sum(axis=1).mean(), expected, rtol=0.2)


@pytest.mark.plainly
@pytest.mark.parametrize("name", ["uniform", "magnitudes"])
def test_a_workers_own_vector_has_the_law_that_it_has_alone(name):
    quantizer, flats = QUANTIZERS[name], vectors(3, SIZE, seed=6)
    means, owns = drawn(quantizer, flats)
    np.testing.assert_allclose(means, owns.mean(axis=0), rtol=1e-5, atol=1e-6)
    for flat, own in zip(flats, owns, strict=True):
        error = own - flat
        # of the widest one: what is next to a level hardly ever moves
        bar = error.std(axis=0).max() / np.sqrt(DRAWS)
        within_5_sigma(error.mean(axis=0), 0, bar, "bias")
        squares = (error**2).sum(axis=1)
        expected = exact_variance(flat, quantizer).sum()
        bar = squares.std() / np.sqrt(DRAWS)
        within_5_sigma(squares.mean(), expected, bar, "own variance")


@pytest.mark.plainly
def test_coordinates_of_the_mean_are_not_correlated():
    """Permutations and turns are a bucket's: they must not show between its places."""
    flats = np.full((3, SIZE), 0.3, np.float32)
    flats[:, 0] = 1.0
    means, _ = drawn(qgenx.uniform(2), flats)
    error = (means - means.mean(axis=0))[:, 1:]
    total = error.sum(axis=1) ** 2
    within_5_sigma(
        total.mean(), (error**2).sum(axis=1).mean(), total.std() / np.sqrt(DRAWS), "sum"
    )


@pytest.mark.plainly
def test_two_phases_and_hosts_round_together_too():
    """Equal vectors, K = 4, whose mean is sent in 8 bits."""
    flats = np.broadcast_to(vectors(1, 4 * 64, seed=7), (4, 4 * 64))
    first, second = qgenx.uniform(2, bucket_size=64), qgenx.uniform(8, bucket_size=64)
    found = {}
    for rounding in ROUNDINGS:
        settings = {"collective": "reduce_scatter", "second": second}
        means, _ = drawn(first, flats, rounding=rounding, **settings)
        found[rounding] = ((means - flats[0]) ** 2).sum(axis=1).mean()
    assert found["correlated"] < found["independent"] / 3, found

    def over_hosts(rounding):
        exchange = qgenx.exchange(
            ("host", "chip"), first, collective="hierarchical", rounding=rounding
        )

        def worker(flat):
            def one(state, _):
                mean, state = exchange.mean(flat, state)
                return state, mean

            return lax.scan(one, exchange.init(), None, length=DRAWS)[1]

        inner = jax.vmap(worker, axis_name="chip", out_axes=None)
        mapped = jax.jit(jax.vmap(inner, axis_name="host", out_axes=None))
        means = np.asarray(mapped(jnp.asarray(flats).reshape(2, 2, -1)))
        # chunks of two chips have equal places, and bits of their own
        halves = (means[:, :128] - flats[0, :128]), (means[:, 128:] - flats[0, 128:])
        return ((means - flats[0]) ** 2).sum(axis=1).mean(), halves

    together, halves = over_hosts("correlated")
    alone, _ = over_hosts("independent")
    expected = mean_variance(flats[:2].reshape(2, -1), first).sum()
    np.testing.assert_allclose(together, expected, rtol=0.1)
    assert together < alone / 1.5, (together, alone)
    equal = [np.sign(x) for x in halves]
    assert not np.array_equal(*equal)


@pytest.mark.quick
def test_one_worker_and_independent_rounding_have_keys_of_their_own():
    key, vector = jax.random.key(0), jnp.zeros(3)
    made = qgenx.exchange(None, QUANTIZERS["uniform"])
    (part,) = made._parts(made.layout(vector), {})

    def kinds(rounding):
        def worker(x):
            (found,) = streams.streams_of(key, [part], [x], AXIS, rounding)
            kind.append(type(found))
            return x

        kind = []
        jax.vmap(worker, axis_name=AXIS)(jnp.zeros((3, 3)))
        return kind[0]

    assert kinds("correlated") is Joint
    assert kinds("independent") is not Joint
    (alone,) = streams.streams_of(key, [part], [vector], None, "correlated")
    assert not isinstance(alone, Joint)


@pytest.mark.quick
def test_another_rounding_is_refused():
    with pytest.raises(ValueError, match="rounding must be one of"):
        qgenx.exchange(AXIS, qgenx.uniform(4), rounding="shared")
    ready = qgenx.exchange(AXIS, qgenx.uniform(4), rounding="independent")
    with pytest.raises(ValueError, match="rounding must be left out with an exchange"):
        qgenx.quantized_mean(ready, rounding="independent")
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4), rounding="independent")
    assert mean.exchange.rounding == "independent"
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), rounding="independent")
    assert pair.exchange.rounding == "independent"
