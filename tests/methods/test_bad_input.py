"""Bad input to pairs, chains and readers; see test_step_size.py for step sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of, traced

pytestmark = pytest.mark.quick

X = np.ones(3, np.float32)
SHORT, NAMED, WHOLE = X[:1], {"y": X}, np.arange(3)
BITS = qgenx.uniform(4)
SGD, ADAM = qgenx.extra_sgd(0.1), qgenx.extra_adam(0.1)
Q = qgenx.q_genx(AXIS, BITS)
OPTIMISTIC = qgenx.q_genx(AXIS, BITS, variant="optimistic")
CHAIN = qgenx.chain(optax.clip(1.0), SGD, qgenx.ema(0.5))


def extrapolate(pair, vector=X, params=X, made=X, state=None):
    def run():
        own = pair.init(made) if state is None else state()
        return pair.extrapolation.update(vector, own, params)

    return traced(run)


def update(pair, half=X, vector=X):
    def run():
        _, state = pair.extrapolation.update(X, pair.init(X), X)
        return pair.update.update(vector, state, half)

    return traced(run)


def alternate(pair, state, vector=X):
    optimizer = qgenx.alternating(pair)
    return traced(lambda: optimizer.update(vector, state(optimizer), X))


def accumulate(vector=X, state=lambda own: own, made=X):
    optimizer = qgenx.accumulate(2, optax.sgd(0.1))
    return traced(lambda: optimizer.update(vector, state(optimizer.init(made)), X)[0])


def averaged():
    return qgenx.chain(SGD, qgenx.ema(0.5)).init(X)


def read(reader, state, params):
    return jax.eval_shape(lambda: reader(state(), params))


def summed_by_grad():
    """Gradients with respect to replicated parameters, in shard_map."""
    optimizer = qgenx.accumulate(1, qgenx.quantized_mean(AXIS, BITS, exact=None))

    def step(params, state, batch):
        vector = jax.grad(lambda p: ((p - batch) ** 2).sum())(params)
        updates, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    run = qgenx.map_workers(step, AXIS, mesh=mesh_of(2))
    state = jax.eval_shape(lambda: qgenx.init(optimizer, X, workers=2))
    return jax.eval_shape(run, X, state, np.ones((2, 3), np.float32))


ANOTHER_SHAPE = r"must have the shape \(3,\) it has in .*, got \(1,\): "
ANOTHER_TREE = r"must have the tree structure of .*, got PyTreeDef.*: "
VECTOR = "pass the dual vector at these params"
MAKE = "make the state by init of this very"
PLAIN = r"must be an optax\.GradientTransformation, of one vector to another, got "

HALF_STEPS = {
    "q_genx": (Q, "make the state by init of this very pair"),
    "extragradient": (SGD, "make the state by init of this very pair"),
    "chain": (CHAIN, "make the state by init of this very pair"),
}
ROWS = {}
for name, (pair, way_out) in HALF_STEPS.items():
    ROWS |= {
        f"{name}, init None": (
            lambda pair=pair: pair.init(None),
            "params must be a tree, every leaf .*, got None: pass one",
        ),
        f"{name}, init integers": (
            lambda pair=pair: pair.init({"n": WHOLE}),
            r"leaf \['n'\] of params must be a floating-point array, got int32: cast",
        ),
        f"{name}, params None": (
            lambda pair=pair: extrapolate(pair, params=None),
            "params must be given to the update .*, got None: call update",
        ),
        f"{name}, params of another shape": (
            lambda pair=pair: extrapolate(pair, params=SHORT, vector=SHORT),
            "params " + ANOTHER_SHAPE + way_out,
        ),
        f"{name}, vector None": (
            lambda pair=pair: extrapolate(pair, vector=None),
            "updates " + ANOTHER_TREE + VECTOR,
        ),
        f"{name}, vector of another shape": (
            lambda pair=pair: extrapolate(pair, vector=SHORT),
            "updates " + ANOTHER_SHAPE + VECTOR,
        ),
        f"{name}, vector of another structure": (
            lambda pair=pair: extrapolate(pair, vector=NAMED),
            "updates " + ANOTHER_TREE + VECTOR,
        ),
        f"{name}, vector of integers": (
            lambda pair=pair: extrapolate(pair, vector=WHOLE),
            "(updates|the tree to exchange) must be a .*, got int32: cast it",
        ),
        f"{name}, another shape at the second half-step": (
            lambda pair=pair: update(pair, half=SHORT, vector=SHORT),
            "params " + ANOTHER_SHAPE + way_out,
        ),
        f"{name}, another structure at the second half-step": (
            lambda pair=pair: update(pair, half=NAMED, vector=NAMED),
            "params " + ANOTHER_TREE + way_out,
        ),
        f"{name}, update before extrapolation": (
            lambda pair=pair: traced(lambda: pair.update.update(X, pair.init(X), X)),
            r"state must be .* whose update comes next .*, got BeforeExtrap.*: make it",
        ),
        f"{name}, state None": (
            lambda pair=pair: extrapolate(pair, state=lambda: None),
            "state must be that of a pair .*, got NoneType: make it by the pair's init",
        ),
        f"{name}, alternating a pair's state": (
            lambda pair=pair: alternate(pair, lambda _: pair.init(X)),
            "state must be of type AlternatingState, got BeforeExtrapolation: make it",
        ),
        f"{name}, alternating None": (
            lambda pair=pair: alternate(pair, lambda own: own.init(X), vector=None),
            "updates " + ANOTHER_TREE + VECTOR,
        ),
    }
ROWS |= {
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
    "q_genx, complex numbers": (
        lambda: Q.init(X * 1j),
        "the tree to exchange must be a real .*, got complex64: cast it",
    ),
    "q_genx, state of another variant": (
        lambda: extrapolate(Q, state=lambda: OPTIMISTIC.init(X)),
        r"state\.extrapolation must be None for this .*, got \w+: " + MAKE,
    ),
    "q_genx, a vector that is not needed": (
        lambda: extrapolate(OPTIMISTIC),
        r"updates must be None at .*, got PyTreeDef\(\*\): save the oracle call",
    ),
    "extragradient, state of q_genx": (
        lambda: extrapolate(SGD, state=lambda: Q.init(X)),
        "state must be of type ExtragradientState, got QGenXState: " + MAKE,
    ),
    "extragradient, state of another base, which sgd would pass on": (
        lambda: extrapolate(SGD, state=lambda: ADAM.init(X)),
        "state must be, .* of the structure .*Empty.*, got .*ScaleByAdam.*: " + MAKE,
    ),
    "chain, state of a pair alone": (
        lambda: extrapolate(CHAIN, state=lambda: SGD.init(X)),
        "state must hold 3 states, .*, got 'ExtragradientState': " + MAKE,
    ),
    "chain, state of another chain": (
        lambda: extrapolate(
            CHAIN,
            state=lambda: qgenx.chain(optax.adam(0.1), SGD, qgenx.ema(0.5)).init(X),
        ),
        "state must be, .* of the structure .*Empty.*, got .*ScaleByAdam.*: " + MAKE,
    ),
    "variant": (
        lambda: qgenx.q_genx(AXIS, BITS, variant="extra"),
        "variant must be one of 'dual_averaging', .*, got 'extra': choose",
    ),
    "base is a factory": (lambda: qgenx.extragradient(optax.adam), "base " + PLAIN),
    "base is a pair": (lambda: qgenx.extragradient(SGD), "base " + PLAIN + "Extra"),
    "base is one side": (
        lambda: qgenx.extragradient(SGD.update),
        "base " + PLAIN + "one side of a pair: pass what a factory returns",
    ),
    "base is an alternating": (
        lambda: qgenx.extragradient(qgenx.alternating(SGD)),
        "base "
        + PLAIN
        + "what alternating, accumulate or skip_not_finite returned: pass what",
    ),
    "chain of nothing": (
        lambda: qgenx.chain(),
        r"transformations must be plain .*, got \[\]: put clipping",
    ),
    "chain, plain after a pair": (
        lambda: qgenx.chain(SGD, optax.scale(0.5)),
        r"transformations must be plain .*, got \['pair', 'plain'\]: put clipping",
    ),
    "chain, two pairs": (
        lambda: qgenx.chain(SGD, ADAM),
        r"transformations must be .* exactly one .*, got \['pair', 'pair'\]: put",
    ),
    "chain, a list": (
        lambda: qgenx.chain([SGD]),
        "transformation 0 " + PLAIN + r"\[Ext.*: pass what a factory returns",
    ),
    "chain, accumulate inside": (
        lambda: qgenx.chain(qgenx.accumulate(2, optax.identity()), SGD),
        "transformation 0 " + PLAIN + "what alternating, acc.*: .* go around",
    ),
    "chain, two exchanges": (
        lambda: qgenx.chain(*[qgenx.quantized_mean(AXIS, None)] * 2, SGD),
        "transformations must exchange once, .*, got 2 exchanges: leave quantized_mean",
    ),
    "sides swapped": (
        lambda: qgenx.alternating(qgenx.ExtragradientPair(SGD.update, SGD[0])),
        "pair must be made by this library, .*, got Extra.*: build it by",
    ),
    "sides None": (
        lambda: qgenx.iterate(qgenx.ExtragradientPair(None, None), lambda x: x),
        "pair must be made by this library, .*, got Extra.*: build it by",
    ),
    "iterate an optax optimizer": (
        lambda: qgenx.iterate(optax.sgd(0.1), lambda x: x),
        "pair must be an extra-gradient pair, got Gradient.*: build one by",
    ),
    "operator None": (
        lambda: qgenx.iterate(SGD, None),
        "operator must be a function of params .*, got None: pass the oracle",
    ),
    "operator without aux, whose rows would be unpacked": (
        lambda: traced(
            lambda: qgenx.iterate(SGD, lambda x: x, has_aux=True)(X[:2], SGD.init(X))
        ),
        r"operator must return a tuple \(value, aux\) .*, got \w+: return both",
    ),
    "operator returns None": (
        lambda: traced(lambda: qgenx.iterate(SGD, lambda x: None)(X, SGD.init(X))),
        "updates " + ANOTHER_TREE + VECTOR,
    ),
    "inputs of another length": (
        lambda: qgenx.iterate(SGD, lambda x, b: x)(X, None, X),
        r"leaf \[0\] of the inputs must have a leading axis .*, got \(3,\): stack one",
    ),
    "accumulate 0": (
        lambda: qgenx.accumulate(0, optax.sgd(0.1)),
        "every_k must be a whole number of at least 1, got 0: pass an int",
    ),
    "accumulate a pair": (
        lambda: qgenx.accumulate(2, SGD),
        "inner " + PLAIN + ".*: wrap a pair in qgenx_jax.alternating",
    ),
    "accumulate integers": (
        lambda: accumulate(vector=WHOLE),
        "updates must be a floating-point array, got int32: cast it",
    ),
    "accumulate for integers": (
        lambda: accumulate(made=WHOLE),
        "params must be a floating-point array, got int32: cast it",
    ),
    "accumulate another shape": (
        lambda: accumulate(vector=SHORT),
        "updates " + ANOTHER_SHAPE + "pass a vector like the parameters",
    ),
    "accumulate, another state": (
        lambda: accumulate(state=lambda own: own.inner),
        "state must be of type AccumulateState, got tuple: make the state by init",
    ),
    "accumulate, state of all workers": (
        lambda: accumulate(state=lambda own: own._replace(per_worker=jnp.ones((4, 3)))),
        r"state\.per_worker must have a leading axis of length 1, .*, got \(4, 3\): ",
    ),
    "accumulate gradients that jax.grad has summed": (
        summed_by_grad,
        "updates must vary over the worker axis 'data'; .*, got .*: differentiate by",
    ),
    "x_t of no pair": (
        lambda: qgenx.x_t(optax.adam(0.1).init(X), X),
        "state must contain exactly one QGenXState or .*, got 0 of them: pass the",
    ),
    "x_t for other params": (
        lambda: read(qgenx.x_t, lambda: Q.init(X), SHORT),
        "params " + ANOTHER_SHAPE + "pass the parameters that go with this state",
    ),
    "x_t for no params": (
        lambda: read(qgenx.x_t, lambda: SGD.init(X), None),
        "params " + ANOTHER_TREE + "pass the parameters that go with this state",
    ),
    "average of another kind": (
        lambda: qgenx.ergodic_average_params(averaged()),
        "state must contain exactly one ErgodicAverageState, got 0 of them: chain",
    ),
    "average for other params": (
        lambda: read(qgenx.ema_params, averaged, NAMED),
        "params " + ANOTHER_TREE + "pass the parameters that go with this state",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_complex_parameters_are_extrapolated():
    """Complex numbers cannot be exchanged, but nothing else is wrong with them."""
    x = np.complex64([1 + 1j, 2.0])
    step = qgenx.iterate(SGD, lambda x: 1j * x)
    moved, _ = step(x, SGD.init(x))
    np.testing.assert_allclose(moved, x - 0.1j * (x - 0.1j * x), rtol=1e-6)


def test_limits_of_arguments():
    """The last value that is allowed, and the first that is not."""
    assert qgenx.accumulate(1, optax.sgd(1.0)).init(jnp.ones(2)).count == 0
    for decay in (-0.1, 1.0, 2.0):
        with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
            qgenx.ema(decay)
    assert isinstance(qgenx.ema(0.0), qgenx.Observer)


def test_parameters_of_another_structure_are_refused():
    pair, x = qgenx.q_genx(AXIS, None, variant="optimistic"), jnp.ones(2)
    with pytest.raises(ValueError, match=r"params must have the tree structure of st"):
        pair.extrapolation.update(None, pair.init(x), {"x": x})


def test_other_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match=r"transformation 0 must be an optax"):
        qgenx.chain(qgenx.extra_sgd)
    with pytest.raises(ValueError, match=r"pair must be an extra-gradient pair"):
        qgenx.alternating(optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"pair must be an extra-gradient pair"):
        qgenx.iterate(qgenx.ema(0.5), lambda x: x)
    mixed = qgenx.ExtragradientPair(
        qgenx.extra_sgd(0.1).extrapolation, qgenx.extra_sgd(0.2).update
    )
    with pytest.raises(ValueError, match=r"one step function behind both sides"):
        qgenx.alternating(mixed)
    optimizer = qgenx.alternating(qgenx.extra_sgd(0.1))
    x = jnp.ones(2)
    with pytest.raises(ValueError, match=r"params must be given"):
        optimizer.update(x, optimizer.init(x))
    step = qgenx.iterate(qgenx.extra_sgd(0.1), lambda x, b: x)
    with pytest.raises(ValueError, match=r"leading axis of length 2, one entry per"):
        step(x, qgenx.extra_sgd(0.1).init(x), jnp.zeros((3, 4)))
