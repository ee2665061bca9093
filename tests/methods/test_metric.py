"""A step size for each player: NumPy's, and the scalar method's on other variables."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, traced

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

VARIANTS = ["dual_averaging", "dual_extrapolation", "optimistic"]
WORKERS, ITERATIONS = 3, 12
GAMMA0 = {"d": 0.5, "g": 0.125}
PARTS = (2, 4, 6)
NUMBERS = np.repeat([0.5, 0.5, 0.125], PARTS)
"""GAMMA0 for each of the twelve coordinates, in the order of leaves."""


def tree_of(flat):
    b, k, g = jnp.split(flat, [2, 6])
    return {"d": {"b": b, "k": k.reshape(2, 2)}, "g": g.reshape(3, 2)}


def flat_of(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def problem(dtype=np.float64):
    """Worker k's dual vector at x is B_k x + b_k; and the first point."""
    rng = np.random.default_rng(7)
    matrices = rng.normal(size=(WORKERS, 12, 12)) / 4
    offsets, start = rng.normal(size=(WORKERS, 12)), rng.normal(size=12)
    return tuple(x.astype(dtype) for x in (matrices, offsets, start))


def transcribed(variant, oracle, start, iterations):
    """X_2, X_3, ... and the step sizes, with NUMBERS for coordinates."""
    g = NUMBERS.max()
    w = NUMBERS / g
    x, y, total = start.copy(), np.zeros_like(start), 0.0
    old = np.zeros((WORKERS, start.size))
    points = []
    gamma = g * WORKERS
    for _ in range(iterations):
        first = {
            "dual_averaging": 0 * old,
            "dual_extrapolation": oracle(x),
            "optimistic": old,
        }[variant]
        half = x - gamma * w * first.mean(axis=0)
        second = oracle(half)
        y = y - second.mean(axis=0)
        total += (w * (first - second) ** 2).sum()
        gamma = g * WORKERS / np.sqrt(1 + total)
        x = start + gamma * w * y
        old = second
        points.append(x)
    return np.array(points), gamma


def run(pair, start, operator, inputs, iterations=ITERATIONS, mesh=None):
    """The points, as trees, and the last state."""
    place = {"workers": WORKERS} if mesh is None else {"mesh": mesh}
    step = qgenx.map_workers(qgenx.iterate(pair, operator), AXIS, **place)
    calls = 1 if pair.is_oracle_free else 2
    inputs = [jnp.repeat(jnp.asarray(a)[:, None], calls, axis=1) for a in inputs]
    state = qgenx.init(pair, start, axis_name=AXIS, **place)
    x, points = start, []
    for _ in range(iterations):
        x, state = step(x, state, *inputs)
        points.append(jax.device_get(x))
    return points, state


