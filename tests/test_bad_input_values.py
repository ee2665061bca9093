"""Bad numbers, schedules, games and problems; see test_bad_input.py."""

import jax
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

X = np.ones(3, np.float32)
SGD = qgenx.extra_sgd(0.1)


def traced(run):
    """Runs it for each of two workers, abstractly."""
    return jax.eval_shape(jax.vmap(lambda _: run(), axis_name=AXIS), np.zeros(2))


def extrapolate(pair):
    return traced(lambda: pair.extrapolation.update(X, pair.init(X), X))


def q_genx_step(**options):
    pair = qgenx.q_genx(AXIS, None, variant="optimistic", **options)
    step = qgenx.iterate(pair, lambda x: x)
    return traced(lambda: step(X, pair.init(X)))


def game(loss, params=None, **options):
    given = {"a": X} if params is None else params
    return qgenx.game_operator({"a": loss}, **options)(given)


def problem():
    return qgenx.problems.bilinear(4)


POSITIVE = "must be a positive, finite number, got "
GAMMA = "step_size must give one real number that is not negative, got "

ROWS = {
    "gamma0 0": (lambda: qgenx.adaptive_step_size(0), "gamma0 " + POSITIVE + "0: the"),
    "gamma0 NaN": (
        lambda: qgenx.q_genx(AXIS, None, gamma0=np.nan),
        "gamma0 " + POSITIVE + "nan: the paper",
    ),
    "gamma0 traced, a vector": (
        lambda: jax.eval_shape(lambda g: qgenx.adaptive_step_size(g).init(), X),
        "gamma0 " + POSITIVE + "JitTracer.*: the paper uses",
    ),
    "gamma0 with a step size": (
        lambda: qgenx.q_genx(AXIS, None, gamma0=2.0, step_size=0.1),
        "gamma0 must be left out where step_size .*, got 2.0: pass step_size=",
    ),
    "step size negative": (
        lambda: qgenx.q_genx(AXIS, None, step_size=-1.0),
        "step_size " + POSITIVE + "-1.0: or pass an optax schedule",
    ),
    "step size in text": (
        lambda: qgenx.scheduled_step_size("0.1"),
        "step_size " + POSITIVE + "'0.1': or pass an optax schedule",
    ),
    "step size is a factory": (
        lambda: qgenx.q_genx(AXIS, None, step_size=qgenx.adaptive_step_size),
        "step_size must be a number, .*, got <function adaptive.*: call the factory",
    ),
    "step size without functions": (
        lambda: qgenx.q_genx(AXIS, None, step_size=qgenx.StepSize(None, None, None)),
        r"step_size\.init must be a function .*, got None: give all three",
    ),
    "schedule gives a vector, which would scale coordinates": (
        lambda: q_genx_step(step_size=lambda count: X),
        GAMMA + r"(array|JitTracer|Array).*: a positive one",
    ),
    "schedule gives a complex number": (
        lambda: q_genx_step(step_size=lambda count: np.complex64(1j)),
        GAMMA + ".*: a positive one",
    ),
    "schedule gives a negative number, concrete": (
        lambda: extrapolate(qgenx.extra_sgd(lambda count: -0.1)),
        "learning_rate must give one real number .*, got -0.1: a positive one",
    ),
    "learning rate None": (
        lambda: qgenx.extra_adam(None),
        "learning_rate must be a finite number of at least 0, got None: or pass",
    ),
    "learning rate negative": (
        lambda: qgenx.extra_sgd(-0.1),
        "learning_rate must be a finite number of at least 0, got -0.1: .* negate",
    ),
    "b1": (
        lambda: qgenx.extra_adam(0.1, b1=1.0),
        r"b1 must be in \[0, 1\), got 1.0: 0",
    ),
    "eps": (lambda: qgenx.extra_adam(0.1, eps=-1.0), "eps must be .*, got -1.0: optax"),
    "momentum": (
        lambda: qgenx.extra_sgd(0.1, momentum=np.nan),
        r"momentum must be in \[0, 1\), got nan: 0.9 for instance",
    ),
    "decay": (
        lambda: qgenx.ema(1),
        r"decay must be in \[0, 1\), got 1: 0.9999 is usual",
    ),
    "no players": (
        lambda: qgenx.game_operator([lambda p: 0.0]),
        r"losses must be a mapping with at least one player, got \[.*: pass for inst",
    ),
    "a loss that is none": (
        lambda: game(1.0),
        r"losses\['a'\] must be a function of .*, got 1.0: pass the player's loss",
    ),
    "a loss of a vector": (
        lambda: game(lambda p: p["a"]),
        r"losses\['a'\] must return one real, .*, got float32\[3\]: take a mean",
    ),
    "a loss of None": (
        lambda: game(lambda p: None),
        r"losses\['a'\] must return one real, .*, got NoneType: take a mean",
    ),
    "a loss with aux": (
        lambda: game(lambda p: (p["a"].sum(), 1)),
        r"losses\['a'\] must return one real, .*, got tuple: .* has_aux=True",
    ),
    "a loss without aux": (
        lambda: game(lambda p: p["a"].sum(), has_aux=True),
        r"losses\['a'\] must return a tuple .*, got \w+: return both, or drop has_aux",
    ),
    "players of integers": (
        lambda: game(lambda p: 0.0, {"a": 1}),
        r"leaf \['a'\] of params must be a floating-point array, got int32: cast it",
    ),
    "other players": (
        lambda: game(lambda p: 0.0, {"b": X}),
        r"params must be a mapping with exactly the players \['a'\], got \['b'\]: give",
    ),
    "dimension": (
        lambda: qgenx.problems.bilinear(3),
        "dimension must be even, got 3: players share it",
    ),
    "seed None, which would not be repeated": (
        lambda: qgenx.problems.bilinear(4, seed=None),
        "seed must be a whole number of at least 0, got None: pass an int",
    ),
    "distance": (
        lambda: qgenx.problems.bilinear(4, distance=np.inf),
        "distance must be a finite number of at least 0, got inf: 1.0 is usual",
    ),
    "strong": (
        lambda: qgenx.problems.quadratic_game(3, strong=0),
        r"strong must be in \(0, 1\], got 0: 0.1 is the default",
    ),
    "noise": (
        lambda: problem().oracle("laplace"),
        "noise must be one of 'none', .*, got 'laplace': choose",
    ),
    "noise of negative size": (
        lambda: problem().oracle("absolute", -1.0),
        "size must be a finite number of at least 0, got -1.0: 1.0 is the default",
    ),
    "radius": (
        lambda: problem().gap(X, np.inf),
        "radius " + POSITIVE + "inf: 1.0 is usual",
    ),
    "a point of another shape, which would be broadcast": (
        lambda: problem().operator(np.ones((4, 4))),
        r"x must be an array of shape \(4,\), got \(4, 4\): use jax.vmap over points",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_a_schedule_that_turns_negative_in_a_compiled_program_gives_nan():
    """A step up the vector would be silent."""
    rule = qgenx.scheduled_step_size(lambda count: 0.5 - count)
    pair = qgenx.q_genx(AXIS, None, step_size=rule, variant="dual_averaging")
    step = qgenx.map_workers(qgenx.iterate(pair, lambda x: x), AXIS, workers=2)
    x, _ = step(X, qgenx.init(pair, X, workers=2))
    assert np.isnan(x).all(), x  # gamma_2 = schedule(1) < 0
    half = qgenx.extra_sgd(lambda count: 0.5 - count)
    x, _ = jax.jit(qgenx.iterate(half, lambda x: x))(X, half.init(X))
    assert np.isnan(x).all(), x
