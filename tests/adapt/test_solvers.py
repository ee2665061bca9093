"""Solvers beside decimals of 50 digits, finite differences and dynamic programming."""

from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import distributions, solvers
from qgenx_jax._adapt.optimum import optimum
from tests.adapt.test_distributions import LAWS, law_of
from tests.lib.fifty_digits import Folded

MAGNITUDES = solvers.Kind(signed=False)
UNIFORM = np.linspace(0, 1, 8)
refit = jax.jit(solvers.refit, static_argnames=("method", "kind"))
solve = jax.jit(solvers.solve, static_argnames=("method", "kind"))


@pytest.mark.parametrize("name", LAWS)
def test_one_update_and_converged_levels_equal_fifty_digits(name):
    exact = Folded(*LAWS[name])
    ends = [("0.02", "0.1"), ("0.1", "0.35")]
    right = [float(exact.best_between(Decimal(a), Decimal(c))) for a, c in ends]
    with jax.enable_x64(True):
        law = law_of(name)
        lower, upper = jnp.asarray(np.array(ends, float).T)
        found = solvers.best_between(law, lower, upper, lower)
        np.testing.assert_allclose(found, right, rtol=1e-9)
        tables = solve(law, jnp.linspace(0, 1, 4), method="coordinate", kind=MAGNITUDES)
        values = [solvers.variance(law, table) for table in tables]
        table = [Decimal(float(x)) for x in tables[np.argmin(values)]]
    for j in (1, 2):  # a fixed point of updates in decimals
        best = exact.best_between(table[j - 1], table[j + 1])
        assert abs(best - table[j]) < Decimal("1e-8")


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("method", ["coordinate", "gradient"])
def test_the_best_start_reaches_the_optimum(name, method):
    fine = np.sinh(np.linspace(0, 1, 601) * 4) / np.sinh(4)
    fine[-1] = 1
    with jax.enable_x64(True):
        law = law_of(name)
        best = optimum(distributions.tabulated(law, jnp.asarray(fine)), 7)
        least = solvers.variance(law, jnp.asarray(best))
        tables = solve(law, jnp.asarray(UNIFORM), method=method, kind=MAGNITUDES)
        value = min(solvers.variance(law, table) for table in tables)
        assert value <= least * (1 + 1e-4)
    table = jnp.asarray(UNIFORM, jnp.float32)
    found = refit(law_of(name, jnp.float32), table, method=method, kind=MAGNITUDES)
    assert found.dtype == jnp.float32
    with jax.enable_x64(True):
        value = solvers.variance(law_of(name), found.astype(jnp.float64))
        assert value <= least * (1 + 1e-3)


def test_the_multiplier_is_the_best_of_many_ratios():
    with jax.enable_x64(True):
        law = law_of("0.3")
        (found,) = solve(law, jnp.asarray(UNIFORM), method="amq", kind=MAGNITUDES)
        ratios = np.linspace(0.1, 0.99, 500)
        tables = [[0, *(p ** np.arange(6, -1, -1))] for p in ratios]
        values = jax.vmap(lambda t: solvers.variance(law, t))(jnp.asarray(tables))
        assert solvers.variance(law, found) <= values.min() * (1 + 1e-6)


@pytest.mark.parametrize("method", solvers.METHODS)
@pytest.mark.parametrize("mass", [0.0, jnp.nan, jnp.inf])
def test_levels_in_use_stay_where_nothing_is_known(method, mass):
    law = distributions.histogram(jnp.linspace(0, 1, 5), jnp.full(4, mass))
    table = jnp.asarray([0, 0.1, 0.4, 1])
    found = refit(law, table, method=method, kind=MAGNITUDES)
    np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize("method", solvers.METHODS)
def test_a_point_mass_leaves_valid_levels(method):
    edges = jnp.asarray([0.0, 0.5, 0.50001, 1.0])
    law = distributions.histogram(edges, jnp.asarray([0.0, 1.0, 0.0]))
    table = jnp.asarray([0, 0.1, 0.4, 1])
    found = refit(law, table, method=method, kind=MAGNITUDES)
    assert (np.diff(found) > 0).all()
    assert found[0] == 0
    assert found[-1] == 1
    assert solvers.variance(law, found) <= solvers.variance(law, table)


@pytest.mark.parametrize("zero", [None, 3])
def test_signed_tables_have_two_ends_and_zero_where_asked(zero):
    kind = solvers.Kind(signed=True, zero=zero)
    law = law_of("four", jnp.float32, signed=True)
    table = kind.with_zero(jnp.linspace(-1, 1, 8, dtype=jnp.float32))
    found = refit(law, table, method="coordinate", kind=kind)
    assert (np.diff(found) > 0).all()
    assert (found[0], found[-1]) == (-1, 1)
    assert zero is None or found[zero] == 0
    edges = np.linspace(-1, 1, 401)
    on_edges = distributions.tabulated(law, jnp.asarray(edges, jnp.float32))
    best = jnp.asarray(optimum(on_edges, 7, zero=zero is not None), jnp.float32)
    if zero is None:
        assert solvers.variance(law, found) <= solvers.variance(law, best) * 1.001
    else:  # the optimum chooses which level is zero
        assert solvers.variance(law, found) < solvers.variance(law, table)


MIRRORED = solvers.Kind(signed=False, mirrored=True)


@pytest.mark.parametrize("name", LAWS)
def test_the_lowest_level_without_zero_equals_fifty_digits(name):
    exact, upper = Folded(*LAWS[name]), ["0.05", "0.35"]
    right = [float(exact.best_lowest(Decimal(c))) for c in upper]
    with jax.enable_x64(True):
        ends = jnp.asarray(list(map(float, upper)))
        found = solvers.best_lowest(law_of(name), ends, ends / 3)
        np.testing.assert_allclose(found, right, rtol=1e-9)
