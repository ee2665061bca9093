"""The quantizer: a static description, and arrays to payloads and back.

For a bucket v with norm n = ||v||_q, coordinate i becomes, independently,

    Q(v)_i = n sign(v_i) (l_{tau+1} with probability xi, else l_tau),    E Q(v) = v,

l_tau <= |v_i| / n <= l_{tau+1} being neighbouring levels and xi the place between them.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import (
    _checks,
    _levels,
    _passes,
    _random,
    _records,
    _rounding,
)
from qgenx_jax._payload import Payload
from qgenx_jax._types import Array

_NORMS = (1, 2, math.inf)
FAMILIES = ("uniform", "exponential", "levels", "min_max")
SOURCES = ("counter", "threefry")
KERNELS = ("xla", "pallas")


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """A static, hashable description of a quantizer.

    Made by `uniform`, `exponential`, `min_max` and `user_levels`, which document it.

    Attributes:
        family: "uniform", "exponential", "levels" or "min_max".
        bits: per coordinate, sign included.
        norm: q of the bucket norm ||v||_q: 1, 2 or infinity; infinity for "min_max".
        bucket_size: coordinates that share a norm; None for one bucket.
        source: of the random bits, "counter" (fused) or "threefry" (jax.random).
        levels: l_1 < ... < l_{s+1} = 1 of "exponential" and "levels"; () otherwise.
        kernel: what encodes on GPUs, "xla" or "pallas". It changes no byte: each opens
            what the other encoded.

    Raises:
        ValueError: for values outside these ranges.
    """

    family: str
    bits: int
    norm: float
    bucket_size: int | None
    source: str = "counter"
    levels: tuple[float, ...] = ()
    kernel: str = "xla"

    def __post_init__(self) -> None:
        _checks.one_of("family", self.family, FAMILIES)
        _checks.one_of("source", self.source, SOURCES)
        _checks.one_of("kernel", self.kernel, KERNELS)
        has_levels = self.family in ("exponential", "levels")
        bits = _checks.whole_number("bits", self.bits, 2 if has_levels else 1, 8)
        norms = (math.inf,) if self.family == "min_max" else _NORMS
        # as Python numbers: NumPy's overflow in the arithmetic of sizes
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "norm", _checks.one_of("norm", self.norm, norms))
        if self.bucket_size is not None:
            size = _checks.whole_number("bucket_size", self.bucket_size, 1, None)
            object.__setattr__(self, "bucket_size", size)
        most = _levels.steps_of(bits) if has_levels else 0
        least = most if self.family == "exponential" else min(most, 1)
        is_tuple = isinstance(self.levels, tuple)
        if not is_tuple or not least <= len(self.levels) <= most:
            raise _checks.refuse(
                "levels",
                f"must be a tuple of {least} to {most} with {self.family}, {bits} bits",
                self.levels,
                "make the quantizer by uniform, exponential, min_max or user_levels",
            )
        if self.family == "levels":
            _levels.check_levels(self.levels)

    def buckets(self, size: int) -> tuple[tuple[int, int], ...]:
        """How `size` coordinates are cut: (rows, length) of the full and the short."""
        size = _checks.whole_number("size", size, 0, None)
        if size == 0:
            return ()
        length = min(self.bucket_size or size, size)
        full, rest = divmod(size, length)
        return ((full, length),) + (((1, rest),) if rest else ())

    def n_bytes(self, size: int, dtype: np.dtype | str = "float32") -> int:
        """Bytes on the wire for a vector of `size` coordinates of a dtype."""
        return self._format(size, wire_dtype(dtype)).n_bytes

    def encode(
        self, key: _random.KeyOrSeed, x: Array, levels: Array | None = None
    ) -> Payload:
        """Rounds an array at random, without bias, and packs it.

        Args:
            key: PRNG key or seed; equal keys give equal bytes.
            x: floating-point array of any shape. Arithmetic is float32, float64 for a
                float64 array.
            levels: for the family "levels", other levels than the quantizer's own:
                not decreasing, in [0, 1], the last one 1, of the same number; may be
                traced, and are truncated to 12 significant bits. Traced ones that are
                not such make the payload decode to NaN.

        Returns:
            The payload. The mean of what `decode` gives over all keys is x, to 2^-17 of
            the distance of the two levels around each coordinate (16 random bits decide
            a rounding), before it is rounded to the nearest of x's dtype; `min_max`
            adds the rounding of v - min and max - min in floating point.

        Raises:
            ValueError: if x is not a real floating-point array, or levels are given to
                another family, or are not such, as far as they are known.

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
        if not isinstance(x, (list, tuple)) and not jax.tree_util.all_leaves([x]):
            found = _checks.Text(type(x).__name__)
            way_out = "pass its leaves, or send the tree by qgenx_jax.exchange"
            raise _checks.refuse("x", "must be one array", found, way_out)
        x = jnp.asarray(x)
        table = self.table_of(levels)
        key = _random.typed(_random.canonical_key(key))
        data = self.records_of(key, x.reshape(-1), x.size, table)
        opens = dataclasses.replace(self, kernel="xla")
        return Payload(data, x.shape, np.dtype(x.dtype), opens, levels is not None)

    @functools.partial(jax.jit, static_argnames=("self", "size"))
    def records_of(
        self, key: Array, flat: Array, size: int, table: Array | None
    ) -> Array:
        """The bytes of the first `size` coordinates of a flat vector, in one pass.

        Args:
            key: a typed PRNG key.
            flat: the vector, of which others may follow: cutting it here costs nothing.
            size: how many to encode.
            table: the levels, as `encode` rounds them; None for the quantizer's own.
        """
        by = self.quantization(size, flat.dtype, table)
        return _passes.encode(by, flat, key)

    def decode(self, payload: Payload, levels: Array | None = None) -> Array:
        """The array that a payload stands for.

        Args:
            payload: from `encode` of an equal quantizer.
            levels: those given to `encode`.

        Returns:
            Array of the payload's shape and dtype. A bucket that held a NaN or an
            infinity is all NaN; a bucket of zeros is all zeros.

        Raises:
            ValueError: if the payload is not one of this quantizer, or levels are
                given here and were not there, or the other way around.
        """
        _checks.instance_of("payload", payload, Payload, "pass what encode returned")
        payload.check_levels(levels)
        table = self.table_of(levels)
        payload.check(self.n_bytes(math.prod(payload.shape), payload.dtype), self)
        size, dtype = math.prod(payload.shape), payload.dtype
        flat = self.mean_of(payload.data[None], size, dtype, table)
        return flat.reshape(payload.shape).astype(dtype)

    @functools.partial(
        jax.jit, static_argnames=("self", "size", "dtype", "start", "cut")
    )
    def mean_of(
        self,
        payloads: Array,
        size: int,
        dtype: np.dtype,
        table: Array | None,
        start: int = 0,
        cut: bool = False,
    ) -> Array:
        """The mean of what K payloads stand for, in one pass: what an exchange does.

        Args:
            payloads: uint8 of shape (K, bytes), one in each row.
            size: coordinates of each.
            dtype: theirs.
            table: the levels, as `encode` rounds them; None for the quantizer's own.
            start: byte at which the payloads begin; others may follow them.
            cut: whether the mean is cut into leaves, see `_passes.average`.

        Returns:
            (size,), float32 or float64. Contributions are added up in their order, so
            that all who do this get the same bits: products of codes and steps are
            exact, however a compiler fuses them with the additions.
        """
        by = self.quantization(size, dtype, table)
        return _passes.average(by, payloads, start, cut)

    def records(self, payload: Payload) -> list[tuple[Array, Array]]:
        """Opens a payload: unsigned codes (rows, length) and scales (rows, m).

        Returns:
            A list with the full buckets and, where there is one, the short last one.

        Raises:
            ValueError: if the payload is another quantizer's, or its bytes are not as
                many as this one makes.
        """
        payload.check(self.n_bytes(math.prod(payload.shape), payload.dtype), self)
        form = self._format(math.prod(payload.shape), wire_dtype(payload.dtype))
        opened = []
        for bucket in form.open(payload.data[None], 0):
            codes, meta = bucket.codes(0), [scale[:, 0] for scale in bucket.meta(0)]
            codes = codes.reshape(codes.shape[0], -1)[:, : bucket.length]
            meta = jnp.concatenate(meta, axis=1)
            opened.append((codes.astype(jnp.uint8), meta))
        return opened

    @property
    def initial_levels(self) -> Array | None:
        """What a state holds for the family "levels", and None for the others."""
        if self.family != "levels":
            return None
        return jnp.asarray(self.levels, jnp.float32)

    def quantization(
        self, size: int, dtype: Any, table: Array | None
    ) -> _passes.Quantization:
        """How `size` coordinates of a dtype are quantized, by a table of levels."""
        form = self._format(size, wire_dtype(dtype))
        return _passes.Quantization(self._codec(table), form, self.kernel)

    def _format(self, size: int, wide: np.dtype) -> _records.Format:
        meta = 2 if self.family == "min_max" else 1
        return _records.Format(self.bits, self.source, meta, wide, self.buckets(size))

    def table_of(self, levels: Array | None) -> Array | None:
        """Levels given in place of the quantizer's own, as they are rounded to."""
        if levels is None:
            return None
        if self.family != "levels":
            raise _checks.refuse(
                "levels",
                "must be left out where the family fixes them",
                f"levels for {self.family!r}",
                "make the quantizer by qgenx_jax.user_levels",
            )
        return _levels.given(levels, len(self.levels))

    def _codec(self, table: Array | None) -> _rounding.Codec:
        """The codec, with these levels where the family takes some."""
        if self.family == "min_max":
            return _rounding.MinMax(self.bits)
        if self.family == "uniform":
            if self.bits == 1:
                return _rounding.Sign(self.norm)
            return _rounding.Uniform(self.bits, self.norm)
        if table is None:
            table = jnp.asarray(self.levels, jnp.float32)
        return _rounding.Levels(self.bits, self.norm, table)


def wire_dtype(dtype: np.dtype | str) -> np.dtype:
    """The dtype of arithmetic and of scales: float64 for float64, else float32.

    Raises:
        ValueError: if it is not a real floating-point dtype.
    """
    _checks.floating_leaves("dtype", jax.ShapeDtypeStruct((), dtype))
    return np.dtype("float64" if np.dtype(dtype) == np.float64 else "float32")
