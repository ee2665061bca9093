"""What a codec may send for each coordinate of given vectors, and how often."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec import records
from qgenx_jax._codec.bend import Curve
from qgenx_jax._codec.coder import Quantized
from qgenx_jax._codec.quantizer import Quantizer, coder_of
from qgenx_jax._codec.rounding import Dithering
from qgenx_jax._types import Array
from qgenx_jax.bounds import tables

DRAWS = 2**16
"""Values that the bits may take that round a coordinate."""


def prepared(
    vector: Any, quantizer: Quantizer, levels: Array | None
) -> tuple[Any, Quantized, list[Array]]:
    """Where to compute, the coder, and the buckets as it sees them."""
    _checks.instance_of("quantizer", quantizer, Quantizer, "make one by uniform(4)")
    _checks.floating_leaves("vector", vector)
    if not hasattr(vector, "dtype"):
        found, way_out = _checks.Text(type(vector).__name__), "pass a leaf of the tree"
        raise _checks.refuse("vector", "must be one array", found, way_out)
    x = jnp.asarray(vector)
    # inside jit what is made of a NumPy array is traced
    xp = tables.namespace(vector, levels) if tables.is_known(x) else jnp
    coder = coder_of(quantizer, x.dtype, levels)
    return xp, coder, list(records.cut(coder.form, x.size, x.reshape(-1)))


def sent(
    vectors: Any, quantizer: Quantizer, levels: Array | None
) -> tuple[list["Sent | OnCurve"], Any]:
    """What may be sent for each of (K, d) vectors, K >= 1, and where to compute.

    Returns:
        Of the full buckets, and of the short ones: values (K, rows, length).
    """
    known = [prepared(vector, quantizer, levels) for vector in vectors]
    xp, found = known[0][0], []
    for _, coder, buckets in known:
        found.append([sent_for(coder, bucket, xp) for bucket in buckets])
    return [_stacked(of, xp) for of in zip(*found, strict=True)], xp


def _stacked(of: Sequence["Sent | OnCurve"], xp: Any) -> "Sent | OnCurve":
    """What was found of several vectors, along a new first axis."""
    if isinstance(of[0], OnCurve):
        _, *arrays = zip(*of, strict=True)
        return OnCurve(of[0].curve, *map(xp.stack, arrays))
    return Sent(*map(xp.stack, zip(*of, strict=True)))


class Sent(NamedTuple):
    """What a codec may send for coordinates (rows, length).

    Attributes:
        values: of the coordinates.
        lower_code, upper_code: codes for the least and the largest bits.
        lower, upper: their values.
        up: how often the upper one is sent.
    """

    values: Any
    lower_code: Any
    upper_code: Any
    lower: Any
    upper: Any
    up: Any

    def squares(self, xp: Any) -> Any:
        """E (Q(v)_i - v_i)^2 of each coordinate."""
        del xp
        above, below = self.upper - self.values, self.values - self.lower
        return self.up * above * above + (1 - self.up) * below * below

    def variance(self, xp: Any) -> Any:
        """Of each row."""
        return xp.sum(self.squares(xp), axis=-1)


class OnCurve(NamedTuple):
    """What a codec that dithers may send for coordinates (rows, length).

    Attributes:
        curve: with numbers to compute with.
        values: of the coordinates.
        lower_code, upper_code: codes for the least and the largest bits.
        up: how often the upper one is sent.
        place: 2^16 (s + h), whole numbers.
        scale: what l(t) is multiplied by, (rows, 1).
    """

    curve: Curve
    values: Any
    lower_code: Any
    upper_code: Any
    up: Any
    place: Any
    scale: Any

    def squares(self, xp: Any) -> Any:
        """E (Q(v)_i - v_i)^2 of each coordinate."""
        s = self.s(xp)
        bias = self.curve.mean(s) * self.scale - self.values
        return self.curve.variance(s) * self.scale**2 + bias**2

    def s(self, xp: Any) -> Any:
        """Places, in steps from the middle."""
        return tables.wide(self.place, xp) * 2.0**-16 - self.curve.half

    def variance(self, xp: Any) -> Any:
        """Of each row."""
        return xp.sum(self.squares(xp), axis=-1)


def curve_of(coder: Quantized, xp: Any) -> Curve:
    """That of a coder that dithers, with numbers to compute with."""
    curve = cast(Dithering, coder.rounding).curve(np.dtype("float32"))
    return curve._replace(bend=tables.wide(curve.bend, xp))


@jax.jit
def _places(coder: Quantized, bucket: Array) -> tuple[Array, Array]:
    """Places of a coder that dithers, and scales (rows, 1)."""
    rounding = cast(Dithering, coder.rounding)
    (lift, inverse), scale = rounding.measure(bucket)
    return rounding.curve(bucket.dtype).place(bucket * lift * inverse), scale


def sent_for(coder: Quantized, bucket: Array, xp: Any) -> "Sent | OnCurve":
    """What a coder may send for buckets (rows, length)."""
    v = tables.wide(bucket, xp)
    if coder.dithers:
        place, scale = (xp.asarray(x) for x in _places(coder, bucket))
        top = coder.rounding.n_codes - 1
        lower, upper = (xp.clip(x >> 16, 0, top) for x in (place, place + DRAWS - 1))
        up = tables.wide(place & (DRAWS - 1), xp) / DRAWS
        curve = curve_of(coder, xp)
        return OnCurve(curve, v, lower, upper, up, place, tables.wide(scale, xp))
    codes, levels, up = _around(coder, bucket)
    lower, upper, up = (tables.wide(x, xp) for x in (*levels, up))
    lower_code, upper_code = (xp.asarray(code) for code in codes)
    return Sent(v, lower_code, upper_code, lower, upper, up)


@jax.jit
def _around(
    coder: Quantized, bucket: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array], Array]:
    """Each coordinate's two codes, their values, and how often it is the second.

    The codes are those for the least and the largest bits; what lies between is found
    by bisection, since a rounding does not decrease with its bits.
    """
    grid, meta = coder.rounding.measure(bucket)
    columns = [meta[:, i : i + 1] for i in range(meta.shape[1])]

    def codes(r16: Array) -> Array:
        return coder.rounding.round(bucket, grid, r16).astype(jnp.int32)

    least = jnp.zeros(bucket.shape, jnp.int32)
    lower, upper = codes(least), codes(least + (DRAWS - 1))

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        below, reached = bracket
        middle = (below + reached) // 2
        is_upper = codes(middle) == upper
        below = jnp.where(is_upper, below, middle)
        return below, jnp.where(is_upper, middle, reached)

    _, first = jax.lax.fori_loop(0, 16, halve, (least, least + DRAWS))
    up = (DRAWS - first).astype(bucket.dtype) / DRAWS
    values = (
        coder.rounding.values(lower, columns),
        coder.rounding.values(upper, columns),
    )
    return (lower, upper), values, up
