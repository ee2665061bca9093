"""Solvers beside decimals of 50 digits, finite differences and dynamic programming."""

import functools
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import distributions, newton, solvers, tables
from qgenx_jax._adapt.optimum import optimum
from tests.adapt.test_distributions import LAWS, law_of
from tests.lib.fifty_digits import Folded

MAGNITUDES = solvers.Kind(signed=False)
MIRRORED = solvers.Kind(signed=False, mirrored=True)
pytestmark = pytest.mark.plainly
UNIFORM = np.linspace(0, 1, 8)
refit = jax.jit(solvers.refit, static_argnames=("method", "kind"))
solve = jax.jit(solvers.solve, static_argnames=("method", "kind"))
variance = jax.jit(solvers.variance, static_argnames="kind")
parts = jax.jit(tables.parts, static_argnames="kind")
best_between = jax.jit(solvers.best_between)
best_lowest = jax.jit(solvers.best_lowest)
tabulated = jax.jit(distributions.tabulated)


@pytest.mark.parametrize("name", LAWS)
def test_one_update_and_converged_levels_equal_fifty_digits(name):
    exact = Folded(*LAWS[name])
    ends = [("0.02", "0.1"), ("0.1", "0.35")]
    right = [float(exact.best_between(Decimal(a), Decimal(c))) for a, c in ends]
    with jax.enable_x64(True):
        law = law_of(name)
        lower, upper = jnp.asarray(np.array(ends, float).T)
        found = best_between(law, lower, upper, lower)
        np.testing.assert_allclose(found, right, rtol=1e-9)
        found = solve(law, jnp.linspace(0, 1, 4), method="newton", kind=MAGNITUDES)
        values = [variance(law, table) for table in found]
        table = [Decimal(float(x)) for x in found[np.argmin(values)]]
    for j in (1, 2):  # a fixed point of updates in decimals
        best = exact.best_between(table[j - 1], table[j + 1])
        assert abs(best - table[j]) < Decimal("1e-8")


KINDS = {
    "magnitudes": MAGNITUDES,
    "mirrored": MIRRORED,
    "signed": solvers.Kind(signed=True),
    "with zero": solvers.Kind(signed=True, zero=0),  # where the optimum has it
}
ROWS = [
    ("magnitudes", 3, "coordinate"),
    ("magnitudes", 4, "newton"),
    ("magnitudes", 8, "gradient"),
    ("mirrored", 2, "coordinate"),
    ("mirrored", 3, "gradient"),
    ("mirrored", 4, "newton"),
    ("mirrored", 8, "newton"),
    ("signed", 2, "gradient"),
    ("signed", 3, "newton"),
    ("signed", 4, "coordinate"),
    ("signed", 8, "newton"),
    ("with zero", 2, "newton"),
    ("with zero", 3, "gradient"),
    ("with zero", 8, "coordinate"),
]
"""Kinds and bits, each method with each kind and with low and high bits."""


