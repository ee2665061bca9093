"""What happens to a vector at once: to records, to a mean, and to records again.

    encode: a vector -> records                      a worker's own, before it is sent
    average: K rows of records -> their mean         what arrived
    recode: K rows of records -> their mean -> records      between two phases

Each is one program of its own where fusion has to stop (`_fusion`), whose loops go over
rows of buckets. Nothing as long as the vector is stored in between, but for what
`recode` says.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from qgenx_jax import (
    _fusion,
    _packing,
    _pallas,
    _pallas_recode,
    _records,
    _rounding,
    _trees,
)
from qgenx_jax._types import Array


class Quantization(NamedTuple):
    """How vectors of one size are quantized.

    Attributes:
        codec: of the quantizer.
        form: of the records.
        kernel: what encodes on GPUs, "xla" or "pallas".
    """

    codec: _rounding.Codec
    form: _records.Format
    kernel: str


TWICE = 4
"""Rows that are decoded twice rather than their mean stored."""


def fill(codec: _rounding.Codec, vector: Array, real: int | Array) -> Array:
    """The vector with what follows its first `real` coordinates kept out of norms.

    Padding is 0, or, where a bucket's minimum counts too, the last coordinate.
    """
    if vector.size == 0:
        return vector
    padding = jnp.zeros((), vector.dtype)
    if isinstance(codec, _rounding.MinMax):
        padding = vector[jnp.maximum(real - 1, 0)]
    return jnp.where(jnp.arange(vector.size) < real, vector, padding)


def encode(by: Quantization, flat: Array, key: Array) -> Array:
    """The records of the coordinates that a vector begins with: uint8 (n_bytes,)."""

    def reference(flat: Array, key: Array, full: Array | None = None) -> list[Array]:
        return by.form.encode(by.codec, by.form.cut(flat), key, full)

    def by_xla(*args: Any) -> list[Array]:
        return _fusion.apart(reference, *args)

    if by.kernel == "xla":
        return _joined(by_xla(flat, key))
    kernel = _pallas.kernel_for(by.codec, *by.form)
    return _joined(_pallas.where_compiled(kernel, reference, by_xla, flat, key))


def average(by: Quantization, payloads: Array, start: int, cut: bool) -> Array:
    """The mean of what rows (K, bytes) stand for, from byte `start` of each on.

    `cut` says whether it is cut into leaves: then full and short buckets are not really
    put together first.
    """

    def decode(payloads: Array) -> list[Array]:
        return by.form.mean(by.codec, payloads, start)

    means = [mean.reshape(-1) for mean in _fusion.apart(decode, payloads)]
    join = _trees.concatenate if cut else _fusion.joined
    return join(means, by.form.wide)


def recode(
    by: Quantization,
    then: Quantization,
    payloads: Array,
    start: int,
    key: Array,
    real: Array | None = None,
) -> Array:
    """The records of the mean of what K rows of records stand for.

    The bytes are those of `average`, `fill` and `encode`. The mean of up to 4 rows is
    computed twice, for each bucket's maximum and for its codes, and never stored. On
    CPUs it is where that takes less time: for more rows, with levels that are looked
    up, and with second codes of 3, 5, 6 or 7 bits, which are packed from stored codes.

    Args:
        by: of the rows.
        then: of the result.
        payloads: uint8 of shape (K, bytes).
        start: byte at which the rows' records begin.
        key: of the rounding.
        real: how many coordinates are not padding, which `fill` is to treat first.
    """

    def decode(payloads: Array) -> list[Array]:
        return by.form.mean(by.codec, payloads, start)

    def buckets(means: Sequence[Array]) -> list[Array]:
        if real is None and by.form.buckets == then.form.buckets:
            pairs = zip(means, then.form.buckets, strict=True)
            return [mean.reshape(shape) for mean, shape in pairs]
        flat = _trees.concatenate([mean.reshape(-1) for mean in means], by.form.wide)
        return then.form.cut(flat if real is None else fill(then.codec, flat, real))

    def again(
        means: Sequence[Array], key: Array, full: Array | None = None
    ) -> list[Array]:
        return then.form.encode(then.codec, means, key, full)

    def together(payloads: Array, key: Array, full: Array | None = None) -> list[Array]:
        return again(buckets(decode(payloads)), key, full)

    looked_up = isinstance(by.codec, _rounding.Levels)
    is_stored = looked_up or not _packing.is_one_part(then.form.bits)
    # the sum of more than UNROLLED rows is a loop, which stores it in any case
    is_stored |= TWICE < payloads.shape[0] <= _trees.UNROLLED

    def by_xla(payloads: Array, key: Array) -> list[Array]:
        if not is_stored:
            return _fusion.apart(together, payloads, key)
        return _fusion.apart(again, buckets(_fusion.apart(decode, payloads)), key)

    if then.kernel == "xla" or real is not None:
        return _joined(by_xla(payloads, key))
    kernel = _pallas_recode.recoder_for(
        by.codec, by.form, then.codec, then.form, payloads.shape
    )
    if kernel is not None:
        kernel = functools.partial(kernel, start=start)
    return _joined(_pallas.where_compiled(kernel, together, by_xla, payloads, key))


def _joined(records: Sequence[Array]) -> Array:
    return _trees.concatenate([record.reshape(-1) for record in records], "uint8")
