"""Local steps: H steps of each worker alone, then an exchange of what they moved."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, assert_trees_identical, mesh_of, vectors
from tests.lib.hlo import collectives

WORKERS, SIZE = 4, 40
UNIFORM = qgenx.uniform(bits=8, bucket_size=16)
PLACES = {"vmap": {"workers": WORKERS}, "shard_map": {"mesh": mesh_of(WORKERS)}}
in_places = pytest.mark.parametrize("place", PLACES)
TARGETS = jnp.asarray(vectors(WORKERS, SIZE))


def local_step(optimizer):
    def step(params, state, target):
        gradient = qgenx.x_local(state, params) - target
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return step


def plain_step(optimizer):
    def step(params, state, target):
        gradient = qgenx.local_params(params, AXIS) - target
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return step


def started(optimizer, place, params=None):
    params = jnp.zeros(SIZE) if params is None else params
    where = PLACES[place]
    mesh = where.get("mesh")
    named = (mesh, AXIS) if mesh is not None else ()
    return params, qgenx.init(optimizer, params, *named, workers=where.get("workers"))


def trained(step, optimizer, calls, place="vmap", targets=TARGETS):
    params, state = started(optimizer, place)
    run = qgenx.map_workers(step(optimizer), AXIS, **PLACES[place])
    for _ in range(calls):
        params, state = run(params, state, targets)
    return params, state


def of(quantizer, **settings):
    return qgenx.exchange(AXIS, quantizer, **settings)


@in_places
@pytest.mark.parametrize("quantizer", [UNIFORM, None], ids=["8 bits", "exact"])
def test_one_step_of_sgd_is_the_plain_exchange_to_the_bit(place, quantizer):
    """A power of two for a rate: to quantize g and -g / 4 rounds alike."""
    local = qgenx.local_steps(1, optax.sgd(0.25), of(quantizer))
    before = optax.chain(
        optax.sgd(0.25),
        qgenx.quantized_mean(AXIS, quantizer, exact=None, collective="once"),
    )
    found = trained(local_step, local, 5, place)[0]
    assert_trees_identical(found, trained(plain_step, before, 5, place)[0], "H = 1")


def by_hand(every, calls, rate, outer_rate, momentum, targets):
    """DiLoCo with SGD inside, exact exchanges, in float64."""
    x, velocity = np.zeros(SIZE), np.zeros(SIZE)
    drifts = np.zeros((WORKERS, SIZE))
    for t in range(calls):
        drifts += -rate * (x + drifts - np.asarray(targets, np.float64))
        if (t + 1) % every == 0:
            pseudo = -drifts.mean(axis=0)
            velocity = momentum * velocity + pseudo
            x = x - outer_rate * (pseudo + momentum * velocity)
            drifts[:] = 0
    return x, drifts


@in_places
@pytest.mark.parametrize("calls", [8, 11])
def test_diloco_is_that_of_a_transcription(place, calls):
    outer = optax.sgd(0.7, momentum=0.9, nesterov=True)
    optimizer = qgenx.local_steps(4, optax.sgd(0.1), of(None), outer=outer)
    params, state = trained(local_step, optimizer, calls, place)
    x, drifts = by_hand(4, calls, 0.1, 0.7, 0.9, TARGETS)
    np.testing.assert_allclose(params, x, atol=2e-6)
    np.testing.assert_allclose(state.per_worker.drift, drifts, atol=2e-6)
    assert state.count == calls % 4


def test_adam_inside_is_each_workers_own():
    optimizer = qgenx.local_steps(3, optax.adam(0.1), of(None))
    params, state = trained(local_step, optimizer, 3)
    adam, moved = optax.adam(0.1), []
    for target in TARGETS:
        x, own = jnp.zeros(SIZE), adam.init(jnp.zeros(SIZE))
        for _ in range(3):
            updates, own = adam.update(x - target, own)
            x = optax.apply_updates(x, updates)
        moved.append(x)
    np.testing.assert_allclose(params, np.mean(moved, axis=0), atol=1e-6)
    assert state.per_worker.inner[0].count.tolist() == [3] * WORKERS


@in_places
def test_parameters_stand_still_between_exchanges(place):
    optimizer = qgenx.local_steps(3, optax.sgd(0.1), of(UNIFORM))
    for calls, moves in [(2, False), (3, True), (5, True)]:
        params, state = trained(local_step, optimizer, calls, place)
        assert bool(jnp.any(params != 0)) == moves
        drift = np.asarray(state.per_worker.drift)
        assert drift.any() == (calls % 3 != 0)


def test_an_exchange_of_few_bits_is_unbiased():
    """Over keys, the mean of X after an exchange is that of an exact one: 5 sigma."""
    exact = trained(local_step, qgenx.local_steps(2, optax.sgd(0.3), of(None)), 2)[0]

    @jax.jit
    @jax.vmap
    def one(key):
        exchange = of(qgenx.uniform(bits=2, bucket_size=16))
        optimizer = qgenx.local_steps(2, optax.sgd(0.3), exchange)
        params, state = started(optimizer, "vmap")
        words = jax.random.key_data(key)
        state = state._replace(exchange=state.exchange._replace(key=words))
        run = qgenx.map_workers(local_step(optimizer), AXIS, workers=WORKERS)
        for _ in range(2):
            params, state = run(params, state, TARGETS)
        return params

    found = one(jax.random.split(jax.random.key(0), 4000))
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - exact) <= 5 * error + 1e-6).all()
    assert (error > 0).any()


def test_local_extragradient_of_a_game():
    """u.w by two half-steps, of which SGD turns outwards."""
    inner = qgenx.alternating(qgenx.extra_sgd(0.3))
    optimizer = qgenx.local_steps(4, inner, of(qgenx.uniform(8)))

    def step(params, state, shift):
        here = qgenx.x_local(state, params)
        vector = {"u": here["w"] + shift, "w": -here["u"]}
        updates, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    params = {"u": jnp.ones(8), "w": jnp.ones(8)}
    state = qgenx.init(optimizer, params, workers=2)
    run = qgenx.map_workers(step, AXIS, workers=2)
    for _ in range(400):
        params, state = run(params, state, jnp.array([0.5, -0.5]))
    assert optax.tree.norm(params) < 0.05


@in_places
def test_bytes_travel_at_every_hth_call_alone(place):
    optimizer = qgenx.local_steps(16, optax.sgd(0.1), of(UNIFORM))
    sent = optimizer.traffic(jnp.zeros(SIZE), workers=WORKERS).sent_bytes
    assert sent == of(UNIFORM).traffic(jnp.zeros(SIZE), WORKERS).sent_bytes
    assert optimizer.every == 16
    params, state = started(optimizer, place)
    run = qgenx.map_workers(local_step(optimizer), AXIS, **PLACES[place])
    found = collectives(run.lower(params, state, TARGETS).compile().as_text())
    if place == "vmap":
        assert found == []
    else:  # in a branch, and nothing beside it
        assert found == [("all-gather", "u8", sent * WORKERS // (WORKERS - 1))]


def test_a_run_goes_on_from_a_saved_state_to_the_bit():
    optimizer = qgenx.local_steps(4, optax.adam(0.1), of(UNIFORM))
    straight = trained(local_step, optimizer, 10)
    params, state = trained(local_step, optimizer, 6)
    params, state = jax.tree.map(jnp.asarray, jax.device_get((params, state)))
    run = qgenx.map_workers(local_step(optimizer), AXIS, workers=WORKERS)
    for _ in range(4):
        params, state = run(params, state, TARGETS)
    assert_trees_identical((params, state), straight, "resumed")


def test_another_number_of_workers_goes_on_from_the_mean_drift():
    optimizer = qgenx.local_steps(4, optax.adam(0.1), of(UNIFORM))
    params, state = trained(local_step, optimizer, 6)
    fewer = qgenx.reshard(state, workers=2)
    drift = np.asarray(state.per_worker.drift)
    np.testing.assert_allclose(
        fewer.per_worker.drift, np.repeat(drift.mean(0)[None], 2, 0), rtol=1e-6
    )
    assert fewer.per_worker.inner[0].count.tolist() == [6, 6]
    run = qgenx.map_workers(local_step(optimizer), AXIS, workers=2)
    params, fewer = run(params, fewer, TARGETS[:2])
    assert fewer.count == 3


def test_in_a_scan_and_in_bfloat16():
    optimizer = qgenx.local_steps(4, optax.sgd(0.1), of(UNIFORM))

    def scanned(params, state, target):
        def one(carry, _):
            return local_step(optimizer)(*carry, target.astype(params.dtype)), None

        (params, state), _ = jax.lax.scan(one, (params, state), None, length=40)
        return params, state

    params, state = started(optimizer, "shard_map", jnp.zeros(SIZE, jnp.bfloat16))
    assert state.per_worker.drift.dtype == jnp.float32
    run = qgenx.map_workers(scanned, AXIS, mesh=mesh_of(WORKERS))
    params, state = run(params, state, TARGETS)
    assert params.dtype == jnp.bfloat16
    wanted = TARGETS.mean(axis=0)
    np.testing.assert_allclose(params.astype(jnp.float32), wanted, atol=0.1)


def test_what_is_not_finite_is_left_out_inside():
    inner = qgenx.skip_not_finite(optax.sgd(0.5))
    optimizer = qgenx.local_steps(2, inner, of(None))
    bad = TARGETS.at[1, 3].set(jnp.nan)
    params, state = started(optimizer, "shard_map")
    run = qgenx.map_workers(local_step(optimizer), AXIS, mesh=mesh_of(WORKERS))
    for targets in (bad, TARGETS):
        params, state = run(params, state, targets)
    np.testing.assert_allclose(params, 0.5 * TARGETS.mean(axis=0), atol=1e-6)


BAD = {
    "no whole number": ({"every": 0}, "every must be a whole number of at least 1"),
    "a pair": ({"inner": qgenx.extra_sgd(0.1)}, "inner must be an optax"),
    "an outer pair": ({"outer": qgenx.extra_sgd(0.1)}, "outer must be an optax"),
    "no exchange": ({"exchange": UNIFORM}, "exchange must be of type Exchange"),
    "an odd number of half-steps": (
        {"every": 3, "inner": qgenx.alternating(qgenx.extra_sgd(0.1))},
        "every must be even.*use 4",
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(change, message):
    good = {"every": 2, "inner": optax.sgd(0.1), "exchange": of(UNIFORM)}
    with pytest.raises(ValueError, match=message):
        qgenx.local_steps(**{**good, **change})


INSIDE = {
    "an exchange": (qgenx.quantized_mean(AXIS, UNIFORM), "must have no exchange in it"),
    "q_genx": (
        qgenx.alternating(qgenx.q_genx(None, UNIFORM, variant="optimistic")),
        "must go on from wherever",
    ),
    "itself": (
        qgenx.local_steps(2, optax.sgd(0.1), of(None)),
        "must not be local_steps itself",
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize(("inner", "message"), INSIDE.values(), ids=INSIDE)
def test_what_cannot_stand_inside(inner, message):
    with pytest.raises(ValueError, match=message):
        qgenx.local_steps(2, inner, of(UNIFORM)).init(jnp.zeros(SIZE))


@pytest.mark.quick
def test_an_exchange_outside_or_of_a_mesh_is_refused():
    mean = qgenx.quantized_mean(AXIS, UNIFORM)
    outer = optax.chain(mean, optax.sgd(1.0))
    twice = qgenx.local_steps(2, optax.sgd(0.1), mean, outer=outer)
    with pytest.raises(ValueError, match="outer must have no exchange in it"):
        twice.init(jnp.zeros((64, 64)))
    of_mesh = qgenx.quantized_mean(AXIS, UNIFORM, mesh=mesh_of(2))
    with pytest.raises(ValueError, match="exchange must be one for a mapped step"):
        qgenx.local_steps(2, optax.sgd(0.1), of_mesh)


@pytest.mark.quick
def test_what_cannot_stand_around():
    local = qgenx.local_steps(2, optax.sgd(0.1), of(UNIFORM))
    with pytest.raises(ValueError, match="put it inside: local_steps"):
        qgenx.skip_not_finite(local)
    decayed = optax.chain(local, optax.add_decayed_weights(0.1))
    with pytest.raises(
        ValueError, match=r"moves of local_steps as they are.*into inner"
    ):
        qgenx.init(decayed, jnp.zeros(SIZE), workers=2)


@pytest.mark.quick
@pytest.mark.parametrize("place", PLACES)
def test_a_vector_that_is_not_the_workers_own(place):
    optimizer = qgenx.local_steps(2, optax.sgd(0.1), of(UNIFORM))

    def step(params, state, target):
        updates, state = optimizer.update(params, state, params)
        return optax.apply_updates(params, updates), state

    if place == "vmap":  # JAX tracks nothing there
        return
    params, state = started(optimizer, place)
    run = qgenx.map_workers(step, AXIS, **PLACES[place])
    with pytest.raises(ValueError, match="updates must vary over the worker axis"):
        run(params, state, TARGETS)


@pytest.mark.quick
def test_x_local_needs_one_local_steps():
    with pytest.raises(ValueError, match="must contain exactly one LocalStepsState"):
        qgenx.x_local(optax.sgd(0.1).init(jnp.zeros(2)), jnp.zeros(2))
    state = qgenx.init(
        qgenx.local_steps(2, optax.sgd(0.1), of(UNIFORM)), jnp.zeros(2), workers=3
    )
    with pytest.raises(ValueError, match="of length 1"):
        qgenx.x_local(state, jnp.zeros(2))


def test_by_a_quantized_mean_of_a_group():
    """What is said of leaves there holds: small ones travel exact."""
    mean = functools.partial(qgenx.quantized_mean, AXIS, qgenx.uniform(2))
    optimizer = qgenx.local_steps(1, optax.sgd(0.25), mean(collective="once"))
    params = {"w": jnp.zeros((32, 32)), "b": jnp.zeros(3)}
    state = qgenx.init(optimizer, params, workers=2)
    targets = {"w": jnp.ones((2, 32, 32)), "b": jnp.array([[1.0, 2, 3], [3.0, 2, 1]])}

    def step(params, state, target):
        here = qgenx.x_local(state, params)
        gradient = jax.tree.map(jnp.subtract, here, target)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    found, _ = qgenx.map_workers(step, AXIS, workers=2)(params, state, targets)
    np.testing.assert_array_equal(found["b"], 0.25 * jnp.array([2.0, 2, 2]))