def affine(x, matrix, offset):
    leaves, tree = jax.tree.flatten(x)
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
    parts = jnp.split(matrix @ flat + offset, np.cumsum(PARTS)[:-1])
    shaped = [v.reshape(a.shape) for v, a in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(tree, shaped)


@pytest.mark.parametrize("mesh", [None, mesh_of(WORKERS)], ids=["vmap", "mesh"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_a_transcription_with_a_number_for_each_coordinate(variant, mesh):
    with jax.enable_x64(True):
        matrices, offsets, start = problem()
        oracle = lambda x: matrices @ x + offsets  # noqa: E731
        expected, gamma = transcribed(variant, oracle, start, ITERATIONS)
        pair = qgenx.q_genx(AXIS, None, variant=variant, gamma0=GAMMA0)
        inputs = (matrices, offsets)
        points, state = run(pair, tree_of(start), affine, inputs, mesh=mesh)
        found = np.array([flat_of(x) for x in points])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(state.inner.gamma, gamma, rtol=1e-12)
        read = flat_of(qgenx.x_t(state, points[-1]))
        np.testing.assert_allclose(read, expected[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_is_the_scalar_method_on_rescaled_variables(variant):
    """x = W^(1/2) z, to rounding; the roots of w are powers of 2."""
    with jax.enable_x64(True):
        matrices, offsets, start = problem()
        root = np.sqrt(NUMBERS / 0.5)
        pair = qgenx.q_genx(AXIS, None, variant=variant, gamma0=GAMMA0)
        found, state = run(pair, tree_of(start), affine, (matrices, offsets))
        scaled = (root[:, None] * matrices * root, root * offsets)
        pair = qgenx.q_genx(AXIS, None, variant=variant, gamma0=0.5)
        rescaled, other = run(pair, tree_of(start / root), affine, scaled)
        for x, z in zip(found, rescaled, strict=True):
            np.testing.assert_allclose(flat_of(x), root * flat_of(z), 1e-13, 1e-14)
        np.testing.assert_allclose(state.inner.gamma, other.inner.gamma, 1e-14)


EQUAL = {
    "prefix": {"d": 0.3, "g": 0.3},
    "a number for each leaf": {"d": {"b": 0.3, "k": 0.3}, "g": 0.3},
    "arrays": {"d": np.float64(0.3), "g": 0.3},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("numbers", EQUAL)
@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_numbers_are_one_number_to_the_bit(variant, numbers, dtype):
    matrices, offsets, start = problem(np.float32)
    results = []
    for gamma0 in (0.3, EQUAL[numbers]):
        pair = qgenx.q_genx(AXIS, qgenx.uniform(4), variant=variant, gamma0=gamma0)
        operator = lambda x, *inputs: jax.tree.map(  # noqa: E731
            lambda v: v.astype(dtype), affine(x, *inputs)
        )
        x = jax.tree.map(lambda v: v.astype(dtype), tree_of(start))
        inputs = (matrices, offsets)
        results.append(run(pair, x, operator, inputs, iterations=3))
    assert_trees_identical(results[1], results[0], f"{variant}, {numbers}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_measured_are_quantized_vectors(variant):
    """Signs are sent exactly in 2 bits, so NumPy knows what was decoded."""
    matrices, offsets, start = problem(np.float32)
    oracle = lambda x: np.where(matrices @ x + offsets > 0, 1.0, -1.0)  # noqa: E731
    expected, gamma = transcribed(variant, oracle, start, 4)

    def operator(x, matrix, offset):
        return jax.tree.map(
            lambda v: jnp.where(v > 0, 1.0, -1.0), affine(x, matrix, offset)
        )

    quantizer = qgenx.uniform(bits=2, norm=float("inf"))
    pair = qgenx.q_genx(AXIS, quantizer, variant=variant, gamma0=GAMMA0)
    points, state = run(
        pair,
        tree_of(start),
        operator,
        (matrices, offsets),
        iterations=4,
    )
    found = np.array([flat_of(x) for x in points])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.inner.gamma, gamma, rtol=1e-6)


@pytest.mark.parametrize("container", [list, tuple])
def test_players_in_lists_and_tuples_on_one_worker(container):
    """One iteration by hand: A = identity, x = ((1, 1), 2), d = (1, 1/4)."""
    start = container([jnp.ones(2), jnp.array([2.0])])
    pair = qgenx.q_genx(None, None, gamma0=container([1.0, 0.25]))
    step = jax.jit(qgenx.iterate(pair, lambda x: x))
    x, state = step(start, pair.init(start))
    # X_{1+1/2} = (0, 0), 3/2; V - V' = (1, 1), 1/2, so gamma_2 = 1 / sqrt(1 + 2 + 1/16)
    gamma = (49 / 16) ** -0.5
    np.testing.assert_allclose(state.inner.gamma, gamma, rtol=1e-6)
    np.testing.assert_allclose(x[0], [1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(x[1], [2 - gamma / 4 * 1.5], rtol=1e-6)
    assert isinstance(x, container)


def test_small_steps_of_bfloat16_parameters_are_kept_in_float32():
    """A player's steps below bfloat16's spacing add up in Y."""
    gamma0 = {"a": 1.0, "b": 2.0**-10}
    x = {name: jnp.ones(2, jnp.bfloat16) for name in gamma0}
    pair = qgenx.q_genx(None, None, variant="dual_averaging", gamma0=gamma0)
    step = jax.jit(qgenx.iterate(pair, lambda x: jax.tree.map(jnp.ones_like, x)))
    state = pair.init(x)
    for _ in range(3):
        x, state = step(x, state)
    assert all(v.dtype == jnp.bfloat16 for v in x.values())
    dual = state.inner.dual
    np.testing.assert_array_equal(dual["a"], np.full(2, -3, np.float32))
    np.testing.assert_array_equal(dual["b"], np.full(2, -3 * 2.0**-10, np.float32))
    assert dual["b"].dtype == jnp.float32


def test_players_whom_optax_hides_need_no_change():
    """Below optax.masked the parameters have no leaf for the number of a player."""
    pair = qgenx.q_genx(None, None, variant="optimistic", gamma0=GAMMA0)
    x = tree_of(jnp.ones(12))
    optimizer = optax.masked(qgenx.alternating(pair), {"d": False, "g": True})
    delta, _ = optimizer.update(x, optimizer.init(x), x)
    assert float(jnp.abs(delta["g"]).max()) > 0.01


def player_step(gamma0, params):
    pair = qgenx.q_genx(AXIS, None, variant="optimistic", gamma0=gamma0)
    return traced(lambda: pair.extrapolation.update(None, pair.init(params), params))


X = np.ones(3, np.float32)
POSITIVE = r"leaf \['d'\] of gamma0 must be a positive, finite number, got "
PREFIX = r"gamma0 must be a prefix of the parameters, PyTreeDef.*, got PyTreeDef.*: "
ROWS = {
    "zero": (lambda: qgenx.q_genx(AXIS, None, gamma0={"d": 0}), POSITIVE + "0: pass"),
    "negative": (
        lambda: qgenx.q_genx(AXIS, None, gamma0={"d": -1.0, "g": 1.0}),
        POSITIVE + "-1.0: pass one",
    ),
    "infinite": (
        lambda: qgenx.q_genx(AXIS, None, gamma0={"g": 1.0, "d": np.inf}),
        POSITIVE + "inf: pass one",
    ),
    "NaN": (lambda: qgenx.q_genx(AXIS, None, gamma0={"d": np.nan}), POSITIVE + "nan"),
    "text": (lambda: qgenx.q_genx(AXIS, None, gamma0={"d": "1"}), POSITIVE + "'1'"),
    "a vector": (lambda: qgenx.q_genx(AXIS, None, gamma0={"d": X}), POSITIVE + "array"),
    "a truth": (
        lambda: qgenx.q_genx(AXIS, None, gamma0={"d": True}),
        POSITIVE + "True",
    ),
    "no number": (
        lambda: qgenx.q_genx(AXIS, None, gamma0={}),
        "gamma0 must hold a number, got {}: pass one number for all",
    ),
    "traced": (
        lambda: jax.eval_shape(lambda d: player_step({"d": d}, {"d": X}), 1.0),
        r"leaf \['d'\] of gamma0 must be known when it is traced, got .*: pass Python",
    ),
    "with a step size": (
        lambda: qgenx.q_genx(AXIS, None, gamma0=GAMMA0, step_size=0.1),
        "gamma0 must be left out where step_size .*, got {'d': 0.5, .*: .*leave step_",
    ),
    "for the rule alone, which has no players": (
        lambda: qgenx.adaptive_step_size(GAMMA0),
        "gamma0 must be a positive, .*, got {'d': 0.5, .*: .* each player goes to q_",
    ),
    "another name": (lambda: player_step(GAMMA0, {"d": X, "e": X}), PREFIX + "pass"),
    "a player without a number": (
        lambda: player_step({"d": 1.0}, {"d": X, "g": X}),
        PREFIX + "pass one",
    ),
    "deeper than the parameters": (
        lambda: player_step({"d": {"k": 1.0}}, {"d": X}),
        PREFIX + "pass one",
    ),
    "a list for a tuple": (lambda: player_step([1.0, 2.0], (X, X)), PREFIX + "pass"),
    "a list too short": (lambda: player_step([1.0], [X, X]), PREFIX + "pass"),
    "None for a player": (
        lambda: player_step({"d": 1.0, "g": None}, {"d": X, "g": X}),
        PREFIX + "pass",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_the_prefix_is_asked_for_at_init():
    pair = qgenx.q_genx(AXIS, None, gamma0=GAMMA0)
    with pytest.raises(ValueError, match="gamma0 must be a prefix of the parameters"):
        pair.init({"g": X})
