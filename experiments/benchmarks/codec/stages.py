"""The codec in stages, for the profile: each program does one thing more.

Stages are the codec's own: what cuts a vector into buckets, draws bits, measures,
rounds and packs are the library's functions, called as its encoder calls them and kept
apart from their surroundings as it is. A stage differs in where it stops. What it has
found then is returned, so that a compiler cannot leave it out:

    measure      what a bucket's coordinates share: maximum or extremes, norm, step
    + rounding   codes, rounded by one word in place of random ones
    + hash       codes, rounded by random bits
    + packing    codes packed to planes, not put together yet
    encode       records: the library's encoder

and beside these the hash alone, folded to a byte for each coordinate. Codes are stored
as a byte each. Where several share a byte on the wire they share a word here, since
planes are made in one loop, which draws a random word once for the two coordinates that
it rounds; stored one by one they would be in loops of their own, which draw again. (At
1 bit a word of 32 bits holds half of them, so that there are two loops for one.)
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import qgenx_jax as qgenx
from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.codec.calls import Program, Programs
from qgenx_jax import _fusion, _packing, _random, _records

ENCODER = ("measure", "+ rounding", "+ hash", "+ packing", "encode")
DECODER = ("unpack", "decode")
ALONE = "hash alone"


class Measured(_records.Format):
    """Each bucket's measure instead of its record."""

    def _records(self, codec: Any, bucket: Any, bits: Any) -> Any:
        return codec.measure(bucket)


class Rounded(_records.Format):
    """Measure, and codes by random bits."""

    def _records(self, codec: Any, bucket: Any, bits: Any) -> Any:
        grid, meta = codec.measure(bucket)
        return side_by_side(self._round(codec, bucket, grid, bits), self.bits), meta


class Alike(_random.Bits):
    """One word for all coordinates, known only at run time."""

    def piece(self, start: int, length: int) -> jax.Array:
        """See `_random.Bits`."""
        assert self.key is not None
        words = jnp.broadcast_to(self.key[0], (self.rows, self.half))
        drawn = _random.Bits(None, words, self.rows, self.half, self.offset)
        return drawn.piece(start, length)


class RoundedAlike(Rounded):
    """Measure, and codes by one word in place of random ones."""

    def _records(self, codec: Any, bucket: Any, bits: Any) -> Any:
        return super()._records(codec, bucket, Alike(*bits))


class Folded:
    """In place of a codec: rounds to a byte that all 16 random bits go into."""

    def round(self, values: Any, grid: Any, r16: jax.Array) -> jax.Array:
        """The upper and the lower byte's exclusive or, whatever the values."""
        del values, grid
        return (r16 ^ (r16 >> 8)).astype(jnp.uint8)


class Drawn(_records.Format):
    """Random bits alone, of no vector."""

    def _records(self, codec: Any, bucket: Any, bits: Any) -> Any:
        folded: Any = Folded()
        return side_by_side(self._round(folded, bucket, None, bits), self.bits)


class Packed(_records.Format):
    """Measure, codes, and their planes, of which a record is put together."""

    def _records(self, codec: Any, bucket: Any, bits: Any) -> Any:
        grid, meta = codec.measure(bucket)
        codes = self._round(codec, bucket, grid, bits)
        return _packing.planes_of(codes, self.bits), meta


STAGES: dict[str, type[_records.Format]] = {
    "measure": Measured,
    "+ rounding": RoundedAlike,
    "+ hash": Rounded,
    "+ packing": Packed,
    ALONE: Drawn,
}


def side_by_side(pieces: Sequence[jax.Array], bits: int) -> list[jax.Array]:
    """A row's codes in as many bytes, those of a plane in words, of 32 bits at most.

    Word i of array j has the i-th codes of the pieces j, j + n, j + 2 n and so on, n
    the number of arrays, the first one lowest. With 3, 5, 6 and 7 bits the codec stores
    codes before it packs, as they are: one array.
    """
    if bits not in (1, 2, 4, 8):
        return [jnp.concatenate(pieces, axis=1)]
    together = min(8 // bits, 4)
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[together]
    count, found = len(pieces) // together, []
    for first in range(count):
        shifted = [
            piece.astype(word) << (8 * place)
            for place, piece in enumerate(pieces[first::count])
        ]
        found.append(functools.reduce(jnp.bitwise_or, shifted))
    return found


def programs(quantizer: qgenx.Quantizer, x: jax.Array, count: int) -> Programs:
    """Floors, stages, and the codec's functions, in the order of the table.

    Args:
        quantizer: of the codec.
        x: float32 vector of whole buckets.
        count: K, payloads that are averaged.
    """
    length = min(quantizer.bucket_size or x.size, x.size)
    row_sums = jax.jit(lambda x: jnp.sum(x.reshape(-1, length), axis=1))
    whole = codec_calls.codec(quantizer, x, count)
    _, key, _ = whole["encode"].arguments
    levels = quantizer.initial_levels
    found = {
        "x+1": codec_calls.bounds(x)["x+1"],
        "row sums": Program(row_sums, (x,)),
        ALONE: stage(ALONE, quantizer, levels, key, x),
    }
    for name in ENCODER[:-1]:
        found[name] = stage(name, quantizer, levels, key, x)
    names = ("encode", "middle floor", "middle", "decode floor")
    found |= {name: whole[name] for name in names}
    (_, data) = whole["decode"].arguments
    found["unpack"] = unpack(quantizer, data, x.size)
    names = ("decode", "average floor", "average")
    return found | {name: whole[name] for name in names}


def stage(
    name: str, quantizer: qgenx.Quantizer, levels: Any, key: Any, x: jax.Array
) -> Program:
    """One of `STAGES`, in place of `Quantizer.records_of`."""
    form = STAGES[name](*quantizer._format(x.size, x.dtype))
    if name == "+ rounding":  # whose one word is of the key, and nothing is drawn
        form = form._replace(source="counter")

    @jax.jit
    def run(levels: Any, key: jax.Array, x: jax.Array) -> Any:
        def encode(flat: jax.Array, key: jax.Array, table: Any) -> Any:
            return form.encode(quantizer._codec(table), form.cut(flat), key)

        return _fusion.apart(encode, x, key, quantizer.table_of(levels))

    return Program(run, (levels, key, x))


def unpack(quantizer: qgenx.Quantizer, data: jax.Array, size: int) -> Program:
    """Codes of a payload, a byte each."""
    form = quantizer._format(size, jnp.dtype("float32"))

    def codes(payloads: jax.Array) -> list[jax.Array]:
        opened = form.open(payloads, 0)
        return [bucket.codes(0).astype(jnp.uint8) for bucket in opened]

    return Program(jax.jit(lambda data: _fusion.apart(codes, data[None])), (data,))
