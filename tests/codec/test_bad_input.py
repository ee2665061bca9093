"""Bad input: each mistake is refused with argument, rule, value and way out.

One row per mistake; what other files of tests hold about their own rooms is not
repeated here. Nothing is compiled: what needs an axis is only traced.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

X = np.ones(3, np.float32)
BITS = qgenx.uniform(4)
LEVELS = qgenx.user_levels([0.25, 0.5, 1.0])
EXCHANGE = qgenx.exchange(AXIS, BITS)


def traced(run):
    """Runs it for each of two workers, abstractly."""
    return jax.eval_shape(jax.vmap(lambda _: run(), axis_name=AXIS), np.zeros(2))


def send(exchange=EXCHANGE, tree=X, state=None, **options):
    def run():
        own = exchange.init() if state is None else state(exchange.init())
        return exchange.send(tree, own, **options)[0]

    return traced(run)


UNHASHED = np.array([1.0, 2.0])
INCREASING = r"levels must be increasing numbers in \(0, 1\] that end in 1, got "
POSITIVE = "must be a positive, finite number, got "
KEY = "key must be one PRNG key or a whole-number seed, got "
NAME = r"axis_name must be the name of the axis over workers, or .*, got "

QUANTIZERS = {
    "bits 0": (
        lambda: qgenx.uniform(0),
        "bits must be a whole number from 1 to 8, got 0: pass an int",
    ),
    "bits 9": (lambda: qgenx.min_max(9), "bits must be .* from 1 to 8, got 9: pass an"),
    "bits 1.0": (lambda: qgenx.uniform(1.0), "bits must be a whole .*got 1.0: pass an"),
    "bits traced": (
        lambda: jax.eval_shape(lambda b: qgenx.uniform(b), 4),
        "bits must be a whole number from 1 to 8, got JitTracer.*: pass an int",
    ),
    "exponential bits 1": (
        lambda: qgenx.exponential(1),
        "bits must be a whole number from 2 to 8, got 1: pass an int",
    ),
    "bucket size 0": (
        lambda: qgenx.uniform(bucket_size=0),
        "bucket_size must be a whole number of at least 1, got 0: pass an int",
    ),
    "norm 3": (lambda: qgenx.uniform(norm=3), "norm must be one of 1, 2, inf, got 3:"),
    "norm True": (
        lambda: qgenx.uniform(norm=True),
        "norm must be .*, got True: choose",
    ),
    "norm array": (lambda: qgenx.uniform(norm=UNHASHED), "norm must be .*, got array"),
    "norm of min_max": (
        lambda: qgenx.Quantizer("min_max", 4, 2, None),
        "norm must be one of inf, got 2: choose",
    ),
    "source": (
        lambda: qgenx.uniform(source="rbg"),
        "source must be one of 'counter', 'threefry', got 'rbg': choose",
    ),
    "family": (
        lambda: qgenx.Quantizer("ternary", 2, 2, None),
        "family must be one of 'uniform', .*, got 'ternary': choose",
    ),
    "levels unsorted": (lambda: qgenx.user_levels([0.5, 0.2, 1]), INCREASING + r"\[0"),
    "levels above 1": (lambda: qgenx.user_levels([0.5, 1.2]), INCREASING + r"\[0.5"),
    "levels negative": (lambda: qgenx.user_levels([-0.5, 1]), INCREASING + r"\[-0.5"),
    "levels NaN": (lambda: qgenx.user_levels([np.nan, 1]), INCREASING + r"\[nan"),
    "levels empty": (lambda: qgenx.user_levels([]), INCREASING + r"\[\]: zero is a"),
    "levels of text": (lambda: qgenx.user_levels("abc"), INCREASING + "'abc': zero is"),
    "levels complex": (lambda: qgenx.user_levels([1j]), INCREASING + r"\[1j\]: zero"),
    "levels traced": (
        lambda: jax.eval_shape(qgenx.user_levels, X),
        INCREASING + "JitTracer.*: zero is a level",
    ),
    "levels unsorted, by hand": (
        lambda: dataclasses.replace(LEVELS, levels=(0.7, 0.5, 1.0)),
        INCREASING + r"\(0.7",
    ),
    "levels of other bits": (
        lambda: dataclasses.replace(qgenx.exponential(3), bits=4),
        r"levels must be a tuple of 7 to 7 with exponential, 4 bits, got \(.*: make",
    ),
    "levels of uniform": (
        lambda: dataclasses.replace(BITS, levels=(1.0,)),
        r"levels must be a tuple of 0 to 0 with uniform, 4 bits, got \(1.0,\): make",
    ),
    "base": (
        lambda: qgenx.exponential(4, base=1),
        r"base must be in \(0, 1\), got 1: NUQSGD uses 0.5",
    ),
    "n_bytes": (
        lambda: BITS.n_bytes(-1),
        "size must be a whole number of at least 0, got -1: pass an int",
    ),
    "n_bytes dtype": (
        lambda: BITS.n_bytes(1, "int32"),
        "dtype must be a real floating-point array, got int32: cast it",
    ),
    "encode None": (lambda: BITS.encode(0, None), "x must be a tree.* got None: pass"),
    "encode tree": (lambda: BITS.encode(0, {"a": X}), "x must be one array, got dict:"),
    "encode text": (lambda: BITS.encode(0, "a"), "x must be a real .*, got str: cast"),
    "encode integers": (
        lambda: BITS.encode(0, np.arange(3)),
        "x must be a real floating-point array, got int32: cast it",
    ),
    "key 0.5": (lambda: BITS.encode(0.5, X), KEY + "0.5: pass jax.random.key"),
    "key text": (lambda: qgenx.exchange(AXIS, BITS, key="seed"), KEY + "'seed': pass"),
    "key None": (lambda: qgenx.exchange(AXIS, BITS, key=None), KEY + "None: pass jax"),
    "key of another length": (
        lambda: qgenx.exchange(AXIS, BITS, key=np.zeros(3, np.uint32)),
        KEY + "array.*: pass jax.random.key",
    ),
    "keys": (
        lambda: BITS.encode(jax.random.split(jax.random.key(0)), X),
        KEY + r"(.|\n)*: pass jax.random.key",
    ),
    "seed beyond 32 bits, where JAX has equal keys for other seeds": (
        lambda: qgenx.quantized_mean(AXIS, BITS, key=2**40),
        f"key must be a whole number from .*, got {2**40}: pass an int",
    ),
    "levels for another family": (
        lambda: BITS.encode(0, X, levels=X),
        "levels must be left out where the family fixes them, got .*: make",
    ),
    "levels of another number": (
        lambda: LEVELS.encode(0, X, levels=np.float32([0.5, 1])),
        r"levels must have the shape \(3,\) of .*, got \(2,\): make another",
    ),
    "levels decreasing, concrete": (
        lambda: LEVELS.encode(0, X, levels=np.float32([0.5, 0.2, 1])),
        r"levels must not decrease, lie in \[0, 1\] and end in 1, got array.*: sort",
    ),
    "levels with NaN, concrete": (
        lambda: LEVELS.encode(0, X, levels=np.float32([0.5, np.nan, 1])),
        "levels must not decrease, .*, got array.*nan.*: sort them",
    ),
    "levels not up to 1, concrete": (
        lambda: LEVELS.encode(0, X, levels=np.float32([0.1, 0.2, 0.5])),
        "levels must not decrease, .* end in 1, got array.*: sort them",
    ),
    "levels of integers": (
        lambda: LEVELS.encode(0, X, levels=np.array([0, 1, 1])),
        "levels must be a real floating-point array, got int32: cast it",
    ),
    "payload of another quantizer of the same size": (
        lambda: qgenx.exponential(4).decode(BITS.encode(0, X)),
        r"payload must be encoded by .*exponential.*, got .*uniform.*: decode it with",
    ),
    "payload of no quantizer": (
        lambda: BITS.decode(X),
        "payload must be of type Payload, got ndarray: pass what encode returned",
    ),
    "payload of another dtype": (
        lambda: BITS.decode(qgenx.Payload(jnp.zeros(6), (3,), np.dtype("float32"))),
        r"payload must be 6 bytes for .*, got ShapeDtypeStruct.*float32.*: decode it",
    ),
    "payload decoded without its levels": (
        lambda: LEVELS.decode(LEVELS.encode(0, X, np.float32([0.1, 0.2, 1]))),
        "levels must be given to decode exactly where .*, got a payload encoded with l",
    ),
}

EXCHANGES = {
    "axis None": (lambda: qgenx.exchange(None, BITS), NAME + "None: pass for inst"),
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
        "collective must be one of 'auto', 'exact', .*, got 'ring': choose",
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
        KEY + "None: pass jax.random.key",
    ),
    "scalar is no function": (
        lambda: send(scalar=1.0),
        "scalar must be a function of .*, got 1.0: or leave it out",
    ),
    "scalar returns a vector": (
        lambda: send(scalar=lambda own: own),
        "scalar must return one real number, got .*: sum up what it returns",
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
    [pytest.param(*row, id=name) for name, row in {**QUANTIZERS, **EXCHANGES}.items()],
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_levels_that_break_the_rule_at_run_time_give_nan():
    """In a compiled program nothing can be raised: the mean is loud, not wrong."""

    @jax.jit
    def sent(levels):
        return LEVELS.decode(LEVELS.encode(0, X * 0.3, levels), levels)

    assert np.isfinite(sent(np.float32([0.0, 0.5, 1]))).all()
    for levels in ([0.5, 0.2, 1], [0.1, np.nan, 1], [0.1, 0.2, 0.5], [-0.1, 0.2, 1]):
        assert np.isnan(sent(np.float32(levels))).all(), f"a number for {levels}"


def test_numpy_numbers_are_python_numbers():
    """np.uint8(2) - 4 is 254: sizes and powers must not be computed in it."""
    quantizer = qgenx.uniform(np.uint8(4), norm=np.float32(2), bucket_size=np.int8(64))
    assert quantizer == qgenx.uniform(4, norm=2, bucket_size=64)
    assert [type(x) for x in (quantizer.bits, quantizer.norm)] == [int, int]
    assert qgenx.exponential(np.int16(4), base=np.float32(0.5)) == qgenx.exponential(4)
