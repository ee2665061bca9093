"""Parameters that are cut over the workers, and rows of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from qgenx_jax._exchange.cuts import Cut, shard_specs

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_are_the_shards(axis):
    shape = (4, 8, 12)
    whole = np.arange(4 * 8 * 12.0).reshape(shape)
    cut = Cut(shape, axis, np.dtype("float32"))
    rows = cut.rows(jnp.asarray(whole), 4)
    for k, shard in enumerate(np.split(whole, 4, axis)):
        np.testing.assert_array_equal(rows[k], cut.rows(jnp.asarray(shard), 1)[0])
        np.testing.assert_array_equal(cut.leaf(rows[k : k + 1], 4), shard)
    np.testing.assert_array_equal(cut.leaf(rows, 1), whole)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 64, 128), P(None, None, None, "data")),
        ((128, 64), P("data")),
        ((64, 64), P("data")),  # the first of equal ones
        ((6, 1000), P(None, "data")),
        ((7, 1001), P()),
        ((512,), P()),
        ((), P()),
        ((0, 4096), P()),
    ],
)
def test_specs_cut_the_longest_axis(shape, spec):
    found = shard_specs(jax.ShapeDtypeStruct(shape, "float32"), "data", 4)
    assert found == spec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"workers": 2, "least": 0}, "least must be a whole number of at least 1"),
    ],
)
def test_bad_numbers(settings, message):
    with pytest.raises(ValueError, match=message):
        shard_specs(jnp.zeros(4), "data", **settings)
