"""Gaps and projections of problems side by side, beside the library's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.vi import games
from experiments.vi.methods import BASELINES, q_genx, quantizer_of

SEEDS = (1, 2)


@pytest.fixture(autouse=True)
def _exactly():
    with jax.enable_x64(True):
        yield


def points_of(name, dimension=6):
    """Problems, and feasible points of them, (seeds, 3, d)."""
    problems = games.stacked(name, dimension, SEEDS, "float64")
    rng = np.random.default_rng(0)
    points = jnp.asarray(rng.normal(size=(len(SEEDS), 3, dimension)))
    if problems.projection:
        project = jax.vmap(lambda p, x: jax.vmap(p.projection)(x))
        points = project(problems, points)
    return problems, points


def test_the_gap_in_a_box_is_the_librarys():
    problems, points = points_of("box")
    found = games.gaps(problems, points)
    for place, seed in enumerate(SEEDS):
        bound = 0.75 / 6**0.5
        same = qgenx.problems.constrained(
            qgenx.problems.bilinear(6, seed=seed), box=(-bound, bound)
        )
        expected = jax.jit(jax.vmap(same.gap))(points[place])
        np.testing.assert_allclose(found[place], expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(same.projection(3 * points[place, 0]), (
            jnp.clip(3 * points[place, 0], -bound, bound)
        ))  # fmt: skip


def test_the_gap_on_simplices_is_the_exploitability():
    problems, points = points_of("simplices")
    found = games.gaps(problems, points)
    for place, seed in enumerate(SEEDS):
        same = qgenx.problems.random_matrix_game(3, 3, seed=seed)
        for x, gap in zip(points[place], found[place], strict=True):
            tree = {"row": x[:3], "column": x[3:]}
            assert float(gap) == pytest.approx(float(same.exploitability(tree)))
            vector = same.operator(tree)
            own = jax.tree.map(lambda leaf, i=place: leaf[i], problems).operator(x)
            np.testing.assert_allclose(own[:3], vector["row"], atol=1e-12)
            np.testing.assert_allclose(own[3:], vector["column"], atol=1e-12)


def test_two_scales_are_skew_and_solved_by_their_solution():
    problems, points = points_of("bilinear of two scales", 8)
    matrix = np.asarray(problems.matrix)
    np.testing.assert_allclose(matrix, -matrix.transpose(0, 2, 1), atol=1e-15)
    assert np.all(games.gaps(problems, problems.solution[:, None]) < 1e-12)
    assert np.all(games.norms(problems, points) > 0)
    sizes = np.abs(matrix).sum(axis=(0, 2)).reshape(4, 2).sum(axis=1)
    assert sizes[0] > 3 * sizes[1]


@pytest.mark.quick
def test_what_is_sent_by_hand():
    params = jnp.zeros(128, jnp.float32)
    exact = q_genx("optimistic").traffic(params, 4)
    # a ring of 32-bit numbers, with one for each worker that rides along
    assert exact.exchanges == 1
    assert exact.sent_bytes == pytest.approx(2 * 3 / 4 * 4 * 128, rel=0.05)
    eight = q_genx("optimistic", "uniform 8").traffic(params, 4)
    assert eight.sent_bytes == 3 * (128 + 4 + 4)  # codes, norm, and that number
    twice = q_genx("dual_extrapolation", "uniform 8").traffic(params, 4)
    assert (twice.exchanges, twice.sent_bytes) == (2, 3 * (2 * (128 + 4) + 4))
    once = BASELINES["SGDA"].traffic(params, 4).sent_bytes
    assert BASELINES["extra-gradient"].traffic(params, 4).sent_bytes == 2 * once


@pytest.mark.quick
def test_other_quantizers_are_refused():
    assert quantizer_of("exact") is None
    with pytest.raises(ValueError, match=r"name must be exact, .* got 'uniform'"):
        quantizer_of("uniform")
