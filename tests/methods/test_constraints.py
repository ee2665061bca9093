"""Feasible sets: methods against NumPy, points to the last bit, limits against LPs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import projections
from scipy import optimize

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

VARIANTS = ["dual_averaging", "dual_extrapolation", "optimistic"]
WORKERS, ITERATIONS = 3, 25
LOW, HIGH = -0.1, 0.3
BOX = functools.partial(projections.projection_box, lower=LOW, upper=HIGH)


def simplex_of(y):
    """The nearest point of the simplex, by bisection of the threshold."""
    low, high = y.min() - 1, y.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(y - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(y - high, 0)


def joint(x):
    """Twelve coordinates: four free, three in the box, five on a simplex."""
    return np.concatenate([x[:4], np.clip(x[4:7], LOW, HIGH), simplex_of(x[7:])])


PROJECTION = {"free": None, "box": BOX, "simplex": projections.projection_simplex}
START = np.array([0.5, -1, 2, 0, 0.1, 0.3, -0.1, 0.2, 0.2, 0.2, 0.2, 0.2])


def tree_of(flat):
    free, box, simplex = jnp.split(flat, [4, 7])
    return {"free": free.reshape(2, 2), "box": box, "simplex": simplex}


def flat_of(tree):
    return jnp.concatenate([tree[k].reshape(-1) for k in ("free", "box", "simplex")])


def problem():
    """Worker k's dual vector at x is B_k x + b_k."""
    rng = np.random.default_rng(3)
    matrices = rng.normal(size=(WORKERS, 12, 12)) / 4
    return matrices, rng.normal(size=(WORKERS, 12))


def numpy_q_genx(variant, oracle, iterations):
    x, y, total, gamma = START.copy(), np.zeros(12), 0.0, float(WORKERS)
    old, points = np.zeros((WORKERS, 12)), []
    for _ in range(iterations):
        first = {
            "dual_averaging": 0 * old,
            "dual_extrapolation": oracle(x),
            "optimistic": old,
        }[variant]
        half = joint(x - gamma * first.mean(axis=0))
        if variant == "dual_averaging":
            half = x
        second = oracle(half)
        y = y - second.mean(axis=0)
        total += ((first - second) ** 2).sum()
        gamma = WORKERS / np.sqrt(1 + total)
        x = joint(START + gamma * y)
        old = second
        points.append(x)
    return np.array(points)


def numpy_extragradient(oracle, iterations):
    x, points = START.copy(), []
    for _ in range(iterations):
        half = joint(x - 0.2 * oracle(x).mean(axis=0))
        x = joint(x - 0.2 * oracle(half).mean(axis=0))
        points.append(x)
    return np.array(points)


def trajectory(pair):
    """X_2, X_3, ... of the pair over the workers, float64."""

    def operator(x, matrix, offset):
        return tree_of(matrix @ flat_of(x) + offset)

    step = qgenx.iterate(pair, operator)
    run = qgenx.map_workers(step, AXIS, workers=WORKERS)
    calls = 1 if pair.is_oracle_free else 2
    inputs = [jnp.repeat(jnp.asarray(a)[:, None], calls, 1) for a in problem()]
    x = tree_of(jnp.asarray(START))
    state = qgenx.init(pair, x, workers=WORKERS)
    points = []
    for _ in range(ITERATIONS):
        x, state = run(x, state, *inputs)
        points.append(np.asarray(flat_of(x)))
        read = flat_of(qgenx.x_t(state, x))
        np.testing.assert_array_equal(read, points[-1], "x_t is not where it stands")
    return np.array(points)


def oracle(x):
    matrices, offsets = problem()
    return matrices @ x + offsets


@pytest.mark.parametrize("variant", VARIANTS)
def test_q_genx_is_projected_dual_averaging(variant):
    with jax.enable_x64(True):
        pair = qgenx.q_genx(AXIS, None, variant=variant, projection=PROJECTION)
        found = trajectory(pair)
    np.testing.assert_allclose(
        found, numpy_q_genx(variant, oracle, ITERATIONS), atol=1e-12
    )


def test_extragradient_projects_both_half_steps():
    with jax.enable_x64(True):
        pair = qgenx.chain(
            qgenx.quantized_mean(AXIS, None),
            qgenx.extra_sgd(0.2, projection=PROJECTION),
        )
        found = trajectory(pair)
    np.testing.assert_allclose(
        found, numpy_extragradient(oracle, ITERATIONS), atol=1e-12
    )


