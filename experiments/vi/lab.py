"""What every figure is given: seeds, size, progress; and what it gives back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.common.progress import Progress
from experiments.common.tables import Row
from experiments.vi import games, scan
from experiments.vi.claims import Claim
from experiments.vi.methods import Method

POINTS = 24
"""Of each curve; one number for all, so that a program is compiled once."""
TUNED_ON = 1000
"""The first of the seeds on which steps are chosen; none of them is reported."""


class Result(NamedTuple):
    """What a figure gives back.

    Attributes:
        rows: of its table.
        claims: of the table of verdicts.
        draw: `draw(figure)`, given an empty one of matplotlib.
        size: inches of that.
        text: what it shows, and what does not show and why.
        table: a short one for the report, beside that of the claims.
    """

    rows: list[Row]
    claims: list[Claim]
    draw: Callable[[Any], None]
    size: tuple[float, float]
    text: str
    table: list[Row] = []  # noqa: RUF012  # never changed


class Lab:
    """Runs of one figure."""

    def __init__(self, seeds: int, quick: bool, progress: Progress | None) -> None:
        self.seeds = tuple(range(seeds))
        self.quick = quick
        self._progress = progress
        self.runs = 0

    def short(self, full: int, quick: int) -> int:
        """The one or the other, as the run is."""
        return quick if self.quick else full

    def tick(self) -> None:
        """One more run is done."""
        self.runs += 1
        if self._progress is not None:
            self._progress.update(self.runs)

    def curves(
        self,
        method: Method,
        problem: str,
        noise: str,
        at: np.ndarray,
        *,
        dimension: int = 20,
        seeds: tuple[int, ...] | None = None,
        dtype: str = "float32",
        **settings: Any,
    ) -> scan.Curves:
        """Runs a method; see `scan.run`."""
        seeds = self.seeds if seeds is None else seeds
        problems = games.stacked(problem, dimension, seeds, dtype)
        found = scan.run(method, problems, seeds, noise, at, **settings)
        self.tick()
        return found

    def measured(
        self,
        of: Callable[..., Any],
        problem: str,
        points: np.ndarray,
        *,
        seeds: tuple[int, ...] | None = None,
    ) -> np.ndarray:
        """`games.gaps` or `games.norms` at points, in float64."""
        seeds = self.seeds if seeds is None else seeds
        problems = games.stacked(problem, points.shape[-1], seeds, "float64")
        return np.asarray(of(problems, points.astype(np.float64)))


def iterations(last: int, first: int = 10) -> np.ndarray:
    """POINTS of them, at equal distances on a logarithmic axis."""
    return np.rint(np.geomspace(first, last, POINTS)).astype(int)
