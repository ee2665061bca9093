"""Bad quantizers: each mistake is refused with argument, rule, value and way out.

One row per mistake; what other files of tests hold about their own rooms is not
repeated here.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.schedule import Refresh
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.quick

X = np.ones(3, np.float32)
BITS = qgenx.uniform(4)
LEVELS = qgenx.user_levels([0.25, 0.5, 1.0])
SIGNED = qgenx.user_levels([-1.0, 0.25, 1.0])
NO_ZERO = qgenx.user_levels([0.25, 1.0], zero=False)
UNHASHED = np.array([1.0, 2.0])
INCREASING = r"levels must be increasing numbers in \(0, 1\] that end in 1, got "
FROM_MINUS_1 = r"levels must be increasing numbers in \[-1, 1\], from -1 on, that end "
KEY = "key must be one PRNG key or a whole-number seed, got "

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
    "family": (
        lambda: qgenx.Quantizer("ternary", 2, 2, None),
        "family must be one of 'dithered', 'exponential', .*, got 'ternary': choose",
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
    "zero of no bool": (
        lambda: qgenx.user_levels([1.0], zero=0),
        "zero must be of type bool, got int: pass a bool",
    ),
    "a leading 0 where zero is no level": (
        lambda: qgenx.user_levels([0.0, 0.5, 1.0], zero=False),
        INCREASING + r"\[0.0.*: negative values mirror .*; zero is no level",
    ),
    "too low without zero": (
        lambda: qgenx.user_levels([2.0**-51, 1.0], zero=False),
        r"levels must be at least 2\^-50, .*, got \[4.*: raise it",
    ),
    "too many without zero": (
        lambda: qgenx.user_levels(np.arange(1, 130) / 129, zero=False),
        "levels must be at most 128, which 8 bits .*, got '129 levels': drop some",
    ),
    "too near without zero": (
        lambda: qgenx.user_levels([0.5, 0.50001, 1.0], zero=False),
        r"levels must differ in their first 12 .*, got \[0.5, .*: drop one of",
    ),
    "signed, unsorted": (
        lambda: qgenx.user_levels([-1, 0.5, 0.2, 1]),
        FROM_MINUS_1 + r"in 1, got \[-1, .*: divide by the largest magnitude",
    ),
    "signed, not up to 1": (
        lambda: qgenx.user_levels([-1, 0.5]),
        FROM_MINUS_1 + r"in 1, got \[-1, 0.5\]: divide",
    ),
    "signed, one level": (lambda: qgenx.user_levels([-1.0]), FROM_MINUS_1),
    "signed, NaN": (lambda: qgenx.user_levels([-1, np.nan, 1]), FROM_MINUS_1),
    "signed, too near zero": (
        lambda: qgenx.user_levels([-1, -1e-30, 1]),
        r"levels must be at least 2\^-50, .*, got \[-1, .*: raise it",
    ),
    "signed, too many": (
        lambda: qgenx.user_levels(np.linspace(-1, 1, 257)),
        "levels must be at most 256, which 8 bits .*, got '257 levels': drop some",
    ),
    "signed, too near": (
        lambda: qgenx.user_levels([-1, -0.50001, -0.5, 1]),
        r"levels must differ in their first 12 .*, got \[-1, .*: drop one of",
    ),
    "magnitudes in place of signed levels, by hand": (
        lambda: dataclasses.replace(SIGNED, levels=(0.25, 1.0)),
        FROM_MINUS_1 + r"in 1, got \(0.25, 1.0\): divide",
    ),
    "one signed level, by hand": (
        lambda: dataclasses.replace(SIGNED, levels=(1.0,)),
        r"levels must be a tuple of 2 to 4 with signed_levels, 2 bits, got \(1.0,\):",
    ),
    "three magnitudes of 2 bits, by hand": (
        lambda: dataclasses.replace(NO_ZERO, levels=(0.25, 0.5, 1.0)),
        "levels must be a tuple of 1 to 2 with levels_without_zero, 2 bits, got",
    ),
    "a schedule without levels, by hand": (
        lambda: dataclasses.replace(BITS, refresh=Refresh()),
        r"refresh must be left out with uniform, .*, got Refresh.*: make .* adaptive",
    ),
    "a schedule that is none, by hand": (
        lambda: dataclasses.replace(LEVELS, refresh=200),
        "refresh must be left out with levels, or be .*, got 200: make .* by adaptive",
    ),
    "adaptive zero": (
        lambda: qgenx.adaptive(zero=1),
        "zero must be of type bool, got int: pass a bool",
    ),
    "adaptive signed": (
        lambda: qgenx.adaptive(signed=None),
        "signed must be of type bool, got NoneType: pass a bool",
    ),
    "adaptive signed with zero": (
        lambda: qgenx.adaptive(signed=True, zero=True),
        "zero must be False for signed levels, got True: leave one out",
    ),
    "adaptive bits 9": (
        lambda: qgenx.adaptive(9),
        "bits must be a whole number from 1 to 8, got 9: pass an int",
    ),
    "adaptive bits 1": (
        lambda: qgenx.adaptive(1),
        r"bits must be at least 2, or there are but -1 and 1, got 1: use uniform\(1\)",
    ),
    "adaptive bits 1, signed": (
        lambda: qgenx.adaptive(1, signed=True),
        r"bits must be at least 2, or there are but -1 and 1, got 1: use uniform\(1\)",
    ),
    "adaptive bits 2, zero": (
        lambda: qgenx.adaptive(2, zero=True),
        r"bits must be at least 3, or .* -1, 0 and 1, got 2: use uniform\(2\)",
    ),
    "adaptive levels that are signed": (
        lambda: qgenx.adaptive(2, levels=[-1, 0, 0.5, 1]),
        r"levels must not begin with -1 where signed=False, got \[-1, .*: give signed=",
    ),
    "adaptive levels that are not": (
        lambda: qgenx.adaptive(2, signed=True, levels=[0.5, 1]),
        r"levels must begin with -1 where signed=True, got \[0.5, 1\]: give signed=",
    ),
    "adaptive levels of another number": (
        lambda: qgenx.adaptive(3, levels=[0.5, 1.0]),
        "levels must be 4 for 3 bits, got '2 levels': levels that are fitted keep",
    ),
    "adaptive levels unsorted": (
        lambda: qgenx.adaptive(2, levels=[0.5, 0.2]),
        INCREASING + r"\[0.5, 0.2\]: negative values mirror",
    ),
    "adaptive schedule": (
        lambda: qgenx.adaptive(adapt=[]),
        r"adapt must name an exchange before .*, got \[\]: pass for instance",
    ),
    "adaptive method": (lambda: qgenx.adaptive(method=""), "method must be one of 'n"),
    "adaptive law": (lambda: qgenx.adaptive(law=None), "law must be one of 'histogr"),
    "adaptive norm": (lambda: qgenx.adaptive(norm=3), "norm must be one of .*, got 3"),
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
    "signed levels not from -1, concrete": (
        lambda: SIGNED.encode(0, X, levels=np.float32([-0.5, 0.2, 1])),
        "levels must not decrease, begin with -1 and end in 1, got array.*: sort",
    ),
    "signed levels decreasing, concrete": (
        lambda: SIGNED.encode(0, X, levels=np.float32([-1, 1, 0.5])),
        "levels must not decrease, begin with -1 and end in 1, got array.*: sort",
    ),
    "signed levels of another number": (
        lambda: SIGNED.encode(0, X, levels=np.float32([-1, 1])),
        r"levels must have the shape \(3,\) of .*, got \(2,\): make another",
    ),
    "levels without zero below 0, concrete": (
        lambda: NO_ZERO.encode(0, X, levels=np.float32([-1, 1])),
        r"levels must not decrease, lie in \[0, 1\] and end in 1, got array.*: sort",
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


@pytest.mark.parametrize(
    ("make", "message"),
    [pytest.param(*row, id=name) for name, row in QUANTIZERS.items()],
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_limits_of_arguments():
    """The last value that is allowed, and the first that is not."""
    assert len(qgenx.user_levels(np.linspace(0, 1, 128)).levels) == 127
    with pytest.raises(ValueError, match=r"levels must be at most 127.*128 levels"):
        qgenx.user_levels(np.arange(1, 129) / 128)
    assert qgenx.user_levels([0, 0.5, 1]) == qgenx.user_levels([0.5, 1])
    for levels in ([[0.5, 1.0]], [0.5, 0.5, 1.0], 1.0, [0.0], [0.0, 0.0, 1.0]):
        with pytest.raises(ValueError, match=r"levels must be increasing numbers"):
            qgenx.user_levels(levels)
    bits = {
        count: qgenx.user_levels(np.arange(1, count + 1) / count).bits
        for count in (1, 2, 3, 4, 7, 8, 63, 64, 127)
    }
    assert bits == {1: 2, 2: 3, 3: 3, 4: 4, 7: 4, 8: 5, 63: 7, 64: 8, 127: 8}
    bits = {
        count: qgenx.user_levels(np.arange(1, count + 1) / count, zero=False).bits
        for count in (1, 2, 3, 4, 5, 8, 9, 64, 65, 128)
    }
    assert bits == {1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 8: 4, 9: 5, 64: 7, 65: 8, 128: 8}
    bits = {
        count: qgenx.user_levels(np.linspace(-1, 1, count)).bits
        for count in (2, 3, 4, 5, 16, 17, 256)
    }
    assert bits == {2: 1, 3: 2, 4: 2, 5: 3, 16: 4, 17: 5, 256: 8}
    lowest = [2.0**-50, 1.0]
    assert list(qgenx.user_levels(lowest, zero=False).levels) == lowest
    for base in (0, 1, -0.5, "half"):
        with pytest.raises(ValueError, match=r"base must be in \(0, 1\)"):
            qgenx.exponential(4, base=base)
    for make in (qgenx.uniform, qgenx.min_max):
        assert [make(b).bits for b in (1, 8)] == [1, 8]
    assert [qgenx.exponential(b).bits for b in (2, 8)] == [2, 8]
    assert qgenx.uniform(bucket_size=1).n_bytes(3) == 3 * (1 + 4)
