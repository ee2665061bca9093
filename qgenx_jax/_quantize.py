"""The quantizer: bucket norm, unbiased rounding to levels, codes and back.

For a bucket v with norm n and s + 1 equal steps, coordinate i becomes, independently,

    Q(v)_i = n sign(v_i) (l_{tau+1} with probability xi, else l_tau),    E Q(v) = v,

l_tau = tau / (s + 1) and l_{tau+1} being the levels around |v_i| / n, and xi the place
of |v_i| / n between them. Rounding is done in integers. With the step U = n / (s + 1),

    c = nearest whole number to v_i / U,     f = round(2^16 (v_i - c U) / U),
    code = c + floor((f + r) / 2^16),        r uniform on 0 .. 2^16 - 1,

whose mean over r is c + f / 2^16 without error: the bias is that of f alone, at most
2^-17 of a step, and a value on a level (f = 0) never moves. U is rounded *up* to so few
significant bits that every code * U is exact in float32. So v_i - c U is exact too, no
|code| exceeds s + 1, and a compiler that fuses a multiplication with an addition gets
the same bits as one that does not.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _checks, _packing, _random
from qgenx_jax._types import Array

_NORMS = (1, 2, math.inf)
# Buckets below this are scaled up by _LIFT first, so that no intermediate of theirs
# becomes subnormal, which XLA flushes to zero on some devices.
_SMALL = 2.0**-64
_LIFT = 2.0**64


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Payload:
    """What one worker sends for one array: packed codes and one number per bucket.

    Attributes:
        codes: uint8, densely packed codes, bucket after bucket.
        scales: float32 of shape (buckets,); scale = 2^(bits - 2) U with the step U, the
            bucket's norm up to a factor between 1/2 and 1. NaN marks a bucket that held
            a NaN or an infinity.
        shape: shape of the array.
        dtype: dtype of the array.
    """

    codes: Array
    scales: Array
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    dtype: np.dtype = dataclasses.field(metadata={"static": True})

    @property
    def nbytes(self) -> int:
        """Bytes on the wire: the codes, and 4 for each bucket."""
        return self.codes.size + 4 * self.scales.size

    def to_bytes(self) -> Array:
        """One uint8 vector of `nbytes`, codes first."""
        scales = lax.bitcast_convert_type(self.scales, jnp.uint8).reshape(-1)
        return jnp.concatenate([self.codes, scales])


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """A static, hashable description of a quantizer; made by `uniform`.

    Attributes:
        family: the levels, "uniform".
        bits: per coordinate, sign included, 2 to 8.
        norm: q of the bucket norm ||v||_q: 1, 2 or infinity.
        bucket_size: coordinates that share a norm; None for one bucket.

    Raises:
        ValueError: for values outside these ranges.
    """

    family: str
    bits: int
    norm: float
    bucket_size: int | None

    def __post_init__(self) -> None:
        _checks.one_of("family", self.family, ["uniform"])
        _checks.whole_number("bits", self.bits, 2, 8)
        _checks.one_of("norm", self.norm, _NORMS)
        if self.bucket_size is not None:
            _checks.whole_number("bucket_size", self.bucket_size, 1, None)

    @property
    def steps(self) -> int:
        """s + 1, the number of steps between 0 and the norm: 2^(bits - 1) - 1."""
        return 2 ** (self.bits - 1) - 1

    def buckets(self, size: int) -> tuple[tuple[int, int], ...]:
        """How `size` coordinates are cut: (rows, length) of the full and the short."""
        length = min(self.bucket_size or size, size)
        if size == 0:
            return ()
        full, rest = divmod(size, length)
        return ((full, length),) + (((1, rest),) if rest else ())

    def n_buckets(self, size: int) -> int:
        """Number of buckets of a vector of `size` coordinates."""
        return sum(rows for rows, _ in self.buckets(size))

    def n_code_bytes(self, size: int) -> int:
        """Bytes of the packed codes of a vector of `size` coordinates."""
        return sum(
            rows * _packing.packed_size(length, self.bits)
            for rows, length in self.buckets(size)
        )

    def n_bytes(self, size: int) -> int:
        """Bytes on the wire for a vector of `size` coordinates: codes and scales."""
        return self.n_code_bytes(size) + 4 * self.n_buckets(size)

    def encode(self, key: _random.KeyOrSeed, x: Array) -> Payload:
        """Rounds an array at random, without bias, and packs it.

        Args:
            key: PRNG key or seed; equal keys give equal bytes.
            x: floating-point array of any shape. It is quantized as float32; a float64
                is rounded to that first.

        Returns:
            The payload; `decode` gives an array of mean x, of x's shape and dtype.

        Raises:
            ValueError: if x is not a real floating-point array.

        Example:
            >>> import jax, qgenx_jax as qgenx
            >>> quantizer = qgenx.uniform(bits=4, bucket_size=4)
            >>> payload = quantizer.encode(0, jax.numpy.array([7.0, -2.0, 0.0, 1.5, 3]))
            >>> payload.nbytes  # 5 codes of 4 bits, 2 buckets of 4 bytes
            11
            >>> quantizer.decode(payload)[:3]
            Array([ 7., -2.,  0.], dtype=float32)
        """
        _checks.floating_leaves("x", x)
        x = jnp.asarray(x)
        key = _random.canonical_key(key)
        flat = x.reshape(-1).astype(jnp.float32)
        codes, scales, start = [], [], 0
        for rows, length in self.buckets(flat.size):
            end = start + rows * length
            bucket = flat[start:end].reshape(rows, length)
            r16 = _random.counter_bits(key, (rows, length), offset=start)
            code, scale = self._round(bucket, r16)
            codes.append(_packing.pack(code, self.bits).reshape(-1))
            scales.append(scale.reshape(-1))
            start = end
        return Payload(
            codes=jnp.concatenate([*codes, jnp.zeros(0, jnp.uint8)]),
            scales=jnp.concatenate([*scales, jnp.zeros(0, jnp.float32)]),
            shape=x.shape,
            dtype=np.dtype(x.dtype),
        )

    def decode(self, payload: Payload) -> Array:
        """The array that a payload stands for: code * U for each coordinate.

        Args:
            payload: from `encode` of an equal quantizer.

        Returns:
            Array of the payload's shape and dtype. A bucket that held a NaN or an
            infinity is all NaN; a bucket of zeros is all zeros.

        Raises:
            ValueError: if the payload's sizes are not those of this quantizer.
        """
        size = math.prod(payload.shape)
        expected = (self.n_code_bytes(size),), (self.n_buckets(size),)
        if (payload.codes.shape, payload.scales.shape) != expected:
            raise _checks.refuse(
                "payload",
                f"must have codes of shape {expected[0]} and scales of shape "
                f"{expected[1]} for {self} and an array of shape {payload.shape}",
                (payload.codes.shape, payload.scales.shape),
                "decode it with the quantizer that encoded it",
            )
        values, code_start, scale_start = [], 0, 0
        for rows, length in self.buckets(size):
            n_codes = rows * _packing.packed_size(length, self.bits)
            packed = payload.codes[code_start : code_start + n_codes].reshape(rows, -1)
            code = _packing.unpack(packed, length, self.bits).astype(jnp.int32)
            scale = payload.scales[scale_start : scale_start + rows, None]
            # code * 2^(2 - bits) is exact, so this is code * U, rounded nowhere
            unit_code = (code - self.steps).astype(jnp.float32) * self._unit
            values.append((unit_code * scale).reshape(-1))
            code_start += n_codes
            scale_start += rows
        flat = jnp.concatenate([*values, jnp.zeros(0, jnp.float32)])
        return flat.reshape(payload.shape).astype(payload.dtype)

    def from_bytes(
        self, buffer: Array, shape: tuple[int, ...], dtype: np.dtype
    ) -> Payload:
        """Inverse of `Payload.to_bytes`, for an array of this shape and dtype."""
        n_codes = self.n_code_bytes(math.prod(shape))
        scales = lax.bitcast_convert_type(
            buffer[n_codes:].reshape(-1, 4), jnp.float32
        ).reshape(-1)
        return Payload(buffer[:n_codes], scales, shape, dtype)

    @property
    def _unit(self) -> float:
        """U / scale = 2^(2 - bits), a power of two."""
        return 2.0 ** (2 - self.bits)

    def _round(self, bucket: Array, r16: Array) -> tuple[Array, Array]:
        """Codes (rows, length) as uint8 with s + 1 for zero, scales (rows, 1)."""
        norm = bucket_norm(bucket, self.norm)
        lift = jnp.where(norm < _SMALL, jnp.float32(_LIFT), jnp.float32(1))
        scale = self._scale(norm * lift)
        step = scale * self._unit
        inverse = 1 / jnp.where(step > 0, step, 1)
        v = bucket * lift
        nearest = jnp.round(v * inverse)
        rest = jnp.round((v - nearest * step) * (inverse * 2.0**16))
        code = nearest.astype(jnp.int32) + ((rest.astype(jnp.int32) + r16) >> 16)
        code = jnp.clip(code, -self.steps, self.steps) + self.steps
        return code.astype(jnp.uint8), scale / lift

    def _scale(self, norm: Array) -> Array:
        """The smallest scale of few significant bits with (s + 1) U >= norm.

        A code has bits - 1 significant bits (one of which is free for the code 1), so
        the scale keeps 25 - bits of float32's 24 for their product to be exact.
        """
        ratio = self.steps * self._unit  # norm / scale, in [1, 2)
        drop = 0 if self.steps == 1 else self.bits - 1
        as_bits = lax.bitcast_convert_type(norm * (1 / ratio), jnp.uint32)
        half, grid = (1 << drop) >> 1, 1 << drop
        # to the nearest first, then up where that is short: the division's own rounding
        # must not push a norm that is on the grid to the grid's next point
        nearest = (as_bits + jnp.uint32(half)) & ~jnp.uint32(grid - 1)
        scale = lax.bitcast_convert_type(nearest, jnp.float32)
        above = lax.bitcast_convert_type(nearest + jnp.uint32(grid), jnp.float32)
        scale = jnp.where(scale * ratio < norm, above, scale)
        # within 2^-16 of float32's end, rounding up would make the top level infinite
        fraction, exponent = math.frexp(float(np.finfo(np.float32).max) / ratio)
        largest = math.floor(math.ldexp(fraction, 24 - drop))
        scale = jnp.minimum(scale, math.ldexp(largest, exponent - 24 + drop))
        return jnp.where(jnp.isfinite(norm), scale, jnp.nan)


def uniform(
    bits: int = 8, *, norm: float = math.inf, bucket_size: int | None = 1024
) -> Quantizer:
    """Equal steps between -||v||_q and ||v||_q: QSGD (q = 2), QSGD-inf (q = infinity).

    Args:
        bits: per coordinate, sign included, 2 to 8; 2^(bits - 1) - 1 steps on each side
            of zero, so that 2 bits are ternary.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm of 4 bytes; None for one bucket.

    Returns:
        The quantizer. It costs bits / 8 + 4 / bucket_size bytes per coordinate.

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.uniform(bits=4).n_bytes(1_000_000)  # float32 takes 4,000,000
        503908

    References:
        Alistarh et al., QSGD, NeurIPS 2017; Ramezani-Kebrya et al., Distributed
        Extra-gradient with Optimal Complexity and Communication Guarantees, ICLR 2023,
        section 3.
    """
    return Quantizer("uniform", bits, norm, bucket_size)


def bucket_norm(bucket: Array, q: float) -> Array:
    """||v||_q over the last axis, kept; q = 1, 2 or infinity, with no overflow inside.

    Computed as M ||v / M||_q with M = max |v|, and never less than M.
    """
    largest = jnp.max(jnp.abs(bucket), axis=-1, keepdims=True)
    if q == math.inf:
        return largest
    ratio = bucket / jnp.where(largest > 0, largest, 1)
    if q == 1:
        relative = jnp.sum(jnp.abs(ratio), axis=-1, keepdims=True)
    else:
        relative = jnp.sqrt(jnp.sum(ratio * ratio, axis=-1, keepdims=True))
    return largest * jnp.maximum(relative, 1)
