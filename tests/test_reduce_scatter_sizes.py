"""The mean in two phases, for sizes around every multiple, and padding of any kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.exchanges import buckets_of, send_all, two_phases
from tests.lib.helpers import AXIS, vectors, within_5_sigma

pytestmark = pytest.mark.usefixtures("compiled_plainly")


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
def test_sizes_around_every_multiple(workers):
    """No coordinate is lost or moved; the mean is one step from the mean of `own`."""
    sizes = {0, 1, workers - 1, workers, 50 * workers - 1, 50 * workers + 1}
    cases = [(size, 50) for size in sorted(sizes)] + [(601 * workers, 4)]
    flats = {case: jnp.asarray(vectors(workers, case[0])) for case in cases}
    bits = {length: qgenx.uniform(4, bucket_size=length) for _, length in cases}
    exchanges = {length: two_phases(quantizer) for length, quantizer in bits.items()}

    def run(flats):
        return {
            (size, length): exchanges[length].send(flat, exchanges[length].init())[0]
            for (size, length), flat in flats.items()
        }

    found = jax.jit(jax.vmap(run, axis_name=AXIS))(flats)
    for (size, length), (mean, own, _) in found.items():
        flat, where = np.asarray(flats[size, length]), f"d = {size}"
        mean, own = np.asarray(mean), np.asarray(own)
        assert mean.shape == own.shape == flat.shape
        assert (mean == mean[:1]).all(), f"workers differ at {where}"
        middle = own.mean(axis=0)
        for low, high in buckets_of(size, workers, length):
            now = np.s_[..., low:high]
            step = np.abs(flat[now]).max(axis=1, keepdims=True) / 7 * (1 + 1e-4)
            assert (np.abs(own[now] - flat[now]) <= step).all(), f"own at {where}"
            step = np.abs(middle[now]).max() / 7 * (1 + 1e-4)
            assert (np.abs(mean[0][now] - middle[now]) <= step).all(), where


@pytest.mark.parametrize(
    ("quantizer", "second"),
    [
        (qgenx.min_max(1, bucket_size=4), None),
        (qgenx.exponential(3, norm=np.inf, bucket_size=4), qgenx.min_max(1)),
        (qgenx.min_max(1, bucket_size=4), qgenx.min_max(1, bucket_size=6)),
    ],
    ids=["min_max", "exponential, min_max", "min_max, other buckets"],
)
@pytest.mark.parametrize("size", [1799, 1800, 1802])
def test_padding_of_chunks_of_whole_buckets_is_in_no_norm(quantizer, second, size):
    """Chunks of 601 coordinates, or of less, are padded to whole buckets of 4."""
    flats = np.where(np.arange(size) % 2, 1.0, 2.0).astype(np.float32)
    exchange = two_phases(quantizer, second=second)
    (mean, _), own = send_all(exchange, jnp.asarray(np.tile(flats, (3, 1))))
    np.testing.assert_allclose(own, np.tile(flats, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(mean, flats, rtol=1e-6)


def test_what_follows_the_last_full_bucket_has_a_stream_of_its_own():
    """Else its roundings would repeat those of the first bucket."""
    length, size = 128, 2 * 129 * 128 - 60
    flat = np.full(size, 0.3, np.float32)
    flat[::length] = 1
    exchange = two_phases(qgenx.uniform(2, bucket_size=length))
    _, own = send_all(exchange, jnp.asarray(np.tile(flat, (2, 1))))
    tail = own[:, size // length * length :]
    assert tail.shape == (2, 68)
    share = (tail == own[:, : tail.shape[1]])[:, 1:].mean()
    # two independent roundings agree with probability 0.3^2 + 0.7^2
    within_5_sigma(share, 0.58, np.sqrt(0.58 * 0.42 / 134), "equal roundings")
