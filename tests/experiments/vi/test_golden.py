"""The golden ratio algorithm beside a transcription in NumPy, and where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.vi.golden import golden_ratio
from qgenx_jax import problems

PHI = 1.5


def transcribed(operator, x, first, iterations, project):
    """The points, from the formulas, with sums for each of them."""
    rho = 1 / PHI + 1 / PHI**2
    old, old_vector, average, step, theta = None, None, x, first, 1.0
    points = [x]
    for _ in range(iterations):
        vector = operator(x)
        bound = np.inf
        if old is not None and (vector != old_vector).any():  # else it is there
            ratio = np.sum((x - old) ** 2) / np.sum((vector - old_vector) ** 2)
            bound = PHI * theta / (4 * step) * ratio
        new = min(rho * step, bound)
        theta, step = PHI * new / step, new
        average = ((PHI - 1) * x + average) / PHI
        old, old_vector = x, vector
        x = project(average - step * vector)
        points.append(x)
    return np.array(points)


@pytest.mark.parametrize("first", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("is_bounded", [False, True])
def test_points_are_those_of_the_formulas(first, is_bounded):
    with jax.enable_x64(True):
        problem = problems.bilinear(6, seed=1)
        bound = lambda np: lambda x: np.clip(x, -0.3, 0.3)  # noqa: E731
        optimizer = golden_ratio(first, projection=bound(jnp) if is_bounded else None)
        x = jnp.full(6, 0.2)
        state = optimizer.init(x)
        points = [x]

        @jax.jit
        def step(x, state):
            updates, state = optimizer.update(problem.operator(x), state, x)
            return optax.apply_updates(x, updates), state

        for _ in range(60):
            x, state = step(x, state)
            points.append(x)
        matrix, offset = np.asarray(problem.matrix), np.asarray(problem.offset)
        project = bound(np) if is_bounded else lambda x: x
        operator = lambda x: matrix @ x + offset  # noqa: E731
        expected = transcribed(operator, np.full(6, 0.2), first, 60, project)
        np.testing.assert_allclose(np.array(points), expected, rtol=0, atol=1e-12)


def test_it_solves_a_game_with_a_first_step_far_off():
    with jax.enable_x64(True):
        problem = problems.bilinear(2, seed=0)
        for first in (1e-4, 1e3):
            optimizer = golden_ratio(first)

            def step(_, carry, optimizer=optimizer):
                x, state = carry
                updates, state = optimizer.update(problem.operator(x), state, x)
                return optax.apply_updates(x, updates), state

            x = problem.start
            carry = jax.lax.fori_loop(0, 1000, step, (x, optimizer.init(x)))
            assert float(problem.gap(carry[0])) < 1e-9


def test_another_phi_is_refused():
    with pytest.raises(ValueError, match=r"phi must be in .* got 1\.7; 1\.5 is the"):
        golden_ratio(1.0, phi=1.7)
