"""The compiled scan beside a transcription in NumPy, and beside a closed form."""

import jax
import numpy as np
import pytest

from experiments.vi import by_hand, games, scan
from experiments.vi.methods import VARIANTS, q_genx
from tests.lib.helpers import compiling_plainly

SEEDS, WORKERS, LAST = (3, 4), 3, 40
AT = np.array([7, LAST])


@pytest.fixture(autouse=True)
def _exactly():
    with jax.enable_x64(True), compiling_plainly():
        yield


def drawn(problem, seed, calls):
    """The noise of a run: what its oracle gives where the operator is zero."""
    of_noise, _ = jax.random.split(jax.random.key(seed))
    fold = jax.vmap(lambda t: jax.random.fold_in(of_noise, t))
    split = jax.vmap(lambda key: jax.random.split(key, (WORKERS, calls)))
    keys = split(fold(np.arange(LAST)))
    sample = problem.oracle("absolute")
    for _ in keys.shape:
        sample = jax.vmap(sample, in_axes=(None, 0))
    return np.asarray(sample(problem.solution, keys))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_scan_is_the_method(variant):
    problems = games.stacked("bilinear", 6, SEEDS, "float64")
    method = q_genx(variant)
    settings = {"step": 0.5, "workers": WORKERS}
    found = scan.run(method, problems, SEEDS, "absolute", AT, **settings)
    for place, seed in enumerate(SEEDS):
        problem = jax.tree.map(lambda leaf, place=place: leaf[place], problems)
        matrix, offset = np.asarray(problem.matrix), np.asarray(problem.offset)
        noise = drawn(problem, seed, 2 if variant == "dual_extrapolation" else 1)

        def oracle(x, t, k, call, matrix=matrix, offset=offset, noise=noise):
            return matrix @ x + offset + noise[t, k, call]

        for point, last in enumerate(AT):
            run = by_hand.q_genx(
                oracle, np.zeros(6), last, WORKERS, variant=variant, gamma0=0.5
            )
            for name in ("average", "last", "gamma"):
                np.testing.assert_allclose(
                    getattr(found, name)[place, point],
                    getattr(run, name),
                    rtol=0,
                    atol=1e-10,
                    err_msg=f"{name} of seed {seed} at {last}",
                )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_gap_is_that_of_the_closed_form(variant):
    """Gap(X-bar_T) = R ||X_{T+1} - X_1|| / (gamma_{T+1} T): skew, exact, no noise."""
    problems = games.stacked("bilinear", 6, SEEDS, "float64")
    settings = {"workers": WORKERS, "step": 1.0}
    found = scan.run(q_genx(variant), problems, SEEDS, "none", AT, **settings)
    gaps = np.asarray(games.gaps(problems, found.average))
    expected = np.linalg.norm(found.last, axis=-1) / (found.gamma * AT)
    np.testing.assert_allclose(gaps, expected, rtol=1e-10)


@pytest.mark.quick
def test_vectors_are_cut_and_joined():
    x = jax.numpy.arange(12.0)
    assert scan.cut(x, 1) is x
    tree = scan.cut(x, 4)
    assert [leaf.size for leaf in tree.values()] == [3, 3, 3, 3]
    np.testing.assert_array_equal(scan.joined(tree), x)


@pytest.mark.quick
def test_quantization_by_hand_is_unbiased_and_on_levels():
    rng = np.random.default_rng(0)
    vector = np.array([-1.0, 0.3, 0.0, 0.77])
    quantize = by_hand.uniform(3, rng)
    many = np.array([quantize(vector) for _ in range(20_000)])
    np.testing.assert_allclose(many * 3, np.rint(many * 3), atol=1e-12)
    error = many.std(axis=0) / len(many) ** 0.5
    assert np.all(abs(many.mean(axis=0) - vector) <= 5 * error + 1e-12)
    assert not quantize(np.zeros(3)).any()
