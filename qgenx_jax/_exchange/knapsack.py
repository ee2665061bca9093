"""One of several choices for each unit, of least total value within a budget.

    minimise  sum_i V[i, c_i]    such that    sum_i C[i, c_i] <= B

is a multiple-choice knapsack. With a multiplier L >= 0 units are independent, and

    sum_i min_c (V[i, c] + L C[i, c]) - L B

is below the optimum for every L; its maximum is the bound of the linear relaxation
(Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers, IEEE
Transactions on Acoustics, Speech and Signal Processing, 1988). A choice adds at least
what its price V + L C is above the least one of its unit: those that add more than what
is between the best solution and the bound are left out. Of the rest dynamic programming
keeps, unit by unit, the totals (cost, value) of which none is better in both.
"""

from typing import NamedTuple

import numpy as np

GAP = 1e-4
"""The relative distance to the bound at which a solution is good enough."""
STATES = 100_000
"""Totals that are kept as they are; of more, one in each interval of values."""
HALVINGS = 200
LEAST = 2.0**-200
"""Of the multipliers tried first, with the largest value and the budget as units."""


class Solution(NamedTuple):
    """What is chosen, and how far from the optimum it can be.

    Attributes:
        choice: (units,), for each the index of its choice.
        bound: no choice within the budget has a smaller total value.
        multiplier: L, at which the relaxation has its bound, in values per cost.
    """

    choice: np.ndarray
    bound: float
    multiplier: float


def total(table: np.ndarray, choice: np.ndarray) -> float:
    """sum_i table[i, choice_i]."""
    return float(table[np.arange(len(choice)), choice].sum())


def lagrangian(values: np.ndarray, costs: np.ndarray, budget: float) -> Solution:
    """The choice for the least multiplier that keeps the budget, and the best bound.

    Args:
        values: V (units, choices), at least 0.
        costs: C of the same shape, at least 0; the cheapest choices fit the budget.
        budget: B.
    """
    unit, each = values.max(initial=0) or 1.0, max(budget, 1.0)
    scaled, prices = values / unit, costs / each

    def at(multiplier: float) -> Solution:
        priced = scaled + multiplier * prices
        least = priced.min(axis=1, keepdims=True)
        # of equal prices the cheapest, which matters without a multiplier
        choice = np.where(priced == least, prices, np.inf).argmin(axis=1)
        bound = unit * (float(least.sum()) - multiplier * budget / each)
        return Solution(choice, bound, multiplier * unit / each)

    def fits(solution: Solution) -> bool:
        return total(costs, solution.choice) <= budget

    low, high = at(0.0), at(LEAST)
    if fits(low):
        return low
    below, above = 0.0, LEAST
    while not fits(high):
        below, above = above, 2 * above
        high = at(above)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        found = at(middle)
        if fits(found):
            above, high = middle, found
        else:
            below, low = middle, found
    best = max(low, high, key=lambda solution: solution.bound)
    return best._replace(choice=high.choice)


def solve(values: np.ndarray, costs: np.ndarray, budget: float) -> Solution | None:
    """The best choice within a budget, to `GAP`, with its bound.

    Args:
        values: V (units, choices), at least 0, finite.
        costs: C of the same shape, at least 0.
        budget: B.

    Returns:
        The solution; None if even the cheapest choices exceed the budget.
    """
    if costs.min(axis=1).sum() > budget:
        return None
    relaxed = lagrangian(values, costs, budget)
    search = _Search(values, costs, budget, relaxed)
    for unit in range(len(values)):
        if search.is_near():
            return relaxed._replace(choice=search.best)
        search.extend(unit)
    # all that could be better was looked at, but for intervals of values
    bound = max(relaxed.bound, search.reached - search.lost)
    return Solution(search.best, bound, relaxed.multiplier)


class _Search:
    """Totals of the choices for the first units, and the best solution so far.

    What is not decided yet is as in the relaxation, for a solution in between.
    """

    def __init__(
        self, values: np.ndarray, costs: np.ndarray, budget: float, relaxed: Solution
    ) -> None:
        self.values, self.costs, self.budget = values, costs, budget
        self.relaxed, self.best = relaxed, relaxed.choice
        self.reached, self.lost = total(values, relaxed.choice), 0.0
        priced = values + relaxed.multiplier * costs
        self.added = priced - priced.min(axis=1, keepdims=True)
        units = np.arange(len(values))
        self.rest = [
            _sums_after(table[units, relaxed.choice]) for table in (values, costs)
        ]
        self.cheapest = _sums_after(costs.min(axis=1))
        self.cost, self.value, self.above = np.zeros((3, 1))
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def is_near(self) -> bool:
        """Whether nothing better than by `GAP` is left to find."""
        return self.reached - self.relaxed.bound <= GAP * self.reached

    def extend(self, unit: int) -> None:
        """Takes the next unit's choices."""
        cost, value, above = (
            (old[:, None] + table[unit]).ravel()
            for old, table in (
                (self.cost, self.costs),
                (self.value, self.values),
                (self.above, self.added),
            )
        )
        # rounding of sums must not lose the optimum
        margin = self.reached - self.relaxed.bound + 1e-9 * self.reached
        fits = cost + self.cheapest[unit + 1] <= self.budget
        index = np.flatnonzero(fits & (above <= margin))
        index = index[np.lexsort((value[index], cost[index]))]
        least = np.minimum.accumulate(value[index])
        index = index[np.diff(least, prepend=np.inf) < 0]  # each better than before
        if index.size > STATES:
            index = self._thinned(index, value)
        self.cost, self.value, self.above = cost[index], value[index], above[index]
        self.steps.append(np.divmod(index, self.values.shape[1]))
        whole = self.value + self.rest[0][unit + 1]
        ends = self.cost + self.rest[1][unit + 1] <= self.budget
        whole = np.where(ends, whole, np.inf)
        if whole.size and whole.min() < self.reached:
            self._take(int(whole.argmin()), unit)

    def _thinned(self, index: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The cheapest of each interval of values: they are in the order of costs."""
        width = GAP * self.reached / len(self.values)
        self.lost += width
        _, first = np.unique(value[index] // width, return_index=True)
        return index[np.sort(first)]

    def _take(self, state: int, unit: int) -> None:
        """Makes a state, and the relaxation for the rest, the best solution."""
        choice = self.relaxed.choice.copy()
        for back in range(unit, -1, -1):
            parents, choices = self.steps[back]
            choice[back], state = choices[state], parents[state]
        self.best, self.reached = choice, total(self.values, choice)


def _sums_after(each: np.ndarray) -> np.ndarray:
    """(n + 1,): entry i is the sum of the entries from i on."""
    return np.append(np.cumsum(each[::-1])[::-1], 0.0)
