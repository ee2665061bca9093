"""Codes to streams with a header and a checksum, and back.

A stream is, with numbers lowest byte first:

    b"QGE1", method (1 byte), code of zero (2, 65535 for none), dimensions (1),
    each dimension (8), symbols of the table (2) and their lengths (1 each; Huffman),
    bits of each chunk (2 each), the strings, CRC-32 of all before it (4)

Chunks are of 1024 codes. CRC-32 detects every error of one bit, and every burst of 32.
"""

import functools
import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from qgenx_jax import _checks
from qgenx_jax.entropy import bitstream
from qgenx_jax.entropy.bitstream import Reader
from qgenx_jax.entropy.prefix_codes import (
    PrefixCode,
    canonical,
    elias_gamma,
    elias_omega,
    huffman_lengths,
    with_signs,
)

MAGIC = b"QGE1"
METHODS = ("huffman", "elias_gamma", "elias_omega")
ELIAS = {"elias_gamma": elias_gamma, "elias_omega": elias_omega}
CHUNK, NONE = 1024, 0xFFFF


BLOCK = 128 * CHUNK
"""Codes that become strings at a time, to stay in a cache."""


class _Strings(NamedTuple):
    """Bit strings of some chunks in order, and the bits of each chunk."""

    words: np.ndarray
    lengths: np.ndarray
    bits: np.ndarray


def encode(codes: Any, by: str = "huffman", *, zero: int | None = None) -> bytes:
    """A stream that `decode` gives the codes back from, exactly.

    Args:
        codes: whole numbers from 0 to 255, an array of any shape, as
            `Quantizer.records` gives them.
        by: "huffman": a canonical Huffman code made from these codes' frequencies;
            "elias_gamma", "elias_omega": Elias codes, which need no frequencies.
        zero: the code of zero, 2^(bits - 1) - 1 for `uniform`. With it a code c is sent
            as |c - zero| and a bit for the sign, and by Elias codes as the run of zeros
            before it, |c - zero| and sign. None: codes as they are (plus 1, by Elias).

    Returns:
        Bytes: header, strings and checksum.

    Raises:
        ValueError: for arguments that are not such.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> codes = np.array([3, 3, 3, 2, 3, 3, 4, 3], np.uint8)
        >>> stream = qgenx.entropy.encode(codes, zero=3)
        >>> qgenx.entropy.decode(stream)
        array([3, 3, 3, 2, 3, 3, 4, 3], dtype=uint8)
        >>> qgenx.entropy.body_bits(codes, zero=3)  # 8 bits of indices, 2 of signs
        10

    References:
        Elias, Universal codeword sets and representations of the integers, IEEE
        Transactions on Information Theory, 1975; Alistarh et al., QSGD, NeurIPS 2017.
    """
    array, table, blocks = _strings(codes, by, zero)
    bits = [np.zeros(0, np.int64)]

    def strings() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for block in blocks:
            bits.append(block.bits)
            yield block.words, block.lengths

    body = bitstream.write(strings()).tobytes()
    header = MAGIC + METHODS.index(by).to_bytes(1, "little")
    header += (NONE if zero is None else int(zero)).to_bytes(2, "little")
    header += array.ndim.to_bytes(1, "little")
    header += np.array(array.shape, "<u8").tobytes()
    header += len(table).to_bytes(2, "little") + table.astype(np.uint8).tobytes()
    header += np.concatenate(bits).astype("<u2").tobytes()
    return header + body + zlib.crc32(body, zlib.crc32(header)).to_bytes(4, "little")


def body_bits(codes: Any, by: str = "huffman", *, zero: int | None = None) -> int:
    """Bits of the strings of `encode`, without header, chunks and checksum.

    Args:
        codes: as in `encode`.
        by: as in `encode`.
        zero: as in `encode`.

    Raises:
        ValueError: as in `encode`.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.entropy.body_bits([0, 0, 0, 1, 2])  # 1 bit each, and 2 for 1 and 2
        7
    """
    return sum(int(block.bits.sum()) for block in _strings(codes, by, zero)[2])


