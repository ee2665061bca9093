"""Random signs and a Hadamard matrix: what a bucket is turned by before it is rounded.

    forward   z = R v,   R = H D / sqrt(n)
    inverse   v = R' z = D H z / sqrt(n)

for a bucket of n = 2^k coordinates, H the Hadamard matrix, H[i, j] = (-1)^(bits that i
and j have in common), D signs. R is orthogonal: it keeps lengths, and an error of z is
one of v of the same length. A large coordinate is spread over all n, so that
z_i looks like a normal of variance ||v||^2 / n, whatever the law of v is. Rounding z
without bias rounds v without bias. A bucket of another length, the short last one, is
cut to runs of powers of two, the longest first, each turned by itself: nothing is
padded, and no byte more travels.

D is a hash of the coordinate's place in its bucket, alike on all workers and in all
exchanges: a mean is taken of turned vectors, and turned back once; no key is needed.

H is a Kronecker product, and is multiplied with in passes over axes of up to 16
coordinates, each a sum of 16 terms +-x, which LLVM makes loops of that it vectorizes.
The terms are exact, and added in one order, so that results have the same bits however
a program is mapped or fused. On CPUs each pass is a program of its own (`fusion`):
fused, they would compute for each coordinate what they have computed for others.

References:
    Suresh, Yu, Kumar, McMahan, Distributed Mean Estimation with Limited Communication,
    ICML 2017, section 3; Ailon and Chazelle, The Fast Johnson-Lindenstrauss Transform,
    2009.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._codec import fusion, scales
from qgenx_jax._types import Array

LARGEST = 2**16
"""Coordinates of a bucket that is turned: signs are a constant of the program."""

_ROOT = np.asarray(math.sqrt(0.5))


def is_turnable(bucket_size: int | None) -> bool:
    """Whether full buckets are of a power of two of coordinates, 2 at least."""
    return (
        bucket_size is not None
        and 2 <= bucket_size <= LARGEST
        and _is_power(bucket_size)
    )


@jax.jit
def forward(bucket: Array) -> Array:
    """R v of buckets (rows, n), float32 or float64."""
    turn = _by_passes if _is_power(bucket.shape[1]) else _by_butterflies
    return turn(bucket, inverse=False)


@jax.jit
def inverse(bucket: Array) -> Array:
    """R' z of buckets (rows, n): what `forward` turned."""
    turn = _by_passes if _is_power(bucket.shape[1]) else _by_butterflies
    return turn(bucket, inverse=True)


def forward_exactly(bucket: np.ndarray) -> np.ndarray:
    """`forward` in NumPy, in float64."""
    return _by_butterflies(bucket.astype(np.float64), inverse=False)


def spread(squares: np.ndarray) -> np.ndarray:
    """E (v_i)^2 of each coordinate of R' z, from E z_i^2 of uncorrelated z: (rows, n).

    Every coordinate has an equal part of each z_i of its run.
    """
    found, start, sizes = np.empty_like(squares), 0, _runs(squares.shape[1])
    while start < sizes.size:
        end = start + sizes[start]
        found[:, start:end] = squares[:, start:end].mean(axis=1, keepdims=True)
        start = end
    return found


def turned(vector: Array, bucket_size: int) -> Array:
    """A flat vector whose buckets are turned, as long as it is."""
    if vector.size == 0:
        return vector
    full = vector.size // bucket_size * bucket_size
    runs = [vector[:full].reshape(-1, bucket_size), vector[full:].reshape(1, -1)]
    return jnp.concatenate([forward(x).reshape(-1) for x in runs if x.size])


