"""Times, which tests run and do not judge; and the fit of a link."""

import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.check import clock
from tests.lib.helpers import AXIS, mesh_of


@pytest.mark.quick
@pytest.mark.parametrize(
    ("latency", "per_byte"), [(1e-4, 1e-9), (0.0, 1e-9), (1e-3, 0.0)]
)
def test_a_link_is_found_again(latency, per_byte):
    sizes = np.array(clock.BUFFERS, float)
    found = clock._fitted(sizes, latency + per_byte * sizes)
    np.testing.assert_allclose(found, (latency, per_byte), rtol=1e-9, atol=1e-18)


@pytest.mark.quick
def test_no_number_of_a_link_is_negative():
    sizes = np.array(clock.BUFFERS, float)
    for seed in range(20):
        noise = np.random.default_rng(seed).lognormal(sigma=1.0, size=sizes.size)
        assert min(clock._fitted(sizes, 1e-4 * noise)) >= 0


def test_a_link_between_simulated_devices():
    link = clock.measure_link(
        mesh_of(2), AXIS, qgenx.uniform(4), buffers=(2**10, 2**16), rounds=2
    )
    assert link.encode > 0
    assert qgenx.exchange(AXIS, qgenx.uniform(4), collective=link).link == link


@pytest.mark.quick
@pytest.mark.parametrize(
    ("mesh", "buffers", "message"),
    [
        (mesh_of(1), clock.BUFFERS, "must have at least two workers along 'data'"),
        (mesh_of(2), (1024, 1024), "buffers must be of two sizes at least"),
    ],
)
def test_bad_arguments(mesh, buffers, message):
    with pytest.raises(ValueError, match=message):
        clock.measure_link(mesh, AXIS, qgenx.uniform(4), buffers=buffers)
