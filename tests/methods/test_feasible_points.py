"""Where points are: in a box to the last bit, on simplices; and as they were before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import projections

import qgenx_jax as qgenx
from tests.lib.helpers import assert_trees_identical

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

LOW, HIGH = -0.1, 0.3
BOX = functools.partial(projections.projection_box, lower=LOW, upper=HIGH)

PAIRS = {
    "extra_sgd": lambda **how: qgenx.extra_sgd(0.37, **how),
    "extra_adam": lambda **how: qgenx.extra_adam(0.2, eps=1e-3, **how),
    "momentum": lambda **how: qgenx.extra_sgd(0.2, 0.9, **how),
    "dual_extrapolation": lambda **how: qgenx.q_genx(None, None, **how),
    "dual_averaging": lambda **how: qgenx.q_genx(
        None, None, variant="dual_averaging", **how
    ),
    "optimistic": lambda **how: qgenx.q_genx(
        None, qgenx.uniform(4), variant="optimistic", **how
    ),
}


def points_of(pair, x, operator, iterations, alternates=False):
    """Every half-step's point, stacked; by the pair or by its alternating form."""
    if alternates:
        optimizer = qgenx.alternating(pair)

        def call(carry, t):
            x, state = carry
            delta, state = optimizer.update(operator(x, t), state, x)
            x = optax.apply_updates(x, delta)
            return (x, state), (x, x)

        state = optimizer.init(x)
    else:

        def call(carry, t):
            x, state = carry
            vector = None if pair.is_oracle_free else operator(x, t)
            delta, state = pair.extrapolation.update(vector, state, x)
            half = optax.apply_updates(x, delta)
            delta, state = pair.update.update(operator(half, t), state, half)
            x = optax.apply_updates(half, delta)
            return (x, state), (half, x)

        state = pair.init(x)
    scan = jax.jit(lambda c: jax.lax.scan(call, c, jnp.arange(iterations)))
    return jnp.concatenate(scan((x, state))[1])


@pytest.mark.parametrize("alternates", [False, True], ids=["pair", "alternating"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", PAIRS)
def test_boxes_hold_to_the_last_bit(name, dtype, alternates):
    b = jax.random.normal(jax.random.key(0), (50, 50))

    def operator(x, t):
        vector = (b - b.T) @ x.astype(jnp.float32) + jnp.sin(1.0 * t)
        return vector.astype(dtype)

    x = jnp.zeros(50, dtype)
    points = points_of(
        PAIRS[name](projection=BOX), x, operator, 60, alternates=alternates
    )
    low, high = jnp.asarray(LOW, dtype), jnp.asarray(HIGH, dtype)
    assert bool(jnp.all((points >= low) & (points <= high))), (
        f"{int(jnp.sum((points < low) | (points > high)))} coordinates are outside"
    )
    if name != "optimistic":  # whose steps soon are short here
        assert bool(jnp.any(points == low) | jnp.any(points == high)), "nothing met it"


@pytest.mark.parametrize("prox", ["projection", "entropic"])
@pytest.mark.parametrize("name", PAIRS)
def test_simplices_hold(name, prox):
    size = 30
    kind = projections.projection_simplex if prox == "projection" else qgenx.entropic()
    b = jax.random.normal(jax.random.key(1), (size, size))
    x = jnp.full(size, 1 / size)
    points = points_of(PAIRS[name](projection=kind), x, lambda x, t: b @ x, 100)
    assert bool(jnp.all(points >= 0)), "a coordinate is negative"
    if prox == "entropic":
        assert bool(jnp.all(points > 0)), "a coordinate became zero, for ever"
    np.testing.assert_allclose(points.sum(axis=1), 1, atol=4 * size * 2**-24)


@pytest.mark.parametrize(("x", "p"), [(0.9, 0.1), (1e6, 0.3), (-5e-8, 0.1), (0.3, 0.3)])
def test_a_difference_ends_inside(x, p):
    """Where the grid of x + delta misses the bound the sum is one step inside."""
    pair = qgenx.extra_sgd(
        1.0, projection=lambda tree: projections.projection_box(tree, p, np.inf)
    )
    x = jnp.asarray([max(x, p)], jnp.float32)
    delta, _ = jax.jit(pair.extrapolation.update)(
        jnp.asarray([1e9], jnp.float32), pair.init(x), x
    )
    landed = float((x + delta)[0])
    assert landed >= np.float32(p)
    assert landed - p <= 2 * np.spacing(np.float32(max(abs(float(x[0])), p)))


@pytest.mark.parametrize("name", PAIRS)
def test_no_projection_is_the_method_to_the_bit(name):
    b = jax.random.normal(jax.random.key(2), (20, 20))
    x = jnp.ones(20)
    start = {"x": x}

    def after_five(pair):
        step = jax.jit(qgenx.iterate(pair, lambda x: {"x": b @ x["x"]}))
        at, state = start, pair.init(start)
        for _ in range(5):
            at, state = step(at, state)
        return at, state

    expected = after_five(PAIRS[name]())
    for nothing in (None, {"x": None}):
        found = after_five(PAIRS[name](projection=nothing))
        assert_trees_identical(found, expected, "a projection of None")


def test_vectors_of_few_bits_do_not_lead_out_of_a_box_of_float32():
    pair = qgenx.extra_sgd(1.0, projection=BOX)
    x = jnp.array([0.2, 0.1, 0.29999], jnp.float32)
    vector = -jnp.array([1.0, 0.19997, 0.5], jnp.bfloat16)
    delta, _ = pair.extrapolation.update(vector, pair.init(x), x)
    half = optax.apply_updates(x, delta)
    assert half.dtype == x.dtype
    assert bool((half <= jnp.float32(HIGH)).all())
