"""Edges that larger claims pass by: defaults, limits of arguments, the longer loops."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from qgenx_jax import _random, _trees
from tests.lib.helpers import AXIS, assert_trees_identical, vectors


def test_defaults_of_the_quantizers_are_the_documented_ones():
    common = {"bucket_size": 1024, "source": "counter"}
    assert qgenx.uniform() == qgenx.uniform(8, norm=math.inf, **common)
    assert qgenx.exponential() == qgenx.exponential(4, base=0.5, norm=2, **common)
    assert qgenx.min_max() == qgenx.min_max(8, **common)
    levels = [0.25, 1.0]
    user = qgenx.user_levels(levels, norm=math.inf, **common)
    assert qgenx.user_levels(levels) == user
    assert [q.bucket_size for q in (qgenx.uniform(), user)] == [1024, 1024]
    assert [qgenx.uniform().source, qgenx.exponential().norm] == ["counter", 2]


def test_defaults_of_the_problems_are_the_documented_ones():
    problems = qgenx.problems
    assert_trees_identical(
        problems.bilinear(), problems.bilinear(20, seed=0, distance=1.0), "bilinear"
    )
    assert_trees_identical(
        problems.quadratic_game(),
        problems.quadratic_game(20, strong=0.1, seed=0, distance=1.0),
        "quadratic game",
    )
    for method, name in (
        (problems.AffineProblem.gap, "radius"),
        (problems.AffineProblem.oracle, "size"),
    ):
        assert inspect.signature(method).parameters[name].default == 1.0


def test_default_settings_of_extra_adam_and_ema():
    """Adam's own, and a decay of 0.9999."""
    x, v = jnp.ones(2), jnp.array([1e-8, 2.0])  # the first shows eps
    pair, base = qgenx.extra_adam(0.1), optax.adam(0.1, b1=0.9, b2=0.999, eps=1e-8)
    half, state = pair.extrapolation.update(v, pair.init(x), x)
    first, base_state = base.update(v, base.init(x))
    np.testing.assert_array_equal(half, first)
    delta, _ = pair.update.update(-3 * v, state, x + half)
    second, _ = base.update(-3 * v, base_state)
    np.testing.assert_allclose(x + half + delta, x + second, rtol=1e-6)
    chained = qgenx.chain(qgenx.extra_sgd(1.0), qgenx.ema())
    step = qgenx.iterate(chained, lambda x: jnp.full_like(x, 1e4))
    _, state = step(jnp.full(1, 5e3), chained.init(jnp.full(1, 5e3)))
    # X_2 = 5000 - 10^4 enters with weight 10^-4
    np.testing.assert_allclose(qgenx.ema_params(state), [4999.0], rtol=1e-5)


def test_the_adaptive_step_size_begins_at_the_number_of_workers():
    rule = qgenx.adaptive_step_size()
    assert float(rule.value(rule.init(), 3)) == 3.0
    assert float(rule.value(rule.update(rule.init(), 3.0), 4)) == 2.0


def test_arrays_of_no_coordinate_cost_nothing():
    quantizer = qgenx.uniform(4)
    payload = jax.eval_shape(lambda x: quantizer.encode(0, x), jnp.zeros((0, 3)))
    assert payload.data.size == quantizer.n_bytes(0) == 0
    assert jax.eval_shape(quantizer.decode, payload).shape == (0, 3)