@functools.cache
def optimum_of(name, label, bits):
    """(law, kind, uniform table, least variance): float64, by dynamic programming."""
    kind = KINDS[label]
    fine = np.sinh(np.linspace(-1 if kind.signed else 0, 1, 1 + EDGES) * 4) / np.sinh(4)
    fine[[0, -1]] = -1 if kind.signed else 0, 1
    fine[EDGES // 2] = 0 if kind.signed else fine[EDGES // 2]
    law = law_of(name, signed=kind.signed)
    law = tabulated(law, jnp.asarray(fine))
    count = 2**bits if kind.signed else 2 ** (bits - 1)
    steps = count - (not kind.mirrored)
    zero = kind.zero is not None
    best = optimum(law, steps, zero=zero, mirrored=kind.mirrored)
    if zero:
        kind = kind._replace(zero=int(np.flatnonzero(best == 0)[0]))
    table = kind.levels(jnp.linspace(fine[0], 1, steps + 1))
    return law, kind, table, float(variance(law, jnp.asarray(best), kind=kind))


EDGES = 600


@pytest.mark.parametrize(("label", "bits", "method"), ROWS)
def test_the_best_start_reaches_the_optimum(label, bits, method):
    names = ["four"] if bits == 8 or label == "with zero" else ["0.05", "0.3", "four"]
    for name in names:
        with jax.enable_x64(True):
            law, kind, table, least = optimum_of(name, label, bits)
            found = solve(law, kind.with_zero(table), method=method, kind=kind)
            values = [variance(law, x, kind=kind) for x in found]
            assert min(values) <= least * (1 + 1e-4)
            if bits == 8:  # more levels than edges for them: a minimum all the same
                gain = left_to_gain(law, found[np.argmin(values)], kind)
                assert gain <= 1e-4 * least


def left_to_gain(law, table, kind):
    """s H^-1 s / 2 by NumPy: what Newton's method expects of one step more."""
    whole = kind.whole(table)
    now = parts(law, whole, kind=kind)
    mass, slopes = (
        np.asarray(now.mass),
        np.asarray(now.to_lower[:-1] - now.to_upper[1:]),
    )
    bend = np.asarray(newton.curvature(law, whole, now, kind))
    hessian = np.diag(np.maximum(bend, mass[:-1] + mass[1:]))
    hessian -= np.diag(mass[1:-1], 1) + np.diag(mass[1:-1], -1)
    free = np.flatnonzero(kind.free(whole.size))
    slopes, hessian = slopes[free], hessian[np.ix_(free, free)]
    return slopes @ np.linalg.solve(hessian, slopes) / 2


SINGLE = [
    ("mirrored", 4, "newton"),
    ("mirrored", 8, "newton"),
    ("magnitudes", 4, "coordinate"),
    ("signed", 3, "gradient"),
]


@pytest.mark.parametrize(("label", "bits", "method"), SINGLE)
def test_in_float32_the_optimum_is_reached(label, bits, method):
    with jax.enable_x64(True):
        law, kind, table, least = optimum_of("four", label, bits)
    single = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float32), law)
    table = jnp.asarray(np.asarray(table), jnp.float32)
    found = refit(single, table, method=method, kind=kind)
    assert found.dtype == jnp.float32
    with jax.enable_x64(True):
        value = variance(law, found.astype(jnp.float64), kind=kind)
        assert value <= least * (1 + 1e-3)


def test_normals_need_no_histogram():
    with jax.enable_x64(True):
        *_, least = optimum_of("four", "mirrored", 4)
    table = jnp.linspace(0, 1, 9)[1:]
    law = law_of("four", jnp.float32)
    found = refit(law, table, method="coordinate", kind=MIRRORED)
    with jax.enable_x64(True):
        law, found = law_of("four"), found.astype(jnp.float64)
        assert variance(law, found, kind=MIRRORED) <= least * (1 + 1e-3)


def test_the_multiplier_is_the_best_of_many_ratios():
    with jax.enable_x64(True):
        law = law_of("0.3")
        (found,) = solve(law, jnp.asarray(UNIFORM), method="amq", kind=MAGNITUDES)
        ratios = np.linspace(0.1, 0.99, 500)
        tried = [[0, *(p ** np.arange(6, -1, -1))] for p in ratios]
        values = jax.vmap(lambda t: variance(law, t))(jnp.asarray(tried))
        assert variance(law, found) <= values.min() * (1 + 1e-6)


EVERY = [
    ("newton", MAGNITUDES),
    ("newton", MIRRORED),
    ("coordinate", MIRRORED),
    ("gradient", MAGNITUDES),
    ("amq", MIRRORED),
]


@pytest.mark.parametrize(("method", "kind"), EVERY)
def test_levels_are_valid_whatever_the_law(method, kind):
    edges = jnp.asarray([0.0, 0.5, 0.50001, 0.8, 1.0])
    table = jnp.asarray([0, 0.1, 0.4, 1])[kind.mirrored :]
    for mass in (0.0, jnp.nan, jnp.inf):  # nothing is known: the table in use stays
        law = distributions.histogram(edges, jnp.full(4, mass))
        found = refit(law, table, method=method, kind=kind)
        np.testing.assert_array_equal(found, table)
    for masses in ([0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 1]):
        law = distributions.histogram(edges, jnp.asarray(masses, jnp.float32))
        found = refit(law, table, method=method, kind=kind)
        assert tables.valid(found, kind=kind)
        assert found[0] == 0 or kind.mirrored
        assert found[-1] == 1
        before = variance(law, table, kind=kind)
        assert variance(law, found, kind=kind) <= before


@pytest.mark.parametrize("name", LAWS)
def test_the_lowest_level_without_zero_equals_fifty_digits(name):
    exact, upper = Folded(*LAWS[name]), ["0.05", "0.35"]
    right = [float(exact.best_lowest(Decimal(c))) for c in upper]
    with jax.enable_x64(True):
        ends = jnp.asarray(list(map(float, upper)))
        found = best_lowest(law_of(name), ends, ends / 3)
        np.testing.assert_allclose(found, right, rtol=1e-9)
