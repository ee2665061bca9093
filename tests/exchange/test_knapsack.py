"""One of several choices for each unit, against enumeration and another solver."""

import itertools

import numpy as np
import pytest
from scipy import optimize

from qgenx_jax._exchange import knapsack

pytestmark = pytest.mark.quick


def random_problem(seed, units, choices, spread=3.0):
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(0, spread, (units, choices)))
    costs = rng.integers(1, 1000, (units, choices)).astype(float)
    budget = rng.uniform(costs.min(axis=1).sum(), costs.max(axis=1).sum())
    return values, costs, budget


def network(seed, units):
    """Variances that fall by 4 with a bit, bytes that grow with it; 0 for 32 bits."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log(64), np.log(5e5), (units, 1)))
    energy = np.exp(rng.normal(0, 3, (units, 1))) * np.exp(
        rng.normal(0, 0.3, (units, 9))
    )
    values = energy * np.array([*(10 * 4.0**-b for b in range(8)), 0])
    return values, np.ceil(sizes * np.array([*range(1, 9), 32]) / 8)


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_best_of_all_choices(seed):
    units, choices = 1 + seed % 5, 1 + seed % 4
    values, costs, budget = random_problem(seed, units, choices)
    found = knapsack.solve(values, costs, budget)
    assert found is not None
    reached = [
        knapsack.total(values, np.array(choice))
        for choice in itertools.product(range(choices), repeat=units)
        if knapsack.total(costs, np.array(choice)) <= budget
    ]
    assert knapsack.total(costs, found.choice) <= budget
    value = knapsack.total(values, found.choice)
    assert value <= min(reached) * (1 + knapsack.GAP)
    assert found.bound <= min(reached) * (1 + 1e-9)
    assert value - found.bound <= 2 * knapsack.GAP * value


@pytest.mark.parametrize(("seed", "units"), [(0, 30), (1, 80)])
def test_it_is_that_of_branch_and_bound(seed, units):
    values, costs = network(seed, units)
    budget = costs[:, 2].sum()
    found = knapsack.solve(values, costs, budget)
    assert found is not None
    rows = np.kron(np.eye(units), np.ones(values.shape[1]))
    unit = found.bound / 1e3  # far above the solver's absolute tolerance
    other = optimize.milp(
        values.ravel() / unit,
        integrality=1,
        bounds=optimize.Bounds(0, 1),
        constraints=[(rows, 1, 1), (costs.reshape(1, -1), -np.inf, budget)],
        options={"mip_rel_gap": 1e-6, "time_limit": 20},
    )
    assert other.fun is not None
    value = knapsack.total(values, found.choice)
    assert value <= other.fun * unit * (1 + knapsack.GAP)
    assert found.bound <= other.fun * unit * (1 + 1e-9)


def test_the_bound_is_the_largest_of_all_multipliers():
    values, costs = network(3, 20)
    budget = costs[:, 3].sum()
    found = knapsack.lagrangian(values, costs, budget)
    bounds = [
        (values + multiplier * costs).min(axis=1).sum() - multiplier * budget
        for multiplier in found.multiplier * np.geomspace(0.01, 100, 400)
    ]
    assert max(bounds) <= found.bound * (1 + 1e-9)
    assert found.bound <= max(bounds) * 1.01
    assert knapsack.total(costs, found.choice) <= budget
    assert found.bound <= knapsack.total(values, found.choice)


def test_without_a_tight_budget_each_has_its_best():
    values, costs = network(4, 10)
    found = knapsack.solve(values, costs, costs.max(axis=1).sum())
    assert found is not None
    np.testing.assert_array_equal(found.choice, 8)
    assert found.bound == 0


def test_of_equal_values_the_cheapest():
    found = knapsack.solve(np.zeros((2, 2)), np.array([[5.0, 3], [2, 4]]), 100)
    assert found is not None
    np.testing.assert_array_equal(found.choice, [1, 0])


def test_a_budget_below_the_cheapest_has_no_choice():
    values, costs, _ = random_problem(0, 3, 3)
    least = costs.min(axis=1).sum()
    assert knapsack.solve(values, costs, least - 1) is None
    found = knapsack.solve(values, costs, least)
    assert found is not None
    assert knapsack.total(costs, found.choice) == least


def test_fewer_totals_lose_no_more_than_the_bound_says(monkeypatch):
    values, costs = network(5, 25)
    budget = costs[:, 2].sum() * 0.9
    exact = knapsack.solve(values, costs, budget)
    monkeypatch.setattr(knapsack, "STATES", 50)
    monkeypatch.setattr(knapsack, "GAP", 0.02)
    rough = knapsack.solve(values, costs, budget)
    assert exact is not None
    assert rough is not None
    reached = knapsack.total(values, exact.choice)
    assert rough.bound <= reached
    assert knapsack.total(values, rough.choice) <= reached * 1.04
