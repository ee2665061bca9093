"""Full buckets to records in one kernel, which reads the vector once.

XLA on GPUs compiles an encoder to a reduction and a loop, which both read the vector.
Here one program of the grid has one bucket in registers: it measures it, draws bits,
rounds, packs and stores the record. The arithmetic is that of `_rounding` and
`_random`, so that the bytes are the same. Pallas's Triton backend knows neither slices
nor sizes that are not powers of two: a bucket is loaded in the pieces that `_packing`
packs. They have two dimensions, the first 1, from load to store: to reshape them goes
through shared memory.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _packing, _random, _rounding
from qgenx_jax._types import Array

SHORTEST, LONGEST = 256, 2**14
"""Bucket sizes: from one coordinate of each piece for every thread of a warp."""
COORDINATES = 1024
"""Of a bucket, for each warp: 32 for each thread."""
OLDEST = 8.0
"""The compute capability, of NVIDIA's A100, that Triton asks for."""


class Kernel(NamedTuple):
    """One compiled encoder of full buckets.

    Attributes:
        codec: of the quantizer.
        bits: per coordinate, 1, 2, 4 or 8.
        rows: number of buckets.
        length: coordinates of each.
        meta: numbers that a bucket's coordinates share, float32.
    """

    codec: Any
    bits: int
    rows: int
    length: int
    meta: int

    @property
    def packed(self) -> int:
        """Bytes of a bucket's codes."""
        return _packing.packed_size(self.length, self.bits)

    @property
    def record(self) -> int:
        """Bytes of a record."""
        return self.packed + 4 * self.meta

    def __call__(self, flat: Array, key: Array, interpret: bool = False) -> Array:
        """Records of the buckets that a vector begins with.

        Args:
            flat: of float32 or narrower, of shape (rows * length or more,).
            key: a typed PRNG key.
            interpret: whether to run it as plain JAX, on any platform.

        Returns:
            uint8 of shape (rows, bytes of a record).
        """
        from jax.experimental import pallas as pl  # may not be installed

        # nothing flows back through bytes, and pallas_call is not asked
        flat = lax.stop_gradient(flat)
        piece = self.length // _packing.pieces_of(self.bits)

        def program(words: Any, bucket: Any, record: Any) -> None:
            pieces = [
                bucket[row_of(start, piece)].astype(jnp.float32)
                for start in range(0, self.length, piece)
            ]
            self.write(pieces, words, record)

        block = pl.BlockSpec((self.length,), lambda row: (row,))
        return self.launch(program, flat, block, key, interpret, "encode")

    def launch(
        self,
        program: Callable[[Any, Any, Any], None],
        data: Array,
        block: Any,
        key: Array,
        interpret: bool,
        name: str,
    ) -> Array:
        """Runs a program for each bucket, which is to `write` its record.

        Args:
            program: of references to words of a key, to a block of data, to a record.
            data: what is read.
            block: BlockSpec of what of it a program reads.
            key: a typed PRNG key.
            interpret: as above.
            name: of the kernel.

        Returns:
            As above.
        """
        from jax.experimental import pallas as pl
        from jax.experimental.pallas import triton

        words = jax.random.bits(key, (2,), jnp.uint32)
        call = pl.pallas_call(
            program,
            _like(data, words, self.rows * self.record),
            grid=(self.rows,),
            in_specs=[pl.BlockSpec((2,), lambda row: (0,)), block],
            out_specs=pl.BlockSpec((self.record,), lambda row: (row,)),
            compiler_params=triton.CompilerParams(
                num_warps=max(1, self.length // COORDINATES)
            ),
            interpret=interpret,
            name=name,
        )
        return call(words, data).reshape(self.rows, self.record)

    def write(self, pieces: Sequence[Array], words: Any, record: Any) -> None:
        """Encodes the bucket of this program of the grid.

        Args:
            pieces: of the bucket, float32 (1, n), as many as `_packing.pieces_of` or
                twice, four or eight times as many.
            words: two of a key, a reference.
            record: where to, a reference.
        """
        from jax.experimental import pallas as pl

        half, piece = self.length // 2, self.length // len(pieces)
        grid, meta = self.codec.measure(*pieces)
        key: Any = (words[0], words[1])
        offset: Any = pl.program_id(0).astype(jnp.uint32) * jnp.uint32(half)
        bits = _random.Bits(key, None, 1, half, offset)
        codes = [
            self.codec.round(x, grid, bits.piece(i * piece, piece), nearest)
            for i, x in enumerate(pieces)
        ]
        for i, plane in enumerate(_packing.planes_of(codes, self.bits)):
            record[row_of(i * piece, piece)] = plane
        index, shared = bytes_of(meta)
        record[self.packed + index] = shared


def kernel_for(
    codec: _rounding.Codec,
    bits: int,
    source: str,
    meta: int,
    wide: np.dtype,
    buckets: Sequence[tuple[int, int]],
) -> Kernel | None:
    """The kernel for a vector's full buckets, or None where there is none.

    Args:
        codec: of the quantizer.
        bits: per coordinate.
        source: of the random bits.
        meta: numbers that a bucket's coordinates share.
        wide: dtype of arithmetic.
        buckets: (rows, length) of the full buckets, then of the short one.
    """
    if not buckets or source != "counter" or wide != np.float32:
        return None
    # norms 1 and 2 are sums, whose order would have to be XLA's
    exact = isinstance(codec, _rounding.MinMax) or (
        isinstance(codec, (_rounding.Uniform, _rounding.Sign))
        and codec.norm == math.inf
    )
    rows, length = buckets[0]
    fits = SHORTEST <= length <= LONGEST and length & (length - 1) == 0
    fits &= rows * (length + 4 * meta) < 2**31  # places are int32
    if not exact or bits not in (1, 2, 4, 8) or not fits:
        return None
    return Kernel(codec, bits, rows, length, meta)


def where_compiled(
    kernel: Callable[[Array, Array], Array] | None,
    encode: Callable[..., list[Array]],
    default: Callable[..., list[Array]],
    data: Array,
    key: Array,
) -> list[Array]:
    """Encodes by the kernel on NVIDIA's GPUs, if it can be compiled; else by default.

    Args:
        kernel: of data and key, to the full buckets' records; None for none.
        encode: of data, key and the full buckets' records.
        default: of data and key.
        data: what is encoded.
        key: of the random bits.
    """
    if kernel is None or not _can_compile():
        return default(data, key)

    def by_kernel(data: Array, key: Array) -> list[Array]:
        return encode(data, key, kernel(data, key))

    return lax.platform_dependent(data, key, cuda=by_kernel, default=default)


def _can_compile() -> bool:
    """Whether Pallas is there, and no GPU is too old for it."""
    try:
        from jax.experimental.pallas import triton  # noqa: F401
    except ImportError:
        return False
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:  # none here: compiled, if at all, for GPUs elsewhere
        return True
    return all(float(x.compute_capability) >= OLDEST for x in devices)


def nearest(x: Array) -> Array:
    """To the nearest whole number, ties to even, float32 |x| < 2^22; for Triton.

    Which has no `jnp.round`. Added to 2^23, |x| loses its fraction. |x| and not x,
    which is a product: as an operand of an addition it would be fused with that, and
    not be rounded first. The bits that are set are set: without this step XLA, which
    interprets the kernel, takes (a + b) - b for a.
    """
    magic = np.asarray(2.0**23, np.float32)
    bits = lax.bitcast_convert_type(jnp.abs(x) + magic, jnp.int32)
    bits |= magic.view(np.int32)
    magnitude = lax.bitcast_convert_type(bits, jnp.float32) - magic
    return jnp.where(x < 0, -magnitude, magnitude)


def row_of(start: int, length: int) -> Array:
    """Indices (1, length) of neighbours."""
    return start + lax.broadcasted_iota(jnp.int32, (1, length), 1)


def bytes_of(meta: Array) -> tuple[Array, Array]:
    """Places and bytes, lowest first, of float32 (1, m): int32 and uint8 (1, m, 4)."""
    words = lax.bitcast_convert_type(meta, jnp.int32)[..., None]
    shape = (1, meta.shape[1], 4)
    byte = lax.broadcasted_iota(jnp.int32, shape, 2)
    place = 4 * lax.broadcasted_iota(jnp.int32, shape, 1) + byte
    return place, ((words >> (8 * byte)) & 255).astype(jnp.uint8)


def _like(data: Array, words: Array, size: int) -> Any:
    """uint8 (size,), varying over those axes of shard_map that an argument does."""

    def either(data: Array, words: Array) -> Array:
        first = data.reshape(-1)[:1].astype(jnp.uint8) + words[:1].astype(jnp.uint8)
        return jnp.broadcast_to(first, (size,))

    return jax.eval_shape(either, data, words)
