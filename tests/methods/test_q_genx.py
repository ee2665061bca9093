"""Q-GenX against an independent transcription of algorithm 1 in NumPy, and its gap."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, over_workers, within_5_sigma

pytestmark = pytest.mark.usefixtures("compiled_plainly")

VARIANTS = ["dual_averaging", "dual_extrapolation", "optimistic"]
WORKERS, DIMENSION, ITERATIONS = 3, 12, 20


def affine_oracles(seed=0):
    """K different affine operators: worker k's dual vector at x is B_k x + b_k."""
    rng = np.random.default_rng(seed)
    matrices = rng.normal(size=(WORKERS, DIMENSION, DIMENSION)) / np.sqrt(DIMENSION)
    offsets = rng.normal(size=(WORKERS, DIMENSION))
    return matrices, offsets


def algorithm_1(variant, gamma_of, x1, matrices, offsets, iterations):
    """Algorithm 1, read off the paper: gamma_of(t, S) for t = 1, 2, ..."""
    workers = len(matrices)
    x, y, s = x1.copy(), np.zeros_like(x1), 0.0
    previous = np.zeros((workers, x1.size))
    leading, points = [], []
    for t in range(1, iterations + 1):
        gamma = gamma_of(t, s)
        if variant == "dual_averaging":
            v = np.zeros((workers, x1.size))
        elif variant == "dual_extrapolation":
            v = np.stack([b @ x + c for b, c in zip(matrices, offsets, strict=True)])
        else:
            v = previous
        half = x - gamma / workers * v.sum(axis=0)
        v_half = np.stack(
            [b @ half + c for b, c in zip(matrices, offsets, strict=True)]
        )
        y = y - v_half.sum(axis=0) / workers
        s = s + ((v - v_half) ** 2).sum()
        x = x1 + gamma_of(t + 1, s) * y
        previous = v_half
        leading.append(half)
        points.append(x)
    return np.array(points), np.array(leading)


