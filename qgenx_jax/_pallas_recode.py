"""Records of K workers to the record of their mean, in one kernel for GPUs.

Between the two phases of an exchange a worker decodes K records of each bucket,
averages them, and encodes the mean. Here one program of the grid does this for one
bucket, in registers: bytes come in and bytes go out, and no vector of floats is stored.
The arithmetic and its order are those of `_records.Format.mean`, then of `encode`, so
that the bytes are the same.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _packing, _pallas, _records, _rounding, _scales, _trees
from qgenx_jax._types import Array


class Recoder(NamedTuple):
    """One compiled pass over the full buckets of K payloads.

    Attributes:
        codec: of the payloads.
        bits: theirs per coordinate, 1, 2, 4 or 8.
        meta: numbers that a bucket's coordinates share, float32.
        workers: K.
        encoder: of the mean, with rows and length of the buckets.
    """

    codec: _rounding.Codec
    bits: int
    meta: int
    workers: int
    encoder: _pallas.Kernel

    def __call__(
        self, payloads: Array, key: Array, start: int = 0, interpret: bool = False
    ) -> Array:
        """Records of the mean of the buckets that payloads begin with.

        Args:
            payloads: uint8 of shape (K, bytes).
            key: a typed PRNG key, of the encoder.
            start: byte of each row at which the payload begins; others may follow it.
            interpret: whether to run it as plain JAX, on any platform.

        Returns:
            uint8 of shape (rows, bytes of a record of the encoder).
        """
        from jax.experimental import pallas as pl  # may not be installed

        # of equal length: parts of what the payloads were packed from, and of what the
        # encoder packs
        runs, size = _packing.runs_of(self.bits), self.encoder.length
        count = max(runs, _packing.pieces_of(self.encoder.bits))
        piece = size // count
        packed = _packing.packed_size(size, self.bits)
        record = packed + 4 * self.meta

        def program(words: Any, payload: Any, out: Any) -> None:
            first = start + pl.program_id(0) * record

            def term(k: Any) -> tuple[list[Array], Array]:
                planes = [
                    payload[k, first + _pallas.row_of(at, piece)].astype(jnp.int32)
                    for at in range(0, packed, piece)
                ]
                places = range(packed, record, 4)
                meta = [_float(payload, k, first + place) for place in places]
                codes = pieces_of(planes, self.bits)
                return [self.codec.decode(code, meta) for code in codes], meta[-1]

            total, scales = _trees.add_up(self.workers, term)
            share = _scales.share(self.workers, scales)
            self.encoder.write([x * share for x in total], words, out)

        block = pl.BlockSpec(payloads.shape, lambda row: (0, 0))
        return self.encoder.launch(program, payloads, block, key, interpret, "recode")


def recoder_for(
    codec: _rounding.Codec,
    form: _records.Format,
    encoder: _rounding.Codec,
    encoder_form: _records.Format,
    shape: tuple[int, ...],
) -> Recoder | None:
    """The kernel for the full buckets of payloads, or None where there is none.

    Args:
        codec: of the payloads.
        form: of the payloads.
        encoder: the codec of the mean.
        encoder_form: of the mean.
        shape: of the payloads, (K, bytes), whatever else is in them.
    """
    kernel = _pallas.kernel_for(encoder, *encoder_form)
    simple = isinstance(codec, (_rounding.Uniform, _rounding.Sign, _rounding.MinMax))
    fits = form.wide == np.float32 and form.bits in (1, 2, 4, 8)
    fits &= shape[0] * shape[1] < 2**31  # places are int32
    if kernel is None or not simple or not fits:
        return None
    if form.buckets[0] != (kernel.rows, kernel.length):
        return None
    return Recoder(codec, form.bits, form.meta, shape[0], kernel)


def pieces_of(planes: Sequence[Array], bits: int) -> list[Array]:
    """The pieces, int32, that `_packing.planes_of` makes these planes of."""
    if bits == 8:
        return list(planes)
    shifts = range(0, 8, bits)
    return [(plane >> shift) & (2**bits - 1) for shift in shifts for plane in planes]


def _float(payload: Any, k: Any, place: Any) -> Array:
    """The float32 of four bytes, lowest first, at any place."""
    word = jnp.zeros((), jnp.int32)
    for i in range(4):
        word |= payload[k, place + i].astype(jnp.int32) << (8 * i)
    return lax.bitcast_convert_type(word, jnp.float32)
