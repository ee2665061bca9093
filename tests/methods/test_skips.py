"""What may skip an update is refused inside a pair, by what it does."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import qgenx_jax as qgenx
from qgenx_jax._methods import skips
from tests.lib.helpers import AXIS, mesh_of, traced

P = {"w": jnp.ones((4, 5)), "b": jnp.ones(3)}
SGD, ADAM = optax.sgd(0.1), optax.adam(0.1)


def every(inner, k, **options):
    return optax.MultiSteps(inner, k, **options).gradient_transformation()


def scaled(factor):
    """One's own, with a counter: the vector times factor(count)."""

    def update(updates, count, params=None):
        return jax.tree.map(lambda x: x * factor(count), updates), count + 1

    return optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), update)


def of_norm(choose):
    """One's own: choose(vector, its norm), leaf by leaf."""

    def update(updates, params):
        norm = optax.tree.norm(updates)
        return jax.tree.map(lambda x: choose(x, norm), updates)

    return optax.stateless(update)


def by_switch():
    def update(updates, count, params=None):
        zeros = lambda u: jax.tree.map(jnp.zeros_like, u)  # noqa: E731
        keep = lambda u: u  # noqa: E731
        return jax.lax.switch(count % 3, [keep, zeros, keep], updates), count + 1

    return optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), update)


def by_chance():
    def update(updates, key, params=None):
        kept = jax.random.bernoulli(key)
        updates = jax.tree.map(lambda x: jnp.where(kept, x, 0), updates)
        return updates, jax.random.split(key)[0]

    return optax.GradientTransformation(lambda _: jax.random.key(0), update)


def stale():
    """Hands on the last vector at every other call."""

    def update(updates, state, params=None):
        count, last = state
        new = jax.tree.map(lambda x, y: jnp.where(count % 2, y, x), updates, last)
        return new, (count + 1, updates)

    def init(params):
        return jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params)

    return optax.GradientTransformation(init, update)


