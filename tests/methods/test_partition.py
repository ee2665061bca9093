"""A pair for each player: as each alone, as optax.partition, and over workers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import projections

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

X = {"g": {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}, "d": jnp.full(4, 0.5)}
LABELS = {"g": "slow", "d": "fast"}


def operator(x, shift=0.0):
    """Each player's vector hangs on the other's point."""
    total = x["d"].sum() - shift
    return {
        "g": jax.tree.map(lambda w: w + total, x["g"]),
        "d": x["d"] - x["g"]["w"].sum() + x["g"]["b"].sum(),
    }


def pairs():
    return {
        "slow": qgenx.extra_adam(0.01),
        "fast": qgenx.extra_sgd(0.05, projection=projections.projection_hypercube),
    }


def after(pair, iterations=5):
    step = jax.jit(qgenx.iterate(pair, operator))
    x, state = X, pair.init(X)
    for _ in range(iterations):
        x, state = step(x, state)
    return x, state


def test_every_player_is_as_it_would_be_alone():
    """The two are run by hand, at both half-steps with the joint vector."""
    both = pairs()
    joint, _ = after(qgenx.partition(both, LABELS))
    g, d = X["g"], X["d"]
    states = {"g": both["slow"].init(g), "d": both["fast"].init(d)}
    for _ in range(5):
        for side in ("extrapolation", "update"):
            vector = operator({"g": g, "d": d})
            move_g, states["g"] = getattr(both["slow"], side).update(
                vector["g"], states["g"], g
            )
            move_d, states["d"] = getattr(both["fast"], side).update(
                vector["d"], states["d"], d
            )
            g, d = optax.apply_updates(g, move_g), optax.apply_updates(d, move_d)
    for found, expected in zip(
        jax.tree.leaves(joint), jax.tree.leaves({"g": g, "d": d}), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_one_label_is_the_pair_itself():
    x, state = after(qgenx.partition({"all": qgenx.extra_adam(0.1)}, "all"))
    expected, inner = after(qgenx.extra_adam(0.1))
    assert_trees_identical(x, expected, "one pair for all")
    assert_trees_identical(state.inner.inner["all"], inner.inner, "its state")


def test_plain_optimizers_are_as_in_optax_partition():
    optimizers = {"slow": optax.adam(0.01), "fast": optax.sgd(0.05, 0.9)}
    whole = qgenx.extragradient(optax.partition(optimizers, LABELS))
    apart = {label: qgenx.extragradient(base) for label, base in optimizers.items()}
    expected, _ = after(whole)
    found, _ = after(qgenx.partition(apart, LABELS))
    assert_trees_identical(found, expected, "optax.partition within a pair")


def test_labels_may_be_a_function():
    by_rank = lambda tree: jax.tree.map(lambda x: f"rank {np.ndim(x)}", tree)  # noqa: E731
    own = {"rank 1": qgenx.extra_sgd(0.1), "rank 2": qgenx.extra_sgd(0.2)}
    pair = qgenx.partition(own, by_rank)
    delta, _ = pair.extrapolation.update(operator(X), pair.init(X), X)
    np.testing.assert_allclose(delta["g"]["w"], -0.2 * operator(X)["g"]["w"])
    np.testing.assert_allclose(delta["d"], -0.1 * operator(X)["d"])


@pytest.mark.parametrize("place", ["vmap", "mesh"])
def test_it_goes_behind_one_exchange_and_before_observers(place):
    workers = 3
    pair = qgenx.chain(
        qgenx.quantized_mean(AXIS, qgenx.uniform(8), exact=None),
        qgenx.partition(pairs(), LABELS),
        qgenx.ema(0.9),
    )
    assert pair.traffic(X, workers).exchanges == 2
    where = {"workers": workers}
    if place == "mesh":
        where = {"mesh": jax.make_mesh((workers,), (AXIS,))}
    step = qgenx.iterate(pair, operator, axis_name=AXIS)
    run = qgenx.map_workers(step, AXIS, **where)
    x, state = X, qgenx.init(pair, X, axis_name=AXIS, **where)
    for _ in range(4):
        x, state = run(x, state, jnp.zeros((workers, 2)))
        assert_trees_identical(qgenx.x_t(state, x), x, "X_t, read from the states")
    exact, _ = after(qgenx.partition(pairs(), LABELS), 4)
    np.testing.assert_allclose(x["d"], exact["d"], atol=0.02)
    assert jax.tree.structure(qgenx.ema_params(state, x)) == jax.tree.structure(x)


def test_alternating_and_skip_not_finite_go_around_it():
    pair = qgenx.partition(pairs(), LABELS)
    optimizer = qgenx.skip_not_finite(qgenx.alternating(pair))
    update = jax.jit(optimizer.update)
    x, state = X, optimizer.init(X)
    for call in range(8):
        vector = operator(x)
        if call in (2, 3):
            vector = jax.tree.map(lambda v: v * jnp.nan, vector)
        delta, state = update(vector, state, x)
        x = optax.apply_updates(x, delta)
    assert bool(jnp.isfinite(x["d"]).all())
    half = optax.apply_updates(x, update(operator(x), state, x)[0])
    assert bool((half["d"] >= 0).all() & (half["d"] <= 1).all())


BAD = {
    "nothing": ({}, LABELS, "pairs must be a mapping with at least one pair"),
    "no mapping": (qgenx.extra_sgd(0.1), LABELS, "pairs must be a mapping"),
    "an optimizer": ({"a": optax.sgd(0.1)}, "a", "pair must be an extra-gradient pair"),
    "an observer": ({"a": qgenx.ema(0.9)}, "a", "pair must be an extra-gradient pair"),
    "an average": (
        {"a": qgenx.chain(qgenx.extra_sgd(0.1), qgenx.ema(0.9))},
        "a",
        r"pairs must have no observers.*chain\(partition",
    ),
    "an exchange": (
        {"a": qgenx.q_genx(None, None)},
        "a",
        r"pairs\['a'\] must not exchange.*chain\(quantized_mean",
    ),
    "a number": ({1: qgenx.extra_sgd(0.1)}, 1, "pairs must have strings for labels"),
    "no such label": (
        {"a": qgenx.extra_sgd(0.1)},
        {"g": "a", "d": "b"},
        "labels must be one of",
    ),
    "no such leaf": (
        {"a": qgenx.extra_sgd(0.1), "b": qgenx.extra_sgd(0.1)},
        "a",
        "labels must give 'b', which has a pair, at least one leaf",
    ),
    "another tree": (
        {"a": qgenx.extra_sgd(0.1)},
        {"x": "a"},
        "labels must be a prefix of the tree",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    given, labels, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        qgenx.partition(given, labels).init(X)


def test_all_or_none_extrapolate_by_themselves():
    free = qgenx.chain(optax.identity(), qgenx.extra_sgd(0.1))
    assert not free.is_oracle_free
    state = qgenx.partition({"a": free}, "a").init(X)
    other = qgenx.partition({"b": free}, "b")
    with pytest.raises(ValueError, match=r"state must have the labels \['b'\]"):
        other.extrapolation.update(operator(X), state, X)
    with pytest.raises(ValueError, match="state must be of type PartitionState"):
        other.extrapolation.update(operator(X), qgenx.extra_sgd(0.1).init(X), X)
