"""The quantizer: a static description, and arrays to payloads and back.

For a bucket v with norm n = ||v||_q, coordinate i becomes, independently,

    Q(v)_i = n sign(v_i) (l_{tau+1} with probability xi, else l_tau),    E Q(v) = v,

l_tau <= |v_i| / n <= l_{tau+1} being neighbouring levels and xi the place between them.
A quantizer that dithers has a curve in place of levels, see `bend`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks, _random
from qgenx_jax._codec import bend, fusion, levels, records, rotation
from qgenx_jax._codec.bend import Bend
from qgenx_jax._codec.coder import Quantized
from qgenx_jax._codec.levels import Shape
from qgenx_jax._codec.payload import Payload
from qgenx_jax._codec.rounding import FAMILIES
from qgenx_jax._codec.schedule import Refresh
from qgenx_jax._types import Array


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """A static, hashable description of a quantizer.

    Made by `uniform`, `exponential`, `min_max`, `user_levels`, `adaptive`, `dithered`
    and `best`, which document it; `rotated` documents `rotate`.

    Attributes:
        family: "uniform", "exponential", "min_max", "levels", "levels_without_zero",
            "signed_levels", "range_levels" or "dithered".
        bits: per coordinate, sign included.
        norm: q of the bucket norm ||v||_q: 1, 2 or infinity; infinity for "min_max",
            "range" for "range_levels".
        bucket_size: coordinates that share a norm; None for one bucket.
        levels: of the families with a table; the bend of "dithered"; () otherwise.
        refresh: when an exchange fits levels anew, and how; None for never.
        scale_bits: of what a bucket's coordinates share on the wire, 32 or 16; with
            float64 vectors 32 stands for 64, and 16 is refused.
        rotate: whether buckets are turned before they are rounded.

    Raises:
        ValueError: for values outside these ranges.
    """

    family: str
    bits: int
    norm: float | str
    bucket_size: int | None
    levels: tuple[float, ...] = ()
    refresh: Refresh | None = None
    scale_bits: int = 32
    rotate: bool = False

    def __post_init__(self) -> None:
        family = FAMILIES[_checks.one_of("family", self.family, sorted(FAMILIES))]
        # as Python numbers: NumPy's overflow in the arithmetic of sizes
        bits = _checks.whole_number("bits", self.bits, family.least_bits, 8)
        norm = _checks.one_of("norm", self.norm, family.norms)
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "norm", norm)
        scale = _checks.one_of("scale_bits", self.scale_bits, family.scale_bits)
        object.__setattr__(self, "scale_bits", scale)
        if self.bucket_size is not None:
            size = _checks.whole_number("bucket_size", self.bucket_size, 1, None)
            object.__setattr__(self, "bucket_size", size)
        _checks.instance_of("rotate", self.rotate, bool, "pass a bool")
        if self.rotate and not rotation.is_turnable(self.bucket_size):
            rule = f"must be a power of two from 2 to {rotation.LARGEST} to be rotated"
            way_out = "give bucket_size=256, for instance, or leave the rotation out"
            raise _checks.refuse("bucket_size", rule, self.bucket_size, way_out)
        least, most = family.n_levels(bits)
        is_tuple = isinstance(self.levels, tuple)
        if not is_tuple or not least <= len(self.levels) <= most:
            raise _checks.refuse(
                "levels",
                f"must be a tuple of {least} to {most} with {self.family}, {bits} bits",
                self.levels,
                "make the quantizer by uniform, exponential, min_max or user_levels",
            )
        if isinstance(family.takes_levels, Bend):
            checked = bend.check(*self.levels, argument="levels")
            object.__setattr__(self, "levels", (checked,))
        elif family.takes_levels is not None:
            levels.check_levels(self.levels, family.takes_levels)
        fits = isinstance(self.refresh, Refresh) and family.takes_levels is not None
        if self.refresh is not None and not fits:
            rule = f"must be left out with {self.family}, or be a Refresh with levels"
            way_out = "make the quantizer by adaptive"
            raise _checks.refuse("refresh", rule, self.refresh, way_out)

    def n_bytes(self, size: int, dtype: np.dtype | str = "float32") -> int:
        """Bytes on the wire for a vector of `size` coordinates of a dtype."""
        size = _checks.whole_number("size", size, 0, None)
        return coder_of(self, dtype).n_bytes(size)

    def encode(
        self, key: _random.KeyOrSeed, x: Array, levels: Array | None = None
    ) -> Payload:
        """Rounds an array at random, without bias, and packs it.

        Args:
            key: PRNG key or seed; equal keys give equal bytes.
            x: floating-point array of any shape. Arithmetic is float32, float64 for a
                float64 array.
            levels: of `dithered` another bend, (1,); for `user_levels` and `adaptive`
                others than the quantizer's own:
                not decreasing, in [0, 1], signed ones from -1, the last one 1, of the
                same number; may be traced, and are truncated to 12 significant bits.
                Traced ones that are not such make the payload decode to NaN.

        Returns:
            The payload. The mean of what `decode` gives over all keys is x, to 2^-17 of
            the distance of the two levels around each coordinate (16 random bits decide
            a rounding), before it is rounded to the nearest of x's dtype; `min_max`
            and levels over the range add the rounding of v - min and max - min in
            floating point.

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
        key = _random.typed(_random.canonical_key(key))
        data = coder_of(self, x.dtype, levels).encode(key, x.reshape(-1), x.size)
        return Payload(data, x.shape, np.dtype(x.dtype), self, levels is not None)

    def decode(
        self,
        payload: Payload,
        levels: Array | None = None,
        *,
        key: _random.KeyOrSeed | None = None,
    ) -> Array:
        """The array that a payload stands for.

        Args:
            payload: from `encode` of an equal quantizer.
            levels: those given to `encode`.
            key: that given to `encode`. Those of `dithered` need it, whose random bits
                are taken off again (by another one the array is wrong); others do not.

        Returns:
            Array of the payload's shape and dtype. A bucket that held a NaN or an
            infinity is all NaN; a bucket of zeros is all zeros.

        Raises:
            ValueError: if the payload is not one of this quantizer, or levels are
                given here and were not there, or the other way around; without the key
                of a dithered one.
        """
        _checks.instance_of("payload", payload, Payload, "pass what encode returned")
        payload.check_levels(levels)
        coder = coder_of(self, payload.dtype, levels)
        size = math.prod(payload.shape)
        payload.check(coder.n_bytes(size), self)
        if coder.dithers and key is None:
            rule = "must be given to decode what was dithered"
            raise _checks.refuse("key", rule, key, "pass the key that encode had")
        stream = None
        if key is not None:
            stream = _random.typed(_random.canonical_key(key))
        means = coder.mean(payload.data[None], size, 0, stream)
        flat = fusion.joined(means, coder.form.wide)
        return flat.reshape(payload.shape).astype(payload.dtype)

    def records(self, payload: Payload) -> list[tuple[Array, Array]]:
        """Opens a payload: unsigned codes (rows, length) and scales (rows, m).

        Returns:
            A list with the full buckets and, where there is one, the short last one.

        Raises:
            ValueError: if the payload is another quantizer's, or its bytes are not as
                many as this one makes.
        """
        _checks.instance_of("payload", payload, Payload, "pass what encode returned")
        coder, size = coder_of(self, payload.dtype), math.prod(payload.shape)
        payload.check(coder.n_bytes(size), self)
        found = []
        for opened in records.open_records(coder.form, payload.data[None], size, 0):
            codes, meta = opened.codes(0), [scale[:, 0] for scale in opened.meta(0)]
            codes = codes.reshape(codes.shape[0], -1)[:, : opened.length]
            found.append((codes.astype(jnp.uint8), jnp.concatenate(meta, axis=1)))
        return found


