"""A flat vector to records and back: whole passes over buckets.

    encode: measure each bucket -> draw bits and round, piece by piece -> pack
    decode: unpack -> values -> add up over workers -> mean

One record per bucket: its packed codes, then what its coordinates share.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _checks, _fusion, _packing, _random, _rounding, _scales, _trees
from qgenx_jax._types import Array


class Format(NamedTuple):
    """How a vector is laid out in records.

    Attributes:
        bits: per coordinate.
        source: of the random bits.
        meta: numbers that a bucket's coordinates share.
        wide: dtype of these numbers and of all arithmetic.
        buckets: (rows, length) of the full buckets and of the short one.
    """

    bits: int
    source: str
    meta: int
    wide: np.dtype
    buckets: tuple[tuple[int, int], ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of all records."""
        return sum(rows * self._record(length) for rows, length in self.buckets)

    def _record(self, length: int) -> int:
        packed = _packing.packed_size(length, self.bits)
        return packed + self.meta * self.wide.itemsize

    def cut(self, flat: Array) -> list[Array]:
        """The full and the short buckets that a vector begins with: (rows, length)."""
        found, start = [], 0
        for rows, length in self.buckets:
            end = start + rows * length
            found.append(flat[start:end].reshape(rows, length).astype(self.wide))
            start = end
        return found

    def encode(
        self,
        codec: _rounding.Codec,
        buckets: Sequence[Array],
        key: Array,
        full: Array | None = None,
    ) -> list[Array]:
        """Records of the full and the short buckets.

        Args:
            codec: of the quantizer.
            buckets: as `cut` has them.
            key: of the random bits.
            full: the full buckets' records, where they have been made already.

        Returns:
            Arrays uint8 of shape (rows, bytes), or `full`.
        """
        records: list[Array] = []
        words = 0
        for (rows, length), bucket in zip(self.buckets, buckets, strict=True):
            half = _packing.pieces_of(self.bits) // 2 * self._piece(length)
            if full is not None and not records:
                records.append(full)
            else:
                bits = _random.bits_for(key, self.source, rows, half, words)
                records.append(self._records(codec, bucket, bits))
            words += rows * half
        if words > 2**32:
            raise _checks.refuse(
                "x",
                "must need at most 2^32 words of random bits, or they would repeat",
                f"{words} words",
                "take larger buckets, or encode it in pieces with keys of their own",
            )
        return records

    def _records(
        self, codec: _rounding.Codec, bucket: Array, bits: _random.Bits
    ) -> Array:
        """Of buckets of one length."""
        rows, length = bucket.shape
        grid, meta = codec.measure(bucket)
        codes = self._round(codec, bucket, grid, bits)
        packed = _packing.pack(codes, self.bits)
        packed = packed[:, : _packing.packed_size(length, self.bits)]
        as_bytes = lax.bitcast_convert_type(meta, jnp.uint8).reshape(rows, -1)
        return jnp.concatenate([packed, as_bytes], axis=1)

    def _piece(self, length: int) -> int:
        """Coordinates of one of the pieces that a bucket is packed from."""
        return -(-length // _packing.pieces_of(self.bits))

    def _round(
        self, codec: _rounding.Codec, bucket: Array, grid: Any, bits: _random.Bits
    ) -> list[Array]:
        """Codes of buckets, in pieces for `pack`: the last ones end in zeros."""
        size, length = bucket.shape[1], self._piece(bucket.shape[1])

        def piece(bucket: Array, start: int) -> Array:
            end = max(start, min(start + length, size))
            r16 = bits.piece(start, end - start)
            codes = codec.round(bucket[:, start:end], grid, r16)
            missing = start + length - end
            return jnp.pad(codes, ((0, 0), (0, missing))) if missing else codes

        starts = [index * length for index in range(_packing.pieces_of(self.bits))]
        if _packing.is_one_part(self.bits):
            return [piece(bucket, start) for start in starts]
        # parts of a code go to several bytes, each in a loop of its own: round once

        def whole(bucket: Array) -> Array:
            return jnp.concatenate([piece(bucket, start) for start in starts], axis=1)

        codes = _fusion.apart(whole, bucket)
        return [codes[:, start : start + length] for start in starts]

    def mean(self, codec: _rounding.Codec, payloads: Array, start: int) -> list[Array]:
        """The mean of what rows (K, bytes) stand for, from byte `start` of each on.

        Returns:
            Values of the full and of the short buckets: (rows, ...), whose further axes
            make up a bucket in order.
        """
        count, means = payloads.shape[0], []
        for bucket in self.open(payloads, start):

            def term(k: Any, bucket: Buckets = bucket) -> tuple[Array, Array]:
                meta = bucket.meta(k)
                return codec.decode(bucket.codes(k), meta), meta[-1]

            mean, scales = _trees.add_up(count, term)
            if count > 1:
                mean *= _scales.share(count, scales)
            if bucket.length != mean[0].size:
                mean = mean.reshape(mean.shape[0], -1)[:, : bucket.length]
            means.append(mean)
        return means

    def open(self, payloads: Array, start: int) -> Iterator["Buckets"]:
        """The full and the short buckets of rows (K, bytes), from byte `start` on."""
        for rows, length in self.buckets:
            end = start + rows * self._record(length)
            records = payloads[:, start:end].reshape(payloads.shape[0], rows, -1)
            yield Buckets(records, length, self)
            start = end


class Buckets(NamedTuple):
    """Buckets of one length, as they arrived from K workers.

    Attributes:
        records: uint8 of shape (K, rows, bytes).
        length: coordinates of a bucket.
        form: of the records.
    """

    records: Array
    length: int
    form: Format

    @property
    def _packed(self) -> int:
        return _packing.packed_size(self.length, self.form.bits)

    def codes(self, k: Any) -> Array:
        """Of worker k, int32 of shape (rows, runs, m): see `_packing.unpack`."""
        return _packing.unpack(self.records[k][:, : self._packed], self.form.bits)

    def meta(self, k: Any) -> list[Array]:
        """Of worker k, arrays that broadcast against its codes."""
        words = _trees.words(self.records[k][:, self._packed :], self.form.wide)
        return [words[:, i, None, None] for i in range(self.form.meta)]
