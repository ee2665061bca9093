"""Dense packing: codes of b bits to bytes and back, 3 bits costing 3 bits; floats too.

A code is cut into parts of 8, 4, 2 or 1 bits, lowest first: 3 = 2 + 1, 7 = 4 + 2 + 1.
The parts of w bits of a row are packed on their own, one after the other, and in a
planar layout: the row, padded with zeros, is cut into 8 / w runs of neighbours, and
byte i takes the i-th code of every run. Codes that share a byte are thus a run apart,
so that packing and unpacking are shifts of whole contiguous runs: no shuffle inside a
vector register.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax._types import Array


def runs_of(bits: int) -> int:
    """How many runs a row is cut into so that every part's runs are whole ones."""
    return math.lcm(8, bits) // bits


def pieces_of(bits: int) -> int:
    """Into how many pieces a row is cut to be packed: two, where one run is enough."""
    return max(2, runs_of(bits))


def packed_size(size: int, bits: int) -> int:
    """Bytes that `size` codes of `bits` bits take: size * bits / 8, whole groups."""
    runs = runs_of(bits)
    return -(-size // runs) * runs * bits // 8


def is_one_part(bits: int) -> bool:
    """Whether a code goes to one byte as a whole, so that it is read once."""
    return len(_parts(bits)) == 1


def _parts(bits: int) -> list[tuple[int, int]]:
    """(lowest bit, width) of each part."""
    found, low = [], 0
    for width in (8, 4, 2, 1):
        if bits & width:
            found.append((low, width))
            low += width
    return found


def pack(pieces: Sequence[Array], bits: int) -> Array:
    """Packs a row of codes that comes in pieces.

    Args:
        pieces: uint8 of shape (..., m), each below 2**bits: the `pieces_of(bits)` ones
            of a row, of equal length.
        bits: 1 to 8.

    Returns:
        uint8 of shape (..., packed_size(m len(pieces), bits)).
    """
    return jnp.concatenate(planes_of(pieces, bits), axis=-1)


def planes_of(pieces: Sequence[Array], bits: int) -> list[Array]:
    """What `pack` puts one after the other, each of a piece's length."""
    planes = []
    for low, width in _parts(bits):
        runs, mask = 8 // width, 2**width - 1
        for start in range(len(pieces) // runs):
            plane = None
            for run in range(runs):
                code = pieces[run * (len(pieces) // runs) + start]
                if width != bits:
                    code = (code >> low) & mask
                code = code << (run * width) if run else code
                plane = code if plane is None else plane | code
            planes.append(plane)
    return planes


def unpack(packed: Array, bits: int) -> Array:
    """Inverse of `pack`, run by run.

    The shifts differ from run to run, along an axis of their own: one loop over
    contiguous bytes for each, and no runs put together afterwards.

    Args:
        packed: uint8 of shape (..., bytes).
        bits: 1 to 8.

    Returns:
        int32 of shape (..., runs, m), runs = `runs_of(bits)`: the row, cut in order.
    """
    rows, runs = packed.shape[:-1], runs_of(bits)
    length = packed.shape[-1] * 8 // bits // runs
    codes, start = None, 0
    for low, width in _parts(bits):
        own = 8 // width  # runs of this part, each `runs / own` of those asked for
        end = start + length * runs // own
        data = packed[..., start:end].astype(jnp.int32)
        data = data.reshape(*rows, 1, runs // own, length)
        if own > 1:
            shape = (*(1 for _ in rows), own, 1, 1)
            shifts = width * lax.broadcasted_iota(jnp.int32, shape, len(rows))
            data = (data >> shifts) & (2**width - 1)
        part = data.reshape(*rows, runs, length) << low
        codes = part if codes is None else codes | part
        start = end
    assert codes is not None
    return codes


def to_bytes(x: Array) -> Array:
    """The bytes of an array, as a uint8 vector."""
    as_bytes = lax.bitcast_convert_type(x, jnp.uint8)
    return as_bytes.reshape(-1)


def from_bytes(buffer: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Inverse of `to_bytes` for an array of this shape and dtype."""
    bytes_each = (dtype.itemsize,) if dtype.itemsize > 1 else ()
    return lax.bitcast_convert_type(buffer.reshape(*shape, *bytes_each), dtype)


def words(data: Array, dtype: np.dtype) -> Array:
    """Floats from the last axis of bytes, lowest byte first: (..., n / itemsize).

    Added up from bytes, which XLA does once; a bitcast from bytes it would fuse into
    the loops that use the floats, and do again for each use.
    """
    size = np.dtype(dtype).itemsize
    word = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[size]
    parts = data.reshape(*data.shape[:-1], -1, size).astype(word)
    shifted = parts << (8 * lax.broadcasted_iota(word, parts.shape, parts.ndim - 1))
    return lax.bitcast_convert_type(jnp.sum(shifted, axis=-1, dtype=word), dtype)
