"""Q-GenX once more, in NumPy and from the formulas, sharing nothing with the library.

X_{t+1/2} = X_t - (gamma_t / K) sum_k V_{k,t}
Y_{t+1}   = Y_t - (1 / K) sum_k V_{k,t+1/2},      Y_1 = 0
X_{t+1}   = X_1 + gamma_{t+1} Y_{t+1}
gamma_t   = gamma0 K (1 + sum_{i<t} sum_k ||V_{k,i} - V_{k,i+1/2}||^2)^(-1/2)
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Oracle = Callable[[np.ndarray, int, int, int], np.ndarray]
"""g(x, t, worker, call): a dual vector; t counts from 0, calls are 0 and 1."""


class Run(NamedTuple):
    """What a run ends with.

    Attributes:
        average: (1 / T) sum of X_{t+1/2}.
        last: X_{T+1}.
        gamma: gamma_{T+1}.
    """

    average: np.ndarray
    last: np.ndarray
    gamma: float


def q_genx(
    oracle: Oracle,
    start: np.ndarray,
    iterations: int,
    workers: int,
    *,
    variant: str = "dual_extrapolation",
    gamma0: float = 1.0,
    quantize: Callable[[np.ndarray], np.ndarray] = lambda vector: vector,
) -> Run:
    """Runs so many iterations, worker by worker."""
    x, y, total = start.copy(), np.zeros_like(start), 1.0
    average = np.zeros_like(start)
    first = [np.zeros_like(start) for _ in range(workers)]
    gamma = gamma0 * workers
    calls = 2 if variant == "dual_extrapolation" else 1
    for t in range(iterations):
        if variant == "dual_extrapolation":
            first = [quantize(oracle(x, t, k, 0)) for k in range(workers)]
        half = x - gamma * sum(first) / workers
        second = [quantize(oracle(half, t, k, calls - 1)) for k in range(workers)]
        total += sum(
            float(np.sum((a - b) ** 2)) for a, b in zip(first, second, strict=True)
        )
        gamma = gamma0 * workers / total**0.5
        y = y - sum(second) / workers
        x = start + gamma * y
        average += (half - average) / (t + 1)
        if variant == "optimistic":
            first = second
    return Run(average, x, gamma)


def uniform(bits: int, rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Stochastic rounding to equal steps on both sides of zero, of the largest norm."""
    steps = 2 ** (bits - 1) - 1

    def quantize(vector: np.ndarray) -> np.ndarray:
        norm = np.abs(vector).max()
        if norm == 0:
            return vector
        place = vector / norm * steps
        below = np.floor(place)
        up = rng.random(vector.shape) < place - below
        return (below + up) * (norm / steps)

    return quantize