STEP_SIZES = {
    "adaptive": ({}, lambda t, s: WORKERS / np.sqrt(1 + s)),
    "gamma0": ({"gamma0": 0.25}, lambda t, s: 0.25 * WORKERS / np.sqrt(1 + s)),
    "initial_sum": (
        {"gamma0": 0.25, "initial_sum": 40.0},
        lambda t, s: 0.25 * WORKERS / np.sqrt(40 + s),
    ),
    "constant": ({"step_size": 0.05}, lambda t, s: 0.05),
    "schedule": (
        {"step_size": lambda count: 0.3 / (count + 2.0)},
        lambda t, s: 0.3 / (t + 1.0),
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("rule", STEP_SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_transcription_of_algorithm_1(variant, rule):
    settings, gamma_of = STEP_SIZES[rule]
    matrices, offsets = affine_oracles()
    with jax.enable_x64(True):
        x1 = np.random.default_rng(1).normal(size=DIMENSION)
        expected, leading = algorithm_1(
            variant, gamma_of, x1, matrices, offsets, ITERATIONS
        )
        pair = qgenx.chain(
            qgenx.q_genx(AXIS, None, variant=variant, **settings),
            qgenx.ergodic_average(),
        )
        calls = 1 if pair.is_oracle_free else 2

        def operator(x, matrix, offset):
            flat = jnp.concatenate([x["u"].reshape(-1), x["w"]])
            v = matrix @ flat + offset
            return {"u": v[:6].reshape(2, 3), "w": v[6:]}

        step = qgenx.map_workers(qgenx.iterate(pair, operator), AXIS, workers=WORKERS)
        x = {"u": jnp.asarray(x1[:6]).reshape(2, 3), "w": jnp.asarray(x1[6:])}
        state = qgenx.init(pair, x, workers=WORKERS)
        inputs = [
            jnp.repeat(jnp.asarray(a)[:, None], calls, axis=1)
            for a in (matrices, offsets)
        ]
        for t in range(ITERATIONS):
            x, state = step(x, state, *inputs)
            flat = np.concatenate([np.ravel(x["u"]), x["w"]])
            np.testing.assert_allclose(
                flat, expected[t], rtol=1e-12, atol=1e-12, err_msg=f"t = {t + 1}"
            )
        average = qgenx.ergodic_average_params(state)
        flat = np.concatenate([np.ravel(average["u"]), average["w"]])
        np.testing.assert_allclose(flat, leading.mean(axis=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_alternating_equals_the_pair(variant):
    """One vector per call: parameters are X_{t+1/2} (oracle-free), or take turns."""
    matrices, offsets = affine_oracles(2)
    with jax.enable_x64(True):
        x1 = np.random.default_rng(3).normal(size=DIMENSION)
        points, leading = algorithm_1(
            variant, STEP_SIZES["adaptive"][1], x1, matrices, offsets, ITERATIONS
        )
        pair = qgenx.q_genx(AXIS, None, variant=variant)
        optimizer = qgenx.alternating(
            qgenx.chain(pair, qgenx.ergodic_average(), qgenx.ema(0.5))
        )

        def call(x, state, matrix, offset):
            delta, state = optimizer.update(matrix @ x + offset, state, x)
            return optax.apply_updates(x, delta), state

        run = qgenx.map_workers(call, AXIS, workers=WORKERS)
        x = jnp.asarray(x1)
        state = qgenx.init(optimizer, x, workers=WORKERS)
        seen, read = [np.asarray(x)], [np.asarray(qgenx.x_t(state, x))]
        for _ in range(ITERATIONS * (1 if pair.is_oracle_free else 2)):
            x, state = run(x, state, jnp.asarray(matrices), jnp.asarray(offsets))
            seen.append(np.asarray(x))
            read.append(np.asarray(qgenx.x_t(state, x)))
        # X_t can be read at any time, whatever the parameters are
        starts = np.concatenate([[x1], points])
        if not pair.is_oracle_free:
            starts = np.repeat(starts, 2, axis=0)[:-1]
        np.testing.assert_allclose(read, starts, rtol=1e-12, atol=1e-12)
        if pair.is_oracle_free:
            np.testing.assert_allclose(seen[:-1], leading, rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_allclose(seen[1::2], leading, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(seen[2::2], points, rtol=1e-12, atol=1e-12)
        ema = x1
        for point in points:
            ema = 0.5 * ema + 0.5 * point
        np.testing.assert_allclose(qgenx.ema_params(state), ema, rtol=1e-12, atol=1e-12)
        # the oracle-free optimizer has extrapolated once more than it has updated
        counted = leading if not pair.is_oracle_free else np.array(seen)
        np.testing.assert_allclose(
            qgenx.ergodic_average_params(state),
            counted.mean(axis=0),
            rtol=1e-12,
            atol=1e-12,
        )


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gap_identity_without_noise(variant, workers):
    """Exact, skew, ball at x*: Gap(X-bar_T) = R ||X_{T+1} - X_1|| / (gamma_{T+1} T)."""
    horizon, radius = 200, 2.0
    with jax.enable_x64(True):
        problem = qgenx.problems.bilinear(20, seed=4)
        pair = qgenx.chain(
            qgenx.q_genx(AXIS, None, variant=variant), qgenx.ergodic_average()
        )
        step = qgenx.map_workers(
            qgenx.iterate(pair, problem.operator), AXIS, workers=workers
        )
        x1 = jnp.zeros(20)
        x, state = x1, qgenx.init(pair, x1, workers=workers)
        for _ in range(horizon):
            x, state = step(x, state)
        total = state.inner[0].step_size.sum_of_squares
        gamma = workers / jnp.sqrt(1 + total)
        gap = problem.gap(qgenx.ergodic_average_params(state), radius)
        expected = radius * jnp.linalg.norm(x - x1) / (gamma * horizon)
        np.testing.assert_allclose(gap, expected, rtol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_quantized_runs_stay_near_the_exact_one(variant):
    """8 bits: the gap of the average is that of the exact run within 5 percent."""
    gaps = {}
    for bits in (None, 8):
        problem = qgenx.problems.bilinear(20, seed=5)
        quantizer = None if bits is None else qgenx.uniform(bits)
        pair = qgenx.chain(
            qgenx.q_genx(AXIS, quantizer, variant=variant), qgenx.ergodic_average()
        )
        step = qgenx.map_workers(qgenx.iterate(pair, problem.operator), AXIS, workers=4)
        x = jnp.zeros(20)
        state = qgenx.init(pair, x, workers=4)
        for _ in range(1000):
            x, state = step(x, state)
        gaps[bits] = float(problem.gap(qgenx.ergodic_average_params(state)))
    assert 0.95 < gaps[8] / gaps[None] < 1.05, gaps


@pytest.mark.quick
def test_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'extra'"):
        qgenx.q_genx(AXIS, None, variant="extra")
    with pytest.raises(ValueError, match=r"gamma0 must be a positive.*got 0"):
        qgenx.q_genx(AXIS, None, gamma0=0)
    with pytest.raises(ValueError, match=r"gamma0 must be left out"):
        qgenx.q_genx(AXIS, None, gamma0=2.0, step_size=0.1)
    with pytest.raises(ValueError, match=r"step_size must be a positive.*got -1.0"):
        qgenx.q_genx(AXIS, None, step_size=-1.0)
    with pytest.raises(ValueError, match=r"quantizer must be a quantizer, or None"):
        qgenx.q_genx(AXIS, 8)


@pytest.mark.quick
def test_axis_that_is_not_bound_raises():
    pair = qgenx.q_genx(AXIS, qgenx.uniform(8))
    x = jnp.zeros(4)
    with pytest.raises(ValueError, match=r"axis_name must be the name of an axis"):
        pair.extrapolation.update(x, pair.init(x), x)


@pytest.mark.quick
def test_vector_of_another_structure_raises():
    pair = qgenx.q_genx(AXIS, None)
    x = {"x": jnp.zeros(4)}

    def run(v):
        return pair.extrapolation.update({"x": v[:3]}, pair.init(x), x)

    with pytest.raises(
        ValueError, match=r"leaf \['x'\] of updates must have the shape"
    ):
        jax.vmap(run, axis_name=AXIS)(jnp.zeros((2, 4)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dtypes_of_parameters_and_of_every_state_leaf(variant, dtype):
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), variant=variant)
    optimizer = qgenx.alternating(pair)
    x = jnp.ones(6, dtype)
    before = jax.eval_shape(optimizer.init, x)

    def run(_):
        x, state = jnp.ones(6, dtype), optimizer.init(jnp.ones(6, dtype))
        for _ in range(2):
            delta, state = optimizer.update(x, state, x)
            x = optax.apply_updates(x, delta)
        return x, state

    x_end, after = over_workers(run)
    assert x_end.dtype == dtype
    kinds = [leaf.dtype for leaf in jax.tree.leaves(before)]
    assert kinds == [leaf.dtype for leaf in jax.tree.leaves(after)]
    assert before.inner.dual.dtype == jnp.float32
    assert before.inner.anchor.dtype == dtype


def test_dual_vectors_in_bfloat16_are_averaged_without_bias():
    """Y is the sum of decoded vectors, which bfloat16 could not hold."""
    workers, draws = 4, 2000
    pair = qgenx.q_genx(
        AXIS, qgenx.uniform(8), variant="dual_averaging", step_size=1e-6
    )
    vector = jnp.array([1.7, 0.879, -0.31], jnp.bfloat16)

    def run(_):
        def one(state, _):
            _, state = pair.extrapolation.update(None, state, x)
            _, state = pair.update.update(vector, state, x)
            return state, None

        x = jnp.zeros(3, jnp.bfloat16)
        return lax.scan(one, pair.init(x), None, length=draws)[0].inner.dual

    dual = np.asarray(over_workers(run, workers), np.float64)
    step = 1.7 / 127
    error = step / 2 / np.sqrt(workers * draws)
    expected = -np.asarray(vector, np.float64)
    within_5_sigma(dual / draws, expected, error, "mean of the dual vectors")


@pytest.mark.quick
def test_no_leaf_to_quantize_is_said_at_init():
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), exact=qgenx.small_leaves)
    with pytest.raises(ValueError, match=r"exact must leave .* at least one leaf"):
        pair.init(jnp.ones(3))