def test_optimistic_is_popovs_method():
    matrices, offsets = problem()
    matrix, offset = matrices[0], offsets[0]
    x = w = START.copy()
    with jax.enable_x64(True):
        optimizer = qgenx.optimistic(optax.sgd(0.2), projection=PROJECTION)
        params = tree_of(jnp.asarray(START))
        state = optimizer.init(params)
        for _ in range(ITERATIONS):
            u = -0.2 * (matrix @ x + offset)
            w = joint(w + u)
            x = joint(w + u)
            vector = tree_of(matrix @ flat_of(params) + offset)
            delta, state = jax.jit(optimizer.update)(vector, state, params)
            params = optax.apply_updates(params, delta)
            np.testing.assert_allclose(flat_of(params), x, atol=1e-12)


@pytest.mark.parametrize("prox", ["projection", "entropic"])
def test_a_matrix_game_ends_where_its_linear_program_does(prox):
    """The value of the game, and its only equilibrium, by scipy's LP solver."""
    payoff = np.array([[3.0, -1, 2], [1, 2, -2], [-2, 4, 1]])
    solved = optimize.linprog(
        [0, 0, 0, -1],
        A_ub=np.hstack([-payoff.T, np.ones((3, 1))]),
        b_ub=np.zeros(3),
        A_eq=[[1, 1, 1, 0]],
        b_eq=[1],
        bounds=[(0, None)] * 3 + [(None, None)],
    )
    row, value = solved.x[:3], solved.x[3]
    kind = projections.projection_simplex if prox == "projection" else qgenx.entropic()
    with jax.enable_x64(True):
        game = jnp.asarray(payoff)

        def operator(x):
            return {"row": -game @ x["column"], "column": game.T @ x["row"]}

        pair = qgenx.extra_sgd(0.1, projection={"row": kind, "column": kind})
        x = {"row": jnp.full(3, 1 / 3), "column": jnp.full(3, 1 / 3)}
        step = qgenx.iterate(pair, operator)
        (x, _), _ = jax.jit(
            lambda c: jax.lax.scan(lambda c, _: (step(*c), None), c, length=20_000)
        )((x, pair.init(x)))
    x = jax.device_get(x)
    np.testing.assert_allclose(x["row"], row, atol=1e-6)
    np.testing.assert_allclose(x["row"] @ payoff @ x["column"], value, atol=1e-6)