def _strings(
    codes: Any, by: str, zero: int | None
) -> tuple[np.ndarray, np.ndarray, Iterator[_Strings]]:
    """The codes as an array, the lengths of a Huffman code, and strings, by blocks."""
    by = _checks.one_of("by", by, METHODS)
    if zero is not None:
        zero = _checks.whole_number("zero", zero, 0, 255)
    array = np.asarray(codes)
    fits = array.dtype.kind in "iu" or not array.size
    if not fits or (array.size and not 0 <= array.min() <= array.max() <= 255):
        rule = "must be an array of whole numbers from 0 to 255"
        way_out = "take the codes that Quantizer.records gives"
        raise _checks.refuse("codes", rule, codes, way_out)
    flat = array.astype(np.uint8).reshape(-1)
    table = np.zeros(0, np.int64)
    if by not in ELIAS:
        counts = np.bincount(flat)
        if zero is not None:
            magnitudes = np.abs(np.arange(counts.size) - zero)
            counts = np.bincount(magnitudes, counts).astype(np.int64)
            counts = np.trim_zeros(counts, "b")
        table = huffman_lengths(counts) if flat.size else table
    code = _code(by, zero, table)
    parts = (flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK))
    if by in ELIAS and zero is not None:
        runs = ELIAS[by](CHUNK + 1)
        return array, table, (_runs(part, runs, code, zero) for part in parts)
    return array, table, (_each(part, code) for part in parts)


def _each(flat: np.ndarray, code: PrefixCode) -> _Strings:
    """A string for each code."""
    lengths = code.lengths[flat]
    bits = np.add.reduceat(lengths, np.arange(0, flat.size, CHUNK))
    return _Strings(code.words[flat], lengths, bits)


def _code(by: str, zero: int | None, table: np.ndarray) -> PrefixCode:
    """The code of codes, for at least those that occur."""
    if by in ELIAS:  # of c + 1; or of magnitudes from 1 on, where runs are
        code = ELIAS[by](256)
        if zero is None:
            return PrefixCode(code.words[1:], code.lengths[1:])
        return _with_signs(code, zero)
    code = canonical(table)
    return code if zero is None else _with_signs(code, zero)


def _with_signs(code: PrefixCode, zero: int) -> PrefixCode:
    """For all bytes; those whose magnitude the code does not have have no length."""
    symbols = min(zero + code.lengths.size, 256)
    padded = np.zeros(257, np.int64)
    padded[: code.lengths.size] = code.lengths
    words = np.zeros(257, np.uint64)
    words[: code.words.size] = code.words
    signed = with_signs(PrefixCode(words, padded), zero, symbols)
    magnitude = np.abs(np.arange(symbols) - zero)
    # where one magnitude is all there is it has no bits, and is the table's last
    only = (magnitude == code.lengths.size - 1) & (not code.lengths.any())
    known = only | (padded[magnitude] > 0)
    return PrefixCode(signed.words, np.where(known, signed.lengths, 0))