def coder_of(
    quantizer: Quantizer, dtype: np.dtype | str, given: Array | None = None
) -> Quantized:
    """How vectors of a dtype become bytes by a quantizer.

    Args:
        quantizer: the description.
        dtype: of the vectors. Arithmetic and scales are float64 for float64, else
            float32.
        given: levels in place of the quantizer's own.

    Raises:
        ValueError: if the dtype is no real floating-point one, or levels are given
            where the family fixes them, or are not such, as far as they are known;
            for float64 where scales have 16 bits.
    """
    _checks.floating_leaves("dtype", jax.ShapeDtypeStruct((), dtype))
    wide = np.dtype("float64" if np.dtype(dtype) == np.float64 else "float32")
    family, table = FAMILIES[quantizer.family], None
    shape = family.takes_levels
    if given is not None and shape is None:
        raise _checks.refuse(
            "levels",
            "must be left out where the family fixes them",
            f"levels for {quantizer.family!r}",
            "make the quantizer by qgenx_jax.user_levels",
        )
    if given is not None and isinstance(shape, Bend):
        table = bend.given(given)
    elif given is not None:
        assert isinstance(shape, Shape)
        table = levels.given(given, len(quantizer.levels), shape)
    elif quantizer.levels:
        table = jnp.asarray(quantizer.levels, jnp.float32)
    bits, size, scale = quantizer.bits, quantizer.bucket_size, quantizer.scale_bits
    if scale == 16 and wide != np.float32:
        raise _checks.refuse(
            "dtype",
            "must not be float64 for a quantizer with scale_bits=16, whose range is "
            "that of float32",
            np.dtype(dtype).name,
            "leave scale_bits out, or pass float32",
        )
    rounding = family.rounding(bits, quantizer.norm, scale, table)
    turned = quantizer.rotate
    form = records.Format(bits, rounding.n_meta, wide, size, scale == 16, turned)
    return Quantized(rounding, form)


def initial_levels(quantizer: Quantizer) -> Array | None:
    """What a state holds for a family that takes levels, and None for the others."""
    if FAMILIES[quantizer.family].takes_levels is None:
        return None
    return jnp.asarray(quantizer.levels, jnp.float32)