AT_SOME_CALLS = "hands on nothing of the vector at some calls"
A_TEST = "holds back what does not pass a test"
SKIPPING = {
    "MultiSteps": (every(SGD, 4), AT_SOME_CALLS),
    "MultiSteps, of a schedule": (
        every(ADAM, lambda count: jnp.where(count < 3, 1, 2)),
        AT_SOME_CALLS,
    ),
    "MultiSteps, of many calls": (
        every(SGD, 5000),
        "hands on nothing of the vector in its first 1024 calls",
    ),
    "MultiSteps, not finite": (
        every(SGD, 1, should_skip_update_fn=optax.skip_not_finite),
        A_TEST,
    ),
    "MultiSteps, large": (
        every(
            SGD,
            1,
            should_skip_update_fn=lambda *args: optax.skip_large_updates(*args, 42.0),
        ),
        A_TEST,
    ),
    "MultiSteps in a chain": (
        optax.chain(
            optax.clip(1.0), every(SGD, 2), optax.add_decayed_weights(0.1), SGD
        ),
        AT_SOME_CALLS,
    ),
    "MultiSteps of one leaf": (
        optax.partition({"a": every(SGD, 2), "b": SGD}, {"w": "a", "b": "b"}),
        AT_SOME_CALLS,
    ),
    "apply_every": (optax.apply_every(3), AT_SOME_CALLS),
    "apply_if_finite": (optax.apply_if_finite(ADAM, 5), A_TEST),
    "conditionally_mask": (
        optax.conditionally_mask(SGD, lambda step: step % 3 == 0),
        AT_SOME_CALLS,
    ),
    "conditionally_transform": (
        optax.conditionally_transform(SGD, lambda step: step % 3 == 0),
        "leaves as it is the vector at some calls",
    ),
    "an accumulate in a chain": (
        optax.chain(qgenx.accumulate(2, optax.identity()), SGD),
        "the state AccumulateState",
    ),
    "an alternating in a chain": (
        optax.chain(qgenx.alternating(qgenx.extra_sgd(0.1)), SGD),
        "the state AlternatingState",
    ),
    "one's own, of a norm": (of_norm(lambda x, n: jnp.where(n < 10, x, 0)), A_TEST),
    "one's own, of a factor": (
        of_norm(lambda x, n: x * jnp.where(n < 10, 1.0, 0.0)),
        A_TEST,
    ),
    "one's own, of a counter": (
        scaled(lambda count: jnp.float32(count % 2 == 0)),
        AT_SOME_CALLS,
    ),
    "one's own, of a switch": (by_switch(), AT_SOME_CALLS),
    "one's own, by chance": (by_chance(), AT_SOME_CALLS),
    "one's own, stale": (stale(), AT_SOME_CALLS),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", SKIPPING)
def test_what_skips_is_refused_at_init(name):
    skipping, why = SKIPPING[name]
    with pytest.raises(ValueError, match=f"base must .*one (that|with) {why}: "):
        qgenx.extragradient(skipping).init(P)
    pair = qgenx.chain(optax.clip(1.0), skipping, qgenx.extra_sgd(0.1))
    with pytest.raises(ValueError, match=f"transformation 1 must .* {why}: "):
        qgenx.init(qgenx.alternating(pair), P, workers=2)


@pytest.mark.parametrize("where", [{"workers": 2}, {"mesh": mesh_of(2)}])
def test_what_is_known_at_the_update_only_is_refused_there(where):
    """A worker axis inside optax.chain, and a test of an extra argument."""
    mean = optax.chain(qgenx.quantized_mean(AXIS, None), every(optax.identity(), 2))
    optimizer = qgenx.alternating(qgenx.chain(mean, qgenx.extra_sgd(0.1)))

    def step(params, state, vector):
        updates, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    axis = AXIS if "mesh" in where else None
    state = qgenx.init(optimizer, jnp.ones(3), where.get("mesh"), axis, workers=2)
    run = qgenx.map_workers(step, AXIS, **where)
    with pytest.raises(ValueError, match=f"transformation 0 must .* {AT_SOME_CALLS}"):
        jax.eval_shape(run, jnp.ones(3), state, jnp.ones((2, 3)))


@pytest.mark.quick
def test_an_extra_argument_that_decides_is_refused():
    mask = optax.conditionally_mask(SGD, lambda step, ok: ok, forward_extra_args=True)
    pair = qgenx.extragradient(mask)
    with pytest.raises(ValueError, match=f"base must .* {A_TEST}: "):
        pair.extrapolation.update(P, pair.init(P), P, ok=jnp.array(True))


PASSING = {
    "warm-up": optax.sgd(optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 100)),
    "late": optax.sgd(lambda count: 0.1 * (count >= 10)),
    "late, joined": optax.sgd(
        optax.join_schedules([lambda _: 0.0, lambda _: 0.1], [500])
    ),
    "ends": optax.sgd(lambda count: jnp.where(count < 100, 0.1, 0.0)),
    "piecewise": optax.adam(optax.piecewise_constant_schedule(0.1, {5: 0.1, 9: 0.0})),
    "restarts": optax.adam(
        optax.sgdr_schedule(
            [
                {
                    "init_value": 0.0,
                    "peak_value": 1.0,
                    "warmup_steps": 5,
                    "decay_steps": 10,
                    "end_value": 0.0,
                }
            ]
            * 3
        )
    ),
    "injected": optax.inject_hyperparams(optax.adam)(
        optax.warmup_constant_schedule(0.0, 0.1, 10)
    ),
    "frozen leaf": optax.partition(
        {"a": optax.set_to_zero(), "b": SGD}, {"w": "a", "b": "b"}
    ),
    "masked": optax.masked(optax.set_to_zero(), {"w": True, "b": False}),
    "frozen whole": optax.set_to_zero(),
    "MultiSteps of one call": every(SGD, 1),
    "transformed at first": optax.conditionally_transform(
        optax.clip(1.0), lambda step: step < 100
    ),
    "clipping": optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adaptive_grad_clip(0.1),
        optax.clip_by_block_rms(1.0),
        optax.zero_nans(),
    ),
    "one's own, norm": of_norm(lambda x, n: jnp.where(n > 0, x / n, 0.0)),
    "one's own, hard threshold": of_norm(lambda x, n: jnp.where(abs(x) > 1, x, 0.0)),
    "one's own, counter": scaled(lambda count: 1 / (1.0 + count)),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", PASSING)