@functools.lru_cache(maxsize=16)
def signs(count: int) -> np.ndarray:
    """D: +1 or -1 for each place, int8 (count,); those of fewer are the first of more.

    The top bit of splitmix64 of the place.

    References:
        Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return 1 - 2 * (x >> np.uint64(63)).astype(np.int8)


@functools.cache
def hadamard(count: int) -> np.ndarray:
    """H, int8 (count, count), count a power of two, in the order of Sylvester."""
    place = np.arange(count)
    common = place[:, None] & place
    odd = sum((common >> bit) & 1 for bit in range(count.bit_length())) % 2
    return (1 - 2 * np.asarray(odd)).astype(np.int8)


def _is_power(count: int) -> bool:
    return count & (count - 1) == 0


@functools.lru_cache(maxsize=16)
def _runs(count: int) -> np.ndarray:
    """For each place of a bucket the length of its run: int32 (count,)."""
    digits = [2**bit for bit in reversed(range(count.bit_length())) if count >> bit & 1]
    return np.repeat(digits, digits).astype(np.int32)


def _by_butterflies(x: Any, *, inverse: bool) -> Any:
    """Buckets of any length, each run by itself: a short program, in JAX or in NumPy.

    Of pairs of places that differ in one bit sum and difference, bit by bit.
    """
    xp, runs = np if isinstance(x, np.ndarray) else jnp, _runs(x.shape[1])
    place, sign = np.arange(runs.size, dtype=np.int32), signs(runs.size)[None]
    halves, odd = np.divmod(np.log2(runs).astype(int), 2)

    def pairs(bit: Any, x: Any) -> Any:
        is_one = xp.asarray(place)[None] >> bit & 1
        is_inside = xp.asarray(runs) >> bit > 1
        other = x[:, xp.where(is_inside, place ^ (1 << bit), place)]
        mixed = xp.where(is_one == 1, other - x, x + other)
        return xp.where(is_inside[None], mixed, x)

    first = np.ldexp(np.ones_like(sign) if inverse else sign, -halves[None])
    x = x * first.astype(x.dtype)
    bits, root = int(runs[0]).bit_length() - 1, _ROOT.astype(x.dtype)
    if xp is np:
        x = functools.reduce(lambda x, bit: pairs(bit, x), range(bits), x)
        x = np.where(odd, x * root, x)
    else:
        x = lax.fori_loop(0, bits, pairs, x)
        x = jnp.where(odd[None] == 1, scales.product(x, root), x)
    return _with_signs(x, sign) if inverse else x


def _by_passes(x: Array, *, inverse: bool) -> Array:
    """Buckets of n = 2^k coordinates: many rows, in a few passes."""
    count = x.shape[1]
    widths = _widths(count.bit_length() - 1)
    low = functools.partial(_low, sign=signs(count), inverse=inverse)
    steps: list[tuple[Any, tuple[int, ...]]]
    steps = [(low, (-1, count >> widths[0], 2 ** widths[0]))]
    for i, width in enumerate(widths[1:], 1):
        steps.append((_high, (-1, 2**width, 2 ** sum(widths[:i]))))
    # signs go with neighbours: before they are added up for the first time, or after
    # they were for the last
    steps = list(reversed(steps)) if inverse else steps
    half = (count.bit_length() - 1) // 2
    for i, (step, shape) in enumerate(steps):
        # sums are made smaller before they grow, or those of large numbers overflow
        shift = half if i == 0 else 0
        apart = functools.partial(step, shift=shift)
        x = fusion.apart(apart, x.reshape(shape)).reshape(-1, count)
    return x


def _widths(bits: int) -> list[int]:
    """Into which passes 2^bits coordinates are cut: of up to 4 bits, the lowest first.

    Neighbours in one of 16, where a CPU's registers are filled by them.
    """
    low, rest = min(bits, 4), bits - min(bits, 4)
    count = -(-rest // 4)
    return [low] + [rest // count + (i < rest % count) for i in range(count)]


def _low(x: Array, sign: np.ndarray, *, shift: int, inverse: bool) -> Array:
    """2^-shift H along the last axis of (rows, n / size, size), and signs.

    Times 1 / sqrt(2), too, where n is no square.
    """
    size, sign = x.shape[2], sign.reshape(1, *x.shape[1:]).astype(x.dtype)
    odd = (x.shape[1].bit_length() + size.bit_length()) % 2
    table, terms = _shifted(size, shift, x.dtype), []
    for i in range(size):
        one = x[:, :, i : i + 1]
        one = one if inverse else one * sign[:, :, i : i + 1]
        terms.append(one * table[i][None, None])
    total = functools.reduce(jnp.add, terms)
    total = scales.product(total, _ROOT.astype(x.dtype)) if odd else total
    return _with_signs(total, sign) if inverse else total


def _shifted(size: int, shift: int, dtype: Any) -> np.ndarray:
    """2^-shift H."""
    return np.ldexp(hadamard(size).astype(np.float64), -shift).astype(dtype)


def _high(x: Array, *, shift: int) -> Array:
    """2^-shift H along the middle axis of (rows, size, n)."""
    table = _shifted(x.shape[1], shift, x.dtype)[:, None, :, None]
    terms = [x[:, i : i + 1] * table[i] for i in range(x.shape[1])]
    return functools.reduce(jnp.add, terms)


def _with_signs(x: Array, sign: np.ndarray) -> Array:
    """x times signs, as whole numbers; zeros are +0.

    In floats a compiler may take -(a - b) for b - a, whose zero has the other sign.
    """
    word = np.dtype(f"int{8 * x.dtype.itemsize}")
    flip = np.where(sign < 0, np.iinfo(word).min, 0).astype(word)
    bits = lax.bitcast_convert_type(x, word) ^ flip
    return lax.bitcast_convert_type(jnp.where(bits << 1 == 0, 0, bits), x.dtype)