def test_limits_of_arguments():
    """The last value that is allowed, and the first that is not."""
    assert len(qgenx.user_levels(np.linspace(0, 1, 128)).levels) == 127
    with pytest.raises(ValueError, match=r"levels must be at most 127.*128 levels"):
        qgenx.user_levels(np.arange(1, 129) / 128)
    assert qgenx.user_levels([0, 0.5, 1]) == qgenx.user_levels([0.5, 1])
    for levels in ([[0.5, 1.0]], [0.5, 0.5, 1.0], 1.0, [0.0], [0.0, 0.0, 1.0]):
        with pytest.raises(ValueError, match=r"levels must be increasing numbers"):
            qgenx.user_levels(levels)
    bits = {
        count: qgenx.user_levels(np.arange(1, count + 1) / count).bits
        for count in (1, 2, 3, 4, 7, 8, 63, 64, 127)
    }
    assert bits == {1: 2, 2: 3, 3: 3, 4: 4, 7: 4, 8: 5, 63: 7, 64: 8, 127: 8}
    for base in (0, 1, -0.5, "half"):
        with pytest.raises(ValueError, match=r"base must be in \(0, 1\)"):
            qgenx.exponential(4, base=base)
    for make in (qgenx.uniform, qgenx.min_max):
        assert [make(b).bits for b in (1, 8)] == [1, 8]
    assert [qgenx.exponential(b).bits for b in (2, 8)] == [2, 8]
    assert qgenx.uniform(bucket_size=1).n_bytes(3) == 3 * (1 + 4)
    assert qgenx.accumulate(1, optax.sgd(1.0)).init(jnp.ones(2)).count == 0
    for decay in (-0.1, 1.0, 2.0):
        with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
            qgenx.ema(decay)
    assert isinstance(qgenx.ema(0.0), qgenx.Observer)
    problems = qgenx.problems
    assert problems.bilinear(2).solution.shape == (2,)
    assert problems.quadratic_game(1, strong=1).matrix == pytest.approx(1)
    assert (problems.bilinear(2, distance=0).solution == 0).all()
    for wrong in (0, -2):
        with pytest.raises(ValueError, match=r"dimension must be a whole number"):
            problems.bilinear(wrong)
    for strong in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"strong must be in \(0, 1\]"):
            problems.quadratic_game(3, strong=strong)


def test_lowest_exponential_levels_stop_at_the_same_point():
    levels = qgenx.exponential(8, base=0.5).levels
    exact = [max(2.0**-k, 2.0**-50) for k in range(126, -1, -1)]
    assert list(levels) == exact


def test_small_leaves_are_vectors_and_those_under_1024():
    shapes = {(32, 32): False, (33, 31): True, (1024,): True, (): True, (4, 0): True}
    for shape, small in shapes.items():
        leaf = jax.ShapeDtypeStruct(shape, "float32")
        assert qgenx.small_leaves("", leaf) == small, f"shape {shape}"


@pytest.mark.parametrize("count", [1, 2, 8, 9, 16])
def test_sums_are_in_the_order_of_the_workers(count):
    """Unrolled or in a loop, bit for bit: ((x_0 + x_1) + x_2) + ..."""
    numbers = vectors(count, 50)
    expected = numbers[0]
    for worker in range(1, count):
        expected = expected + numbers[worker]
    add_up = functools.partial(_trees.add_up, count)
    total = jax.jit(lambda rows: add_up(lambda worker: rows[worker]))(numbers)
    np.testing.assert_array_equal(total, expected)


def test_traffic_of_exact_empty_and_wide_trees():
    exact = qgenx.exchange(AXIS, None)
    traffic = exact.traffic(jnp.zeros(10), workers=4, scalar_bytes=4)
    assert traffic.payload_bytes == 40 + 4 * 4
    assert traffic.sent_bytes == 2 * 3 * 56 // 4
    assert traffic.bits_per_coordinate == 8 * 56 / 10
    assert exact.traffic({}, workers=2).bits_per_coordinate == 0
    with pytest.raises(ValueError, match=r"workers must be a whole number of at least"):
        exact.traffic(jnp.zeros(3), workers=0)
    with pytest.raises(ValueError, match=r"scalar_bytes must be a whole number"):
        exact.traffic(jnp.zeros(3), workers=1, scalar_bytes=-1)
    with jax.enable_x64(True):
        wide = jax.ShapeDtypeStruct((10,), "float64")
        sent = qgenx.exchange(AXIS, qgenx.uniform(8)).traffic(wide, workers=1)
    assert (sent.payload_bytes, sent.sent_bytes) == (10 + 8, 0)


