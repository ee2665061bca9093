"""What tables cost beside signed ones and finite differences, and their grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import tables
from tests.adapt.test_distributions import law_of

pytestmark = [pytest.mark.plainly, pytest.mark.quick]
MIRRORED = tables.Kind(signed=False, mirrored=True)
KINDS = {"zero": tables.MAGNITUDES, "mirrored": MIRRORED}
TABLE = np.linspace(0, 1, 8) ** 2


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_derivative_equals_finite_differences(kind):
    with jax.enable_x64(True):
        law, table, h = law_of("four"), kind.levels(TABLE), 1e-5
        inner = slice(0 if kind.mirrored else 1, -1)
        moves = np.eye(len(table))[inner] * h
        value = jax.jit(jax.vmap(lambda x: tables.variance(law, x, kind)))
        table, up, down = map(jnp.asarray, (table, table + moves, table - moves))
        slopes = (value(up) - value(down)) / (2 * h)
        found = jax.jit(tables.derivative, static_argnums=2)(law, table, kind)
        np.testing.assert_allclose(found, slopes, rtol=1e-6, atol=1e-10)


variance = jax.jit(tables.variance, static_argnums=2)
on_grid = jax.jit(tables.on_grid, static_argnums=1)


def test_mirrored_tables_cost_what_signed_ones_do():
    table = TABLE[1:]
    with jax.enable_x64(True):
        both = jnp.asarray([*-table[::-1], *table])
        right = variance(law_of("four", signed=True), both)
        found = variance(law_of("four"), jnp.asarray(table), MIRRORED)
        np.testing.assert_allclose(found, right, rtol=1e-12)


def test_tables_on_the_grid_increase_strictly():
    near = jnp.asarray([0, 1e-20, 0.5, 0.5, 0.50001, 0.9999999, 1, 1], jnp.float32)
    found = np.asarray(on_grid(near))
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found[1:], near[1:], rtol=2.0**-9, atol=2.0**-50)
    scaled = np.frexp(found)[0] * 2**12
    np.testing.assert_array_equal(scaled, np.round(scaled))
    signed = jnp.asarray([-1, -0.3, 0.3, 1], jnp.float32)
    found = np.asarray(on_grid(signed))
    np.testing.assert_array_equal(found, -found[::-1])


def test_the_lowest_level_without_zero_stays_above_it():
    found = on_grid(jnp.asarray([0, 1e-30, 1], jnp.float32), MIRRORED)
    np.testing.assert_array_equal(found, [2.0**-50, 2.0**-50 * (1 + 2.0**-11), 1])
    assert tables.valid(found, MIRRORED)
    assert not tables.valid(jnp.asarray([0.0, 0.5, 1.0]), MIRRORED)