def _runs(
    flat: np.ndarray, runs: PrefixCode, values: PrefixCode, zero: int
) -> _Strings:
    """A string for each code that is not zero: the run before it, and itself.

    And one for a run of zeros that a chunk ends in.
    """
    where = np.flatnonzero(flat != zero)
    chunk = where // CHUNK
    before = np.concatenate([[-1], where[:-1]])[: where.size]
    run = where - np.maximum(before, chunk * CHUNK - 1)  # and 1 more than zeros
    codes = flat[where]
    lengths = values.lengths[codes]
    words = (runs.words[run] << lengths.astype(np.uint64)) | values.words[codes]
    lengths = lengths + runs.lengths[run]
    # a run at the end goes one place beyond the chunk, where nothing follows
    all_chunks = np.arange(-(-flat.size // CHUNK))
    ends = np.minimum((all_chunks + 1) * CHUNK, flat.size)
    after = np.searchsorted(where, ends)
    last = np.concatenate([[-1], where])[after]
    rest = ends - np.maximum(last, all_chunks * CHUNK - 1)
    some = rest > 1
    last_lengths = np.where(some, runs.lengths[rest], 0)
    bits = np.bincount(chunk, lengths, minlength=ends.size).astype(np.int64)
    return _Strings(
        np.insert(words, after[some], runs.words[rest[some]]),
        np.insert(lengths, after[some], last_lengths[some]),
        bits + last_lengths,
    )


@functools.lru_cache(maxsize=8)
def _of_runs(by: str, zero: int, width: int) -> Reader:
    """What reads runs and codes: the same for all streams."""
    values = _code(by, zero, np.zeros(0, np.int64))
    return Reader(values, width, ELIAS[by](CHUNK + 1), zero)


def decode(stream: Any) -> np.ndarray:
    """The codes of a stream, uint8 of their shape.

    Args:
        stream: bytes from `encode`.

    Raises:
        ValueError: if it is damaged, cut off, or no such stream. Every change of one
            bit is found.

    Example:
        >>> import qgenx_jax as qgenx
        >>> stream = qgenx.entropy.encode([[0, 1], [2, 0]], by="elias_omega")
        >>> qgenx.entropy.decode(stream)
        array([[0, 1],
               [2, 0]], dtype=uint8)
    """
    if not isinstance(stream, (bytes, bytearray, memoryview)):
        found = _checks.Text(type(stream).__name__)
        raise _checks.refuse("stream", "must be bytes", found, "pass what encode gave")
    data = bytes(stream)
    if data[:4] != MAGIC:
        raise _damaged("must begin as encode makes it", f"{data[:4]!r}")
    if int.from_bytes(data[-4:], "little") != zlib.crc32(data[:-4]):
        raise _damaged("must have the checksum that it ends in", f"{len(data)} bytes")
    try:
        return _decode(data[4:-4])
    except (IndexError, OverflowError, MemoryError):  # of a stream made by hand
        raise _damaged("must have a header", f"{len(data)} bytes") from None


def _damaged(rule: str, found: str) -> ValueError:
    way_out = "it is damaged, cut off, or something else: read it again"
    return _checks.refuse("stream", rule, _checks.Text(found), way_out)


def _decode(data: bytes) -> np.ndarray:
    place = 0

    def take(count: int, dtype: str) -> np.ndarray:
        nonlocal place
        start, place = place, place + count * np.dtype(dtype).itemsize
        if place > len(data):
            raise _damaged("must be as long as its header says", f"{len(data)} bytes")
        return np.frombuffer(data, dtype, count, start)

    method, zero = int(take(1, "u1")[0]), int(take(1, "<u2")[0])
    shape = tuple(map(int, take(int(take(1, "u1")[0]), "<u8")))
    table = take(int(take(1, "<u2")[0]), "u1").astype(np.int64)
    if method >= len(METHODS) or (zero > 255 and zero != NONE) or (table > 56).any():
        raise _damaged("must have a method and a table", f"method {method}")
    by, size = METHODS[method], math.prod(shape)
    at = None if zero == NONE else zero
    bits = take(-(-size // CHUNK), "<u2").astype(np.int64)
    body = take(-(-int(bits.sum()) // 8), "u1")
    if place != len(data):
        raise _damaged("must be as long as its header says", f"{len(data)} bytes")
    if not size:
        return np.zeros(shape, np.uint8)
    begins = np.cumsum(bits) - bits
    code = _code(by, at, table)
    width = 12 if size < 2**16 else 16
    if by in ELIAS and at is not None:
        found = bitstream.read(_of_runs(by, at, width), body, begins, size, CHUNK)
    elif code.lengths.any():
        found = bitstream.read(Reader(code, width), body, begins, size, CHUNK)
    else:  # one symbol, of no bits
        found = np.full(size, max(table.size - 1, 0) if at is None else at, np.uint8)
    return found.reshape(shape)
