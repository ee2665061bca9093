"""Which collective an exchange takes where none is named."""

import jax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.quick

BITS = qgenx.uniform(4, bucket_size=64)


@pytest.mark.parametrize(
    ("size", "workers", "expected"),
    [
        (10**6, 1, "all_gather"),
        (10**6, 2, "all_gather"),  # as many bytes, and one quantization
        (10**6, 3, "reduce_scatter"),
        (10**6, 64, "reduce_scatter"),
        (10**4, 3, "all_gather"),  # latency counts for more
        (1, 64, "all_gather"),
        (0, 8, "all_gather"),
    ],
)
def test_auto_takes_two_phases_where_bytes_count(size, workers, expected):
    vector = jax.ShapeDtypeStruct((size,), "float32")
    auto = qgenx.exchange(AXIS, BITS, collective="auto").traffic(vector, workers)
    assert auto.collective == expected


def test_defaults_and_auto():
    """A mean alone goes by what is fastest, what hands on own vectors by one phase."""
    vector = jax.ShapeDtypeStruct((1024, 1024), "float32")
    names = {
        quantizer: [
            qgenx.exchange(AXIS, quantizer, collective=collective)
            .traffic(vector, 8)
            .collective
            for collective in ("once", "auto")
        ]
        for quantizer in (None, BITS)
    }
    assert names == {None: ["exact"] * 2, BITS: ["all_gather", "reduce_scatter"]}
