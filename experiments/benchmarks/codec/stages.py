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
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import qgenx_jax as qgenx
from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.codec.calls import Program, Programs
from qgenx_jax._codec import fusion, packing, records
from qgenx_jax._codec.bits import bits_for
from qgenx_jax._codec.quantizer import coder_of, initial_levels

ENCODER = ("measure", "+ rounding", "+ hash", "+ packing", "encode")
DECODER = ("unpack", "decode")
ALONE = "hash alone"


def rounded_pieces(form: Any, rounding: Any, grid: Any, bits: Any, bucket: Any) -> Any:
    """Codes of buckets, as `records.encode` has them made."""
    is_once = not packing.is_one_part(form.bits)
    step = records.round_once if is_once else records.round_pieces
    return step(form, rounding, grid, bits, bucket)


def measured(form: Any, rounding: Any, bucket: Any, bits: Any) -> Any:
    """Each bucket's measure instead of its record."""
    del form, bits
    return rounding.measure(bucket)


def rounded(form: Any, rounding: Any, bucket: Any, bits: Any) -> Any:
    """Measure, and codes by random bits."""
    grid, meta = rounding.measure(bucket)
    pieces = rounded_pieces(form, rounding, grid, bits, bucket)
    return side_by_side(pieces, form.bits), meta


class Alike(NamedTuple):
    """In place of `Bits`: one word for all coordinates, known only at run time."""

    key: jax.Array
    rows: int
    half: int
    offset: int
    order: None = None

    def piece(self, start: int, length: int) -> jax.Array:
        """See `Bits.piece`."""
        word = jnp.broadcast_to(self.key[0], (self.rows, length))
        half = word >> 16 if start < self.half else word & jnp.uint32(2**16 - 1)
        return half.astype(jnp.int32)


def rounded_alike(form: Any, rounding: Any, bucket: Any, bits: Any) -> Any:
    """Measure, and codes by one word in place of random ones."""
    return rounded(form, rounding, bucket, Alike(*bits))


class Folded:
    """In place of a rounding: to a byte that all 16 random bits go into."""

    def round(self, values: Any, grid: Any, r16: jax.Array) -> jax.Array:
        """The upper and the lower byte's exclusive or, whatever the values."""
        del values, grid
        return (r16 ^ (r16 >> 8)).astype(jnp.uint8)


def drawn(form: Any, rounding: Any, bucket: Any, bits: Any) -> Any:
    """Random bits alone, of no vector."""
    del rounding
    folded: Any = Folded()
    pieces = rounded_pieces(form, folded, None, bits, bucket)
    return side_by_side(pieces, form.bits)


def packed(form: Any, rounding: Any, bucket: Any, bits: Any) -> Any:
    """Measure, codes, and their planes, of which a record is put together."""
    grid, meta = rounding.measure(bucket)
    pieces = rounded_pieces(form, rounding, grid, bits, bucket)
    return packing.planes_of(pieces, form.bits), meta


STAGES: dict[str, Callable[..., Any]] = {
    "measure": measured,
    "+ rounding": rounded_alike,
    "+ hash": rounded,
    "+ packing": packed,
    ALONE: drawn,
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
    levels = initial_levels(quantizer)
    found = {
        "x+1": codec_calls.bounds(x)["x+1"],
        "row sums": Program(row_sums, (x,)),
        ALONE: stage(ALONE, quantizer, levels, key, x),
    }
    for name in ENCODER[:-1]:
        found[name] = stage(name, quantizer, levels, key, x)
    names = ("encode", "middle floor", "middle", "decode floor")
    found |= {name: whole[name] for name in names}
    _, data, _ = whole["decode"].arguments
    found["unpack"] = unpack(quantizer, data, x.size)
    names = ("decode", "average floor", "average")
    return found | {name: whole[name] for name in names}


def stage(
    name: str, quantizer: qgenx.Quantizer, levels: Any, key: Any, x: jax.Array
) -> Program:
    """One of `STAGES`, for each bucket, in place of `records.encode`."""

    @jax.jit
    def run(levels: Any, key: jax.Array, x: jax.Array) -> Any:
        coder = coder_of(quantizer, x.dtype, levels)

        def encode(rounding: Any, key: jax.Array, flat: jax.Array) -> Any:
            found, words = [], 0
            for bucket in records.cut(coder.form, x.size, flat):
                rows, length = bucket.shape
                bits = bits_for(key, rows, coder.form.words(length), words)
                words += rows * coder.form.words(length)
                found.append(STAGES[name](coder.form, rounding, bucket, bits))
            return found

        return fusion.apart(encode, coder.rounding, key, x)

    return Program(run, (levels, key, x))


def unpack(quantizer: qgenx.Quantizer, data: jax.Array, size: int) -> Program:
    """Codes of a payload, a byte each."""
    form = coder_of(quantizer, "float32").form

    def codes(payloads: jax.Array) -> list[jax.Array]:
        opened = records.open_records(form, payloads, size, 0)
        return [bucket.codes(0).astype(jnp.uint8) for bucket in opened]

    return Program(jax.jit(lambda data: fusion.apart(codes, data[None])), (data,))