@pytest.mark.parametrize("source", ["counter", "threefry"])
def test_bits_start_at_position_0_and_differ_elsewhere(source):
    key = jax.random.key(2)

    @jax.jit
    def draw():
        return [
            _random.bits_for(key, source, 1, 200, offset).piece(0, 200)
            for offset in (0, 0, 200)
        ]

    first, again, later = map(np.asarray, draw())
    np.testing.assert_array_equal(first, again)
    assert (first != later).mean() > 0.9, "two offsets share their bits"
    assert first.dtype == np.int32
    assert first.min() >= 0
    assert 2**15 < first.max() < 2**16


def test_refusals_that_no_other_test_meets():
    """Wrong kinds of arguments, each refused by name and with the way out."""
    exchange = qgenx.exchange(AXIS, qgenx.user_levels([0.5, 1.0]))
    state = exchange.init()

    def send(state):
        run = lambda v: exchange.send(v, state)[0][0]  # noqa: E731
        return jax.vmap(run, axis_name=AXIS)(jnp.ones((2, 3)))

    for levels in ({}, {"all": jnp.ones(3)}, {"other": jnp.ones(2)}, None):
        with pytest.raises(ValueError, match=r"state.levels must hold .*init of this"):
            send(state._replace(levels=levels))
    with pytest.raises(ValueError, match=r"exact must be a function .*small_leaves"):
        qgenx.exchange(AXIS, None, exact=["bias"])
    with pytest.raises(ValueError, match=r"optimizer must have an init"):
        qgenx.init(qgenx.extra_sgd, jnp.ones(2), workers=2)
    with pytest.raises(ValueError, match=r"must be one name where there is no mesh"):
        qgenx.map_workers(lambda p, s: (p, s), ("data", "more"), workers=2)
    with pytest.raises(ValueError, match=r"mesh must be a jax.sharding.Mesh, got 3"):
        qgenx.map_workers(lambda p, s: (p, s), AXIS, mesh=3)
    pair, x = qgenx.q_genx(AXIS, None, variant="optimistic"), jnp.ones(2)
    with pytest.raises(ValueError, match=r"params must have the tree structure of st"):
        pair.extrapolation.update(None, pair.init(x), {"x": x})


def test_numpys_whole_numbers_are_whole_numbers():
    traffic = qgenx.exchange(AXIS, None).traffic(jnp.ones(100), workers=np.uint8(200))
    assert traffic.sent_bytes == 2 * 199 * 400 // 200
    with pytest.raises(ValueError, match=r"workers must be a whole number"):
        qgenx.exchange(AXIS, None).traffic(jnp.ones(3), workers=np.float64(4))


def test_spectra_of_the_problems_are_the_documented_ones():
    with jax.enable_x64(True):
        for strong, d, seed in [(0.25, 6, 0), (1.0, 6, 0), (0.5, 2, 0), (0.5, 2, 1)]:
            problem = qgenx.problems.quadratic_game(
                d, strong=strong, seed=seed, distance=3.0
            )
            matrix = np.asarray(problem.matrix)
            symmetric, skew = (matrix + matrix.T) / 2, (matrix - matrix.T) / 2
            expected = np.geomspace(strong, 1, d)
            np.testing.assert_allclose(np.linalg.eigvalsh(symmetric), expected)
            np.testing.assert_allclose(np.linalg.norm(skew, 2), 1 - strong, atol=1e-15)
            np.testing.assert_allclose(np.linalg.norm(problem.solution), 3.0)
        matrix = np.asarray(qgenx.problems.bilinear(6).matrix)
        np.testing.assert_array_equal(matrix, -matrix.T)
        np.testing.assert_allclose(np.linalg.norm(matrix, 2), 1)
        assert (matrix[:3, :3] == 0).all()
