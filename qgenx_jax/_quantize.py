"""The quantizer: a static description, and arrays to payloads and back.

For a bucket v with norm n = ||v||_q, coordinate i becomes, independently,

    Q(v)_i = n sign(v_i) (l_{tau+1} with probability xi, else l_tau),    E Q(v) = v,

l_tau <= |v_i| / n <= l_{tau+1} being neighbouring levels and xi the place between them.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _checks, _levels, _packing, _random, _rounding, _trees
from qgenx_jax._types import Array

_NORMS = (1, 2, math.inf)
FAMILIES = ("uniform", "exponential", "levels", "min_max")
SOURCES = ("counter", "threefry")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Payload:
    """What one worker sends for one array: a record for each bucket.

    A record is the bucket's packed codes and then what its coordinates share, as
    float32 or, for a float64 array, float64: a scale, which is the norm up to a factor
    between 1/2 and 1, or for `min_max` the minimum and a scale. NaN marks a bucket that
    held a NaN or an infinity. `Quantizer.records` opens them.

    Attributes:
        data: uint8 of shape (bytes,), record after record.
        shape: shape of the array.
        dtype: dtype of the array.
        quantizer: the one that encoded it; None if it is not known, for bytes that came
            from elsewhere.
        other_levels: whether it was given levels other than its own.
    """

    data: Array
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    dtype: np.dtype = dataclasses.field(metadata={"static": True})
    quantizer: "Quantizer | None" = dataclasses.field(
        default=None, metadata={"static": True}
    )
    other_levels: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return self.data.size


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

    Raises:
        ValueError: for values outside these ranges.
    """

    family: str
    bits: int
    norm: float
    bucket_size: int | None
    source: str = "counter"
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _checks.one_of("family", self.family, FAMILIES)
        _checks.one_of("source", self.source, SOURCES)
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
        return sum(
            rows * self._record_bytes(length, wire_dtype(dtype))
            for rows, length in self.buckets(size)
        )

    def _record_bytes(self, length: int, wide: np.dtype) -> int:
        packed = _packing.packed_size(length, self.bits)
        return packed + self._meta * wide.itemsize

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
        codec = self._codec(levels)
        key = _random.typed(_random.canonical_key(key))
        flat = x.reshape(-1).astype(wire_dtype(x.dtype))
        records, start = [], 0
        for rows, length in self.buckets(flat.size):
            end = start + rows * length
            bucket = flat[start:end].reshape(rows, length)
            if self.source == "counter":
                r16 = _random.counter_bits(key, (rows, length), offset=start)
            else:
                r16 = _random.threefry_bits(key, (rows, length), offset=start)
            codes, scales = codec.encode(bucket, r16)
            packed = _packing.pack(codes, self.bits)
            as_bytes = lax.bitcast_convert_type(scales, jnp.uint8).reshape(rows, -1)
            record = jnp.concatenate([packed, as_bytes], axis=1)
            records.append(record.reshape(-1))
            start = end
        data = _trees.concatenate(records, "uint8")
        return Payload(data, x.shape, np.dtype(x.dtype), self, levels is not None)

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
        is_known = payload.quantizer is not None
        if is_known and payload.other_levels != (levels is not None):
            there = "with levels" if payload.other_levels else "without levels"
            raise _checks.refuse(
                "levels",
                "must be given to decode exactly where they were given to encode",
                _checks.Text(f"a payload encoded {there}"),
                "give both the same levels",
            )
        codec = self._codec(levels)
        values = [
            codec.decode(codes, scales).reshape(-1)
            for codes, scales in self.records(payload)
        ]
        flat = _trees.concatenate(values, wire_dtype(payload.dtype))
        return flat.reshape(payload.shape).astype(payload.dtype)

    def records(self, payload: Payload) -> list[tuple[Array, Array]]:
        """Opens a payload: unsigned codes (rows, length) and scales (rows, m).

        Returns:
            A list with the full buckets and, where there is one, the short last one.

        Raises:
            ValueError: if the payload is another quantizer's, or its bytes are not as
                many as this one makes.
        """
        size, wide = math.prod(payload.shape), wire_dtype(payload.dtype)
        way_out = "decode it with the quantizer that encoded it"
        if payload.quantizer not in (None, self):
            rule = f"must be encoded by {self}"
            raise _checks.refuse("payload", rule, payload.quantizer, way_out)
        found = jax.ShapeDtypeStruct(payload.data.shape, payload.data.dtype)
        n_bytes = self.n_bytes(size, payload.dtype)
        if found != jax.ShapeDtypeStruct((n_bytes,), np.uint8):
            rule = f"must be {n_bytes} bytes for {self} and the shape {payload.shape}"
            raise _checks.refuse("payload", rule, found, way_out)
        opened, start = [], 0
        for rows, length in self.buckets(size):
            n_bytes = self._record_bytes(length, wide)
            end = start + rows * n_bytes
            record = payload.data[start:end].reshape(rows, n_bytes)
            packed = n_bytes - self._meta * wide.itemsize
            codes = _packing.unpack(record[:, :packed], length, self.bits)
            words = record[:, packed:].reshape(rows, self._meta, wide.itemsize)
            opened.append((codes, lax.bitcast_convert_type(words, wide)))
            start = end
        return opened

    @property
    def initial_levels(self) -> Array | None:
        """What a state holds for the family "levels", and None for the others."""
        if self.family != "levels":
            return None
        return jnp.asarray(self.levels, jnp.float32)

    @property
    def _meta(self) -> int:
        return 2 if self.family == "min_max" else 1

    def _codec(self, levels: Array | None) -> _rounding.Codec:
        if levels is not None:
            if self.family != "levels":
                raise _checks.refuse(
                    "levels",
                    "must be left out where the family fixes them",
                    f"levels for {self.family!r}",
                    "make the quantizer by qgenx_jax.user_levels",
                )
            table = _levels.given(levels, len(self.levels))
            return _rounding.Levels(self.bits, self.norm, table)
        if self.family == "min_max":
            return _rounding.MinMax(self.bits)
        if self.family == "uniform":
            if self.bits == 1:
                return _rounding.Sign(self.norm)
            return _rounding.Uniform(self.bits, self.norm)
        table = jnp.asarray(self.levels, jnp.float32)
        return _rounding.Levels(self.bits, self.norm, table)


def wire_dtype(dtype: np.dtype | str) -> np.dtype:
    """The dtype of arithmetic and of scales: float64 for float64, else float32.

    Raises:
        ValueError: if it is not a real floating-point dtype.
    """
    _checks.floating_leaves("dtype", jax.ShapeDtypeStruct((), dtype))
    return np.dtype("float64" if np.dtype(dtype) == np.float64 else "float32")