def test_q_genx_ends_where_the_quadratic_program_does():
    """min ||x - a||_Q^2 / 2 on a simplex."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(6, 6))
    q, a = root @ root.T / 6 + np.eye(6), rng.normal(size=6)
    solved = optimize.minimize(
        lambda x: (x - a) @ q @ (x - a) / 2,
        np.full(6, 1 / 6),
        jac=lambda x: q @ (x - a),
        method="SLSQP",
        bounds=[(0, None)] * 6,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x
    with jax.enable_x64(True):
        pair = qgenx.q_genx(None, None, projection=projections.projection_simplex)
        step = qgenx.iterate(pair, lambda x: jnp.asarray(q) @ (x - a))
        x = jnp.full(6, 1 / 6, jnp.float64)
        (x, _), _ = jax.jit(
            lambda c: jax.lax.scan(lambda c, _: (step(*c), None), c, length=5000)
        )((x, pair.init(x)))
    np.testing.assert_allclose(x, solved, atol=1e-6)


def test_replicas_and_mappings_agree_to_the_bit():
    """Over vmap and devices, with 4 bits, the same points."""
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), projection=PROJECTION)
    x = tree_of(jnp.asarray(START, jnp.float32))
    inputs = [jnp.asarray(a, jnp.float32)[:, None].repeat(2, 1) for a in problem()]
    step = qgenx.iterate(
        pair, lambda x, b, c: tree_of(b @ flat_of(x) + c), axis_name=AXIS
    )
    ends = []
    mesh = jax.make_mesh((WORKERS,), (AXIS,))
    for place in ({"workers": WORKERS}, {"mesh": mesh}):
        run = qgenx.map_workers(step, AXIS, **place)
        at, state = x, qgenx.init(pair, x, axis_name=AXIS, **place)
        for _ in range(6):
            at, state = run(at, state, *inputs)
        ends.append(np.asarray(flat_of(jax.device_get(at))))
    np.testing.assert_array_equal(*ends)


def test_a_player_hidden_by_masked_has_no_projection():
    optimizer = optax.masked(
        qgenx.alternating(qgenx.extra_sgd(1.0, projection={"x": BOX, "y": BOX})),
        {"x": True, "y": False},
    )
    x = {"x": jnp.zeros(2), "y": jnp.zeros(2)}
    delta, _ = optimizer.update({"x": -jnp.ones(2), "y": x["y"]}, optimizer.init(x), x)
    np.testing.assert_allclose(delta["x"], HIGH)


@pytest.mark.parametrize(
    ("projection", "params", "message"),
    [
        (3, jnp.zeros(2), "projection must be a function from a point to a feasible"),
        ({"x": 1.0}, {"x": jnp.zeros(2)}, "projection must be a function"),
        ({"y": BOX}, {"x": jnp.zeros(2)}, "projection must be a prefix of the param"),
        ([BOX], jnp.zeros(2), "projection must be a prefix of the parameters"),
        (BOX, jnp.array([0.0, 1.0]), "params must be feasible.*moves by 0.7"),
        ({"x": BOX}, {"x": jnp.array([9.0])}, r"leaf \['x'\] of params must be feas"),
        (lambda x: x[:1], jnp.zeros(2), r"projection\(x\) must have the shape"),
        (lambda x: 2 * x + 1, jnp.zeros(2), "moves its own result by 4"),
        (lambda x: x * jnp.nan, jnp.zeros(2), "moves its own result by nan"),
    ],
)
@pytest.mark.parametrize("make", ["extra_sgd", "q_genx", "optimistic"])
def test_bad_input(make, projection, params, message):
    makers = {
        "extra_sgd": lambda: qgenx.extra_sgd(0.1, projection=projection),
        "q_genx": lambda: qgenx.q_genx(None, None, projection=projection),
        "optimistic": lambda: qgenx.optimistic(optax.sgd(0.1), projection=projection),
    }
    with pytest.raises(ValueError, match=message):
        makers[make]().init(params)


@pytest.mark.parametrize("place", ["vmap", "mesh"])
def test_an_infeasible_start_is_refused_where_init_is_compiled(place):
    where = {"workers": 2}
    if place == "mesh":
        where = {"mesh": jax.make_mesh((2,), (AXIS,)), "axis_name": AXIS}
    pair = qgenx.chain(
        qgenx.quantized_mean(AXIS, None),
        qgenx.partition({"a": qgenx.extra_sgd(0.1, projection=BOX)}, "a"),
    )
    with pytest.raises(ValueError, match="params must be feasible"):
        qgenx.init(pair, jnp.array([1.0]), **where)
    shapes = qgenx.init(pair, jax.ShapeDtypeStruct((1,), "float32"), **where)
    assert isinstance(jax.tree.leaves(shapes)[0], jax.ShapeDtypeStruct)


@pytest.mark.parametrize(
    ("projection", "x"),
    [
        (BOX, [0.45, 0.0]),
        (projections.projection_non_negative, [-0.4, 1.0]),
        (projections.projection_simplex, [0.0, 0.0]),
        (qgenx.entropic(), [1.0, 1.0]),
    ],
)
def test_few_bits_are_no_excuse_for_a_start(projection, x):
    pair = qgenx.extra_sgd(0.1, projection=projection)
    with pytest.raises(ValueError, match="params must be feasible"):
        pair.init(jnp.array(x, "bfloat16"))
    third = jnp.full(3, 1 / 3, "bfloat16")
    qgenx.extra_sgd(0.1, projection=projections.projection_simplex).init(third)


def test_a_function_of_pieces_is_not_called_with_whole_leaves():
    """A ball around all of a leaf that is cut: init leaves its values alone."""
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((2, 2), (AXIS, "model"), auto)
    where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    x = jax.device_put(jnp.ones(4), where)

    def ball(x):
        return x / jnp.maximum(jnp.sqrt(jax.lax.psum(jnp.sum(x**2), "model")), 1)

    pair = qgenx.extra_sgd(1.0, projection=ball)
    state = qgenx.init(pair, x, mesh, AXIS)
    assert state.inner.anchor.sharding.spec == where.spec

    def step(x, state):
        delta, _ = pair.extrapolation.update(-x, state, x)
        return x + delta

    specs = qgenx.state_specs(state, AXIS, x)
    run = jax.shard_map(
        step, mesh=mesh, in_specs=(where.spec, specs), out_specs=where.spec
    )
    np.testing.assert_allclose(jax.jit(run)(x, state), 0.5, rtol=1e-6)


def test_players_with_rates_of_their_own_have_projections_of_their_own():
    x = {"a": jnp.full(2, 0.25), "b": jnp.full(2, 0.25)}
    gamma0 = {"a": 0.5, "b": 0.25}
    simplex = projections.projection_simplex
    with pytest.raises(ValueError, match="projection must be a tree with a function"):
        qgenx.q_genx(None, None, gamma0=gamma0, projection=simplex).init(x)
    qgenx.q_genx(None, None, gamma0=gamma0, projection={"a": BOX, "b": BOX}).init(x)
    qgenx.q_genx(None, None, gamma0=0.5, projection=simplex).init(x)


def test_a_state_is_that_of_the_same_constraints():
    x = jnp.zeros(2)
    for make in (
        lambda **how: qgenx.q_genx(None, None, **how),
        lambda **how: qgenx.optimistic(optax.sgd(0.1), **how),
    ):
        free, bound = make(), make(projection=BOX)
        for one, other in ((free, bound), (bound, free)):
            update = getattr(one, "extrapolation", one).update
            with pytest.raises(ValueError, match=r"state\.(point|anchor) must be"):
                update(x, other.init(x), x)
