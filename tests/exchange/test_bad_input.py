"""Bad exchanges: each mistake is refused with argument, rule, value and way out.

One row per mistake; what other files of tests hold about their own rooms is not
repeated here. Nothing is compiled: what needs an axis is only traced.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, traced

pytestmark = pytest.mark.quick

X = np.ones(3, np.float32)
BITS = qgenx.uniform(4)
LEVELS = qgenx.user_levels([0.25, 0.5, 1.0])
EXCHANGE = qgenx.exchange(AXIS, BITS)


def send(exchange=EXCHANGE, tree=X, state=None, **options):
    def run():
        own = exchange.init() if state is None else state(exchange.init())
        return exchange.send(tree, own, **options)[0]

    return traced(run)


KEY = "key must be one PRNG key or a whole-number seed, got "
NAME = r"axis_name must be the name of the axis over workers, or .*, got "

EXCHANGES = {
    "axis None in a tuple": (lambda: qgenx.exchange((None,), BITS), NAME + r"\(None,"),
    "axis in a list": (lambda: qgenx.q_genx([AXIS], None), NAME + r"\['data'\]:"),
    "no axis": (lambda: qgenx.quantized_mean((), None), NAME + r"\(\): pass for inst"),
    "axis twice": (lambda: qgenx.exchange((AXIS, AXIS), None), NAME + r"\('data', 'da"),
    "axis not bound": (
        lambda: EXCHANGE.send(X, EXCHANGE.init()),
        "axis_name must be the name of an axis that is bound .*, got 'data': call it",
    ),
    "another axis": (
        lambda: send(qgenx.exchange("model", None)),
        "axis_name must be the name of an axis that is bound .*, got 'model': call it",
    ),
    "collective": (
        lambda: qgenx.exchange(AXIS, BITS, collective="ring"),
        "collective must be one of 'once', 'auto', .*, got 'ring': choose",
    ),
    "exact collective with a quantizer": (
        lambda: qgenx.exchange(AXIS, BITS, collective="exact"),
        "collective must not be 'exact' where .*, got Quantizer.*: pass quantizer=None",
    ),
    "bits for a quantizer": (
        lambda: qgenx.quantized_mean(AXIS, 4),
        "quantizer must be a quantizer, or None .*, got 4: make one by",
    ),
    "factory for a quantizer": (
        lambda: qgenx.q_genx(AXIS, qgenx.uniform),
        "quantizer must be a quantizer, or None .*, got <function uniform.*: make one",
    ),
    "no label": (
        lambda: qgenx.exchange(AXIS, {}, labels="a"),
        "quantizer must have a label, got {}: pass None",
    ),
    "label that is no string": (
        lambda: qgenx.exchange(AXIS, {None: BITS}, labels=lambda tree: None),
        "quantizer must have strings for labels, got None: name the groups",
    ),
    "labels without a mapping": (
        lambda: qgenx.exchange(AXIS, BITS, labels="a"),
        "quantizer must be a mapping .*, got Quantizer.*: pass for instance",
    ),
    "labels that name no quantizer": (
        lambda: send(qgenx.exchange(AXIS, {"a": BITS}, labels="b")),
        "labels must be one of 'a', got 'b': choose",
    ),
    "labels of another tree": (
        lambda: send(qgenx.exchange(AXIS, {"a": BITS}, labels={"y": "a"}), {"x": X}),
        "labels must be a prefix of the tree .*'x'.*, got {'y': 'a'}: label every leaf",
    ),
    "exact is no function": (
        lambda: qgenx.q_genx(AXIS, BITS, exact=True),
        "exact must be a function of a leaf's path .*, got True: for instance",
    ),
    "exact returns None": (
        lambda: send(qgenx.exchange(AXIS, BITS, exact=lambda path, leaf: None)),
        "exact must return a bool, got None: return True to keep",
    ),
    "exact returns text": (
        lambda: send(qgenx.exchange(AXIS, BITS, exact=lambda path, leaf: "no")),
        "exact must return a bool, got 'no': return True to keep",
    ),
    "no leaf to quantize": (
        lambda: send(qgenx.exchange(AXIS, BITS, exact=qgenx.small_leaves)),
        "exact must leave Quantizer.* at least one leaf .*, got none of 1.*: pass quan",
    ),
    "nothing to send": (
        lambda: send(tree=None),
        "the tree to exchange must be a tree, .*, got None: pass one",
    ),
    "integers": (
        lambda: send(tree={"x": X, "n": np.arange(3)}),
        r"leaf \['n'\] of the tree to exchange must be a real .*, got int32: cast it",
    ),
    "complex numbers": (
        lambda: send(tree=X * 1j),
        "the tree to exchange must be a real .*, got complex64: cast it",
    ),
    "text": (
        lambda: send(tree={"x": "y"}),
        r"leaf \['x'\] of the tree to exchange must be a real .*, got str: cast it",
    ),
    "state of another optimizer": (
        lambda: send(state=lambda _: optax.adam(0.1).init(X)),
        "state must be of type ExchangeState, got tuple: make it by init of this very",
    ),
    "state of another optimizer, exact": (
        lambda: send(qgenx.exchange(AXIS, None), state=lambda _: None),
        "state must be of type ExchangeState, got NoneType: make it by init of this",
    ),
    "state without levels": (
        lambda: send(qgenx.exchange(AXIS, LEVELS), state=lambda _: EXCHANGE.init()),
        r"state\.levels must hold levels .*'all': \(3,\).*, got {}: make the state by",
    ),
    "state with a list of levels": (
        lambda: send(
            qgenx.exchange(AXIS, LEVELS),
            state=lambda own: own._replace(levels={"all": [0.1, 0.2, 1.0]}),
        ),
        r"state\.levels must hold levels .*, got {'all': None}: make the state by",
    ),
    "state without a key": (
        lambda: send(state=lambda own: own._replace(key=None)),
        "state." + KEY + "None: pass jax.random.key",
    ),
    "scalar is no function": (
        lambda: send(scalar=1.0),
        "scalar must be a function of .*, got 1.0: or leave it out",
    ),
    "scalar returns a matrix": (
        lambda: send(scalar=lambda own: own[None]),
        "scalar must return one real number, or a short.*, got .*: sum up what it",
    ),
    "traffic of no worker": (
        lambda: EXCHANGE.traffic(X, 0),
        "workers must be a whole number of at least 1, got 0: pass an int",
    ),
    "traffic of nothing": (
        lambda: EXCHANGE.traffic(None, 2),
        "the tree to exchange must be a tree, .*, got None: pass one",
    ),
}


@pytest.mark.parametrize(
    ("make", "message"),
    [pytest.param(*row, id=name) for name, row in EXCHANGES.items()],
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_levels_and_rules_of_another_kind_are_refused():
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