def test_what_hands_on_every_vector_passes(name):
    pair = qgenx.chain(PASSING[name], qgenx.extragradient(PASSING[name]))
    for params in (P, {**P, "scalar": jnp.ones(())}):
        if "scalar" in params and name in ("frozen leaf", "masked"):
            continue  # labels of other parameters
        state = pair.init(params)
        assert all(p.verdicts for p in _plains(pair)), "it was not looked at"
        delta, state = pair.extrapolation.update(params, state, params)
        pair.update.update(params, state, optax.apply_updates(params, delta))


def _plains(pair):
    """The plain transformations inside a pair, by what its functions close over."""
    found, waiting, seen = [], [pair.update.update.step], set()
    while waiting:
        function = waiting.pop()
        for cell in getattr(function, "__closure__", None) or ():
            value = cell.cell_contents
            values = value if isinstance(value, list | tuple) else [value]
            for one in [x for v in values for x in (v if type(v) is tuple else [v])]:
                if id(one) not in seen:
                    seen.add(id(one))
                    if hasattr(one, "verdicts"):
                        found.append(one)
                    waiting.append(one)
    assert found
    return found


def loss(params):
    return sum((x**2).sum() for x in jax.tree.leaves(params))


EXTRAS = (
    {},
    {"value": jnp.float32(1.0), "grad": P, "value_fn": loss},
    {"obj_fn": loss},
)
SKIP_BY_DESIGN = {"apply_if_finite", "scale_by_backtracking_linesearch"}
"""The line search moves nothing where it finds no step that will do."""


def _made(function):
    for arguments in ((), (0.1,), (0.1, 0.1), (SGD,), (SGD, 0.1), (0.1, 0.1, 0)):
        try:
            found = function(*arguments)
        except Exception:
            continue
        if isinstance(found, optax.GradientTransformation):
            return found
    return None


def _all_of_optax():
    """What optax makes from a rate, an optimizer, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in (optax, contrib):
            for name, function in inspect.getmembers(module, inspect.isfunction):
                made = None if name.startswith("_") else _made(function)
                if made is not None:
                    yield name, made


def test_all_of_optax_passes():
    looked_at, found = set(), {}
    for name, transformation in _all_of_optax():
        lifted = optax.with_extra_args_support(transformation)
        for extra in EXTRAS:
            try:
                state = jax.eval_shape(lifted.init, P)
                why = skips.why_it_skips(
                    lifted.init, lifted.update, P, state, P, **extra
                )
            except Exception:
                continue
            looked_at.add(name)
            if why is not None:
                found[name] = why
    assert found.keys() == SKIP_BY_DESIGN, found
    usual = {"adam", "sgd", "lamb", "adafactor", "radam", "lbfgs", "muon", "prodigy"}
    assert usual <= looked_at
    assert len(looked_at) > 90


def test_a_skip_around_the_whole_is_extra_gradient():
    """20 iterations of the bilinear game go in; 40 plain steps would go out."""
    rotation, x = jnp.array([[0.0, 1.0], [-1.0, 0.0]]), jnp.array([1.0, 0.0])
    mean = qgenx.quantized_mean(None, None)
    pair = qgenx.extra_sgd(0.5)
    for optimizer in (
        optax.chain(mean, every(qgenx.alternating(pair), 4)),
        qgenx.accumulate(4, qgenx.alternating(qgenx.chain(mean, pair))),
    ):

        def call(carry, _, optimizer=optimizer):
            x, state = carry
            moves, state = optimizer.update(rotation @ x, state, x)
            return (optax.apply_updates(x, moves), state), None

        (last, _), _ = jax.lax.scan(call, (x, optimizer.init(x)), length=20 * 2 * 4)
        expected = np.array([1.0, 0.0])
        for _ in range(20):
            half = expected - 0.5 * np.asarray(rotation) @ expected
            expected = expected - 0.5 * np.asarray(rotation) @ half
        np.testing.assert_allclose(last, expected, rtol=1e-5)


@pytest.mark.quick
def test_it_is_looked_at_once_for_each_kind_of_parameters():
    traces = []

    def update(updates, state, params=None):
        traces.append(1)
        return updates, state

    base = optax.GradientTransformation(lambda _: (), update)
    pair = qgenx.extragradient(base)
    pair.init(P)
    pair.init(P)
    assert len(traces) == 1
    traced(lambda: pair.extrapolation.update(P, pair.init(P), P))
    assert len(traces) == 2, "only the update itself"
